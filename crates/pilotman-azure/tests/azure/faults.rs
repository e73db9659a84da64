//! A service that hangs, ends, is busy or answers too late.

use std::time::{Duration, Instant};

use pilotman_azure::azure_core::http::Url;
use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_core::{ErrorKind, HoldState, LossReason, Release};
use pilotman_testkit::proxy::{Cut, Proxy};
use pilotman_testkit::servers::azurite::{Azurite, Mode};

use crate::common::{azurite, becomes, keyed, locks, locks_of, new_container, options, soon};
use crate::front::{Front, refusal};
use crate::shared::account_sas;

pub(crate) fn port_of(endpoint: &str) -> u16 {
    Url::parse(endpoint).unwrap().port().unwrap()
}

pub(crate) fn proxy_before(endpoint: &str) -> Proxy {
    Proxy::before(port_of(endpoint)).unwrap()
}

/// The same by another port.
fn by_port(endpoint: &str, port: u16) -> String {
    endpoint.replace(&format!(":{}/", port_of(endpoint)), &format!(":{port}/"))
}

#[tokio::test]
async fn a_frozen_service_holds_nobody_up() {
    let mut server = Azurite::start(Mode::Plain).unwrap();
    let endpoint = server.endpoint();
    let one = locks_of(options(&endpoint, "locks").lease(AzureBackend::SHORTEST_LEASE).unwrap());
    let endless = locks_of(options(&endpoint, "locks").infinite_lease());
    endless.check().await.unwrap();
    let guard = one.mutex("m").acquire().await.unwrap();
    server.freeze().unwrap();
    let start = Instant::now();
    let error = one.mutex("n").acquire_timeout(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Unavailable), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // What reaches the service, and is answered when nobody waits any longer, would be held for ever.
    let _ = endless.mutex("o").acquire_timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::Expired);
    assert!(start.elapsed() < Duration::from_secs(25), "told after {:?}", start.elapsed());
    let released = soon("a release ends", guard.release()).await.unwrap();
    assert!(matches!(released, Release::AlreadyLost(LossReason::Expired)));
    server.thaw().unwrap();
    let again = locks(&endpoint, "locks");
    for name in ["m", "n", "o"] {
        // It may have much to catch up with.
        becomes("it is free again", async || match again.mutex(name).acquire().await {
            Ok(guard) => guard.release().await.is_ok(),
            Err(error) => panic_unless_retryable(&error),
        })
        .await;
    }
    soon("a close ends", one.close()).await;
    soon("a close ends", endless.close()).await;
}

#[tokio::test]
async fn a_frozen_service_hangs_no_close() {
    let mut server = Azurite::start(Mode::Plain).unwrap();
    let locks = locks(&server.endpoint(), "locks");
    let guard = locks.mutex("m").acquire().await.unwrap();
    server.freeze().unwrap();
    let start = Instant::now();
    let error = soon("a release ends", guard.release()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    soon("a close ends", locks.close()).await;
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_service_that_is_killed_and_comes_back_empty() {
    let mut server = Azurite::start(Mode::Plain).unwrap();
    let endpoint = server.endpoint();
    // Longer than the service may take to come back.
    let locks = locks_of(options(&endpoint, "locks").lease(AzureBackend::LONGEST_LEASE).unwrap());
    let guard = locks.mutex("m").acquire().await.unwrap();
    server.kill().unwrap();
    let error = locks.mutex("n").try_acquire().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    server.restart().unwrap();
    // Its container is gone as well, and is made again.
    let reason = soon("the loss is told", guard.lost()).await;
    assert_eq!(reason, LossReason::Gone);
    becomes("it is back", async || match locks.mutex("n").try_acquire().await {
        Ok(Some(guard)) => guard.release().await.is_ok(),
        Ok(None) => false,
        Err(error) => panic_unless_retryable(&error),
    })
    .await;
}

fn panic_unless_retryable(error: &pilotman_core::Error) -> bool {
    assert!(error.is_retryable(), "{error}");
    false
}

#[tokio::test]
async fn connections_that_are_cut_cost_nothing() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "cut").await;
    for cut in [Cut::Close, Cut::Reset] {
        let proxy = proxy_before(&endpoint);
        let locks = locks_of(keyed(&by_port(&endpoint, proxy.port()), &name));
        let guard = locks.mutex("a").acquire().await.unwrap();
        proxy.cut(cut);
        assert!(locks.mutex("a").try_acquire().await.unwrap().is_none());
        proxy.cut(cut);
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
}

#[tokio::test]
async fn lost_answers_are_asked_for_again() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "answers").await;
    for needle in ["x-ms-lease-action: acquire", "if-none-match: *", "DELETE /"] {
        let proxy = proxy_before(&endpoint);
        let locks = locks_of(keyed(&by_port(&endpoint, proxy.port()), &name));
        proxy.lose_reply(needle, 0);
        let guard = soon("it is had", locks.mutex("a").acquire()).await.unwrap();
        assert!(locks_of(keyed(&endpoint, &name)).mutex("a").try_acquire().await.unwrap().is_none());
        assert_eq!(guard.release().await.unwrap(), Release::Released, "{needle}");
        assert!(proxy.wait_lost_replies(1, Duration::from_secs(10)), "{needle}");
        assert!(!container.blob_client("a").exists().await.unwrap(), "{needle}");
    }
}

#[tokio::test]
async fn a_storm_of_503() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "storm").await;
    let front = Front::before(port_of(&endpoint)).await;
    let locks = locks_of(keyed(&by_port(&endpoint, front.port), &name).lease(AzureBackend::SHORTEST_LEASE).unwrap());
    let guard = locks.mutex("held").acquire().await.unwrap();
    front.say(refusal("503 Server Busy", "ServerBusy"));
    let (start, mut told) = (Instant::now(), false);
    for _ in 0..3 {
        let error = locks.mutex("other").acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable(), "{error}");
        told |= error.to_string().contains("ServerBusy");
    }
    assert!(told, "what the service said is in the error");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // One may have gone to the service just before.
    assert!(front.answered() >= 8, "each is tried three times: {}", front.answered());
    becomes("a renewal that failed is a risk", async || guard.state() == HoldState::AtRisk).await;
    front.pass();
    becomes("a good renewal ends the risk", async || guard.state() == HoldState::Held).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    locks.mutex("other").acquire().await.unwrap().release().await.unwrap();
    locks.close().await;
    for blob in ["held", "other"] {
        assert!(!container.blob_client(blob).exists().await.unwrap(), "nothing is left of {blob}");
    }
}

#[tokio::test]
async fn a_sas_that_ends_while_held() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "ends").await;
    let sas = account_sas("rwdl", Duration::from_secs(7));
    let signature = sas.split("sig=").nth(1).unwrap().to_owned();
    let azure = AzureBlob::endpoint(&endpoint, &name).unwrap().sas(sas).unwrap();
    let locks = locks_of(azure.lease(AzureBackend::SHORTEST_LEASE).unwrap());
    let guard = locks.mutex("a").acquire().await.unwrap();
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::Expired);
    assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired)));
    let error = locks.mutex("a").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("SAS") && !error.to_string().contains(&signature), "{error}");
    let other = locks_of(keyed(&endpoint, &name));
    soon("it ends with its lease", other.mutex("a").acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_release_that_is_refused_for_a_while_is_made_up_for() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "refused").await;
    let front = Front::before(port_of(&endpoint)).await;
    for (status, code) in [("403 Forbidden", "AuthorizationFailure"), ("401 Unauthorized", "InvalidAuthenticationInfo")]
    {
        let locks = locks_of(keyed(&by_port(&endpoint, front.port), &name).lease(AzureBackend::LONGEST_LEASE).unwrap());
        let guard = locks.mutex("a").acquire().await.unwrap();
        front.say(refusal(status, code));
        let error = guard.release().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.is_retryable() && error.to_string().contains(code), "{error}");
        let answered = front.answered();
        becomes("it is tried again", async || front.answered() > answered + 2).await;
        front.pass();
        // Long before the lease would have ended, and as if nothing had been: the blob goes as well.
        let start = Instant::now();
        becomes("it is given back", async || !container.blob_client("a").exists().await.unwrap()).await;
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        soon("a close ends", locks.close()).await;
    }
}
