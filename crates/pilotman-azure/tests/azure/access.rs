//! By which right, and what the doctor finds.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilotman_azure::azure_core::Result;
use pilotman_azure::azure_core::base64::encode_url_safe;
use pilotman_azure::azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use pilotman_azure::azure_core::time::OffsetDateTime;
use pilotman_azure::azure_storage_blob::BlobServiceClient;
use pilotman_azure::azure_storage_blob::models::{BlobServiceProperties, RetentionPolicy};
use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_core::backend::{Finding, Severity};
use pilotman_core::{ErrorKind, HoldState, Release};
use pilotman_testkit::servers::azurite::{ACCOUNT, Azurite, KEY, Mode};

use crate::common::{azurite, keyed, locks_of, new_container, options, signed, unique};
use crate::shared::account_sas;

#[tokio::test]
async fn connection_strings() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "strings").await;
    let sas = account_sas("rwdl", Duration::from_secs(3600));
    let keyed =
        format!("DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};");
    for text in [keyed, format!("BlobEndpoint={endpoint};SharedAccessSignature={sas}")] {
        let locks = locks_of(AzureBlob::connection_string(&text, &name).unwrap());
        locks.mutex("a").acquire().await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_that_brings_its_sas() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "brings").await;
    let sas = account_sas("rwdl", Duration::from_secs(3600));
    let locks = locks_of(AzureBlob::endpoint(&format!("{endpoint}?{sas}"), &name).unwrap());
    locks.mutex("a").acquire().await.unwrap().release().await.unwrap();
}

/// Says what a token of Entra ID says, and nobody has signed it.
#[derive(Debug)]
struct Unsigned;

#[async_trait::async_trait]
impl TokenCredential for Unsigned {
    async fn get_token(&self, scopes: &[&str], _options: Option<TokenRequestOptions<'_>>) -> Result<AccessToken> {
        assert_eq!(scopes, ["https://storage.azure.com/.default"]);
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let part = |json: String| encode_url_safe(json).trim_end_matches('=').to_owned();
        let header = part(r#"{"alg":"RS256","typ":"JWT"}"#.to_owned());
        let claims = part(format!(
            r#"{{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/","iat":{},"nbf":{},"exp":{}}}"#,
            now - 60,
            now - 60,
            now + 3600
        ));
        let end = OffsetDateTime::from_unix_timestamp(now + 3600).unwrap();
        Ok(AccessToken::new(format!("{header}.{claims}.{}", part("x".to_owned())), end))
    }
}

#[tokio::test]
async fn tokens_over_tls() {
    let server = Azurite::start(Mode::Tokens).unwrap();
    let ca = std::fs::read(server.certificates().unwrap().ca).unwrap();
    let azure = || AzureBlob::endpoint(&server.endpoint(), "locks").unwrap().credential(Arc::new(Unsigned));
    let locks = locks_of(azure().ca(&ca).create_container(true));
    let guard = locks.mutex("a").acquire().await.unwrap();
    assert!(locks.mutex("a").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();

    // A container that is there, and a token that is got beforehand.
    locks_of(azure().ca(&ca)).mutex("a").acquire().await.unwrap().release().await.unwrap();

    let error = locks_of(azure().connect_timeout(Duration::from_secs(5))).mutex("a").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("certificate") && error.to_string().contains("ca-file"), "{error}");
}

/// Gives one good token, of less than five minutes, and hangs whenever it is asked again.
#[derive(Debug, Default)]
struct Once(AtomicUsize);

#[async_trait::async_trait]
impl TokenCredential for Once {
    async fn get_token(&self, scopes: &[&str], options: Option<TokenRequestOptions<'_>>) -> Result<AccessToken> {
        if self.0.fetch_add(1, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        let mut token = Unsigned.get_token(scopes, options).await?;
        token.expires_on = OffsetDateTime::now_utc() + Duration::from_secs(240);
        Ok(token)
    }
}

#[tokio::test]
async fn a_token_that_is_slow_to_be_renewed_costs_no_hold() {
    let server = Azurite::start(Mode::Tokens).unwrap();
    let ca = std::fs::read(server.certificates().unwrap().ca).unwrap();
    let credential = Arc::new(Once::default());
    let azure = AzureBlob::endpoint(&server.endpoint(), "locks").unwrap().credential(credential.clone()).ca(&ca);
    let locks = locks_of(azure.create_container(true).lease(AzureBackend::SHORTEST_LEASE).unwrap());
    let guard = locks.mutex("a").acquire().await.unwrap();
    let start = Instant::now();
    // Longer than the lease, all the time with a token that should be renewed and is not.
    while start.elapsed() < AzureBackend::SHORTEST_LEASE + Duration::from_secs(3) {
        assert_ne!(guard.state(), HoldState::Lost, "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(credential.0.load(Ordering::SeqCst) > 1, "it was asked again");
    assert!(guard.renewals() >= 2, "{}", guard.renewals());
    locks.mutex("b").acquire().await.unwrap().release().await.unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn who_may_not_make_the_container_uses_the_one_that_is_there() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "there").await;
    let locks = locks_of(signed(&endpoint, &name, "rwd").create_container(true));
    locks.mutex("a").acquire().await.unwrap().release().await.unwrap();
}

fn finding<'a>(findings: &'a [Finding], about: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.about == about).unwrap_or_else(|| panic!("{about}: {findings:?}"))
}

#[tokio::test]
async fn the_doctor_looks_and_changes_nothing() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "doctor").await;
    let found = locks_of(keyed(&endpoint, &name)).diagnose().await.unwrap();
    for about in ["use", "clock", "immutability", "soft delete", "rights", "list", "lease"] {
        assert_eq!(finding(&found, about).severity, Severity::Fine, "{}", finding(&found, about));
    }
    assert_eq!(finding(&found, "transport").severity, Severity::Warning);
    let found = locks_of(signed(&endpoint, &name, "rw")).diagnose().await.unwrap();
    assert_eq!(finding(&found, "sas").severity, Severity::Warning, "it ends within a week");
    assert_eq!(finding(&found, "rights").severity, Severity::Warning, "{}", finding(&found, "rights"));
    let found = locks_of(signed(&endpoint, &name, "r").infinite_lease()).diagnose().await.unwrap();
    assert!(
        found.iter().any(|finding| finding.about == "rights" && finding.severity == Severity::Problem),
        "{found:?}"
    );
    assert_eq!(finding(&found, "list").severity, Severity::Note);
    assert_eq!(finding(&found, "lease").severity, Severity::Warning);
    assert!(locks_of(keyed(&endpoint, &name)).list().await.unwrap().is_empty());
    assert!(container.exists().await.unwrap());
    let error = locks_of(keyed(&endpoint, &unique("none"))).diagnose().await.unwrap_err();
    assert!(error.to_string().contains("create-container"), "{error}");
}

#[tokio::test]
async fn the_doctor_finds_soft_delete() {
    let server = Azurite::start(Mode::Plain).unwrap();
    let mut url = pilotman_azure::azure_core::http::Url::parse(&server.endpoint()).unwrap();
    url.set_query(Some(&account_sas("rwdlac", Duration::from_secs(3600))));
    let service = BlobServiceClient::new(url, None, None).unwrap();
    let properties = BlobServiceProperties {
        delete_retention_policy: Some(RetentionPolicy { enabled: Some(true), days: Some(7), ..Default::default() }),
        ..Default::default()
    };
    service.set_properties(properties.try_into().unwrap(), None).await.unwrap();
    let found = locks_of(options(&server.endpoint(), "locks")).diagnose().await.unwrap();
    let soft = finding(&found, "soft delete");
    assert!(soft.severity == Severity::Warning && soft.to_string().contains("7 days"), "{soft}");
    let found = locks_of(options(&server.endpoint(), "locks").keep_blobs(true)).diagnose().await.unwrap();
    assert_eq!(finding(&found, "soft delete").severity, Severity::Fine);
}

/// Everything that is logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "logged").await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Each test is a process of its own where secrets would show.
    tracing::subscriber::set_global_default(subscriber).expect("it is the only one");
    let sas = account_sas("rwdl", Duration::from_secs(3600));
    let signature = sas.split("sig=").nth(1).unwrap().to_owned();
    let decoded = signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    let by_sas = || AzureBlob::endpoint(&endpoint, &name).unwrap().sas(&sas).unwrap();
    for azure in [keyed(&endpoint, &name), by_sas()] {
        let locks = locks_of(azure);
        locks.mutex("a").fenced().unwrap().acquire().await.unwrap().release().await.unwrap();
        locks.list().await.unwrap();
        locks.diagnose().await.unwrap();
        locks.close().await;
    }
    // What fails is told more about.
    let gone = AzureBlob::endpoint("http://127.0.0.1:1/locker", &name).unwrap().sas(&sas).unwrap();
    locks_of(gone).mutex("a").acquire().await.unwrap_err();
    let wrong = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==";
    let wrong_key = AzureBlob::endpoint(&endpoint, &name).unwrap().account_key(wrong).unwrap();
    locks_of(wrong_key).mutex("a").acquire().await.unwrap_err();
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("azure") && text.len() > 1000, "something is logged: {}", text.len());
    for secret in [&signature, &decoded, KEY, wrong, "SharedKey locker:"] {
        let at = text.find(secret);
        let around = at.map(|at| text[at.saturating_sub(200)..at].to_owned());
        assert!(at.is_none(), "a secret is logged after: {around:?}");
    }
}
