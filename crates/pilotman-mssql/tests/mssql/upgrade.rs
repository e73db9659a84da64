//! Upgradeable reads: alone in their session, upgraded there, and given up there.

use std::time::{Duration, Instant};

use pilotman_core::{LossReason, Release};
use pilotman_testkit_mssql::{Fault, LockRow, Mode};

use crate::common::{heartbeat, locks, locks_of, nothing_left, options, server, soon, until};

#[tokio::test]
async fn an_upgradeable_read_is_alone_in_its_session() {
    let server = server();
    let locks = locks(&server);
    let mutex = locks.mutex("m").acquire().await.unwrap();
    let upgradeable = locks.rw_lock("r").upgradeable_read().await.unwrap();
    let other = locks.mutex("n").acquire().await.unwrap();
    let rows = server.locks();
    let alone = rows.iter().find(|row| row.mode == Mode::Update).unwrap();
    assert_eq!(rows.iter().filter(|row| row.session == alone.session).count(), 1, "{rows:?}");
    for guard in [mutex, other] {
        guard.release().await.unwrap();
    }
    upgradeable.release().await.unwrap();
    nothing_left(&server).await;
}

/// A dropped upgrade ends its wait at the server, and the hold is what it was.
#[tokio::test]
async fn a_dropped_upgrade_leaves_an_upgradeable_read() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    let reader = other.rw_lock("r").read().await.unwrap();
    let mut upgradeable = one.rw_lock("r").upgradeable_read().await.unwrap();
    for _ in 0..5 {
        {
            let mut upgrade = std::pin::pin!(upgradeable.upgrade());
            tokio::select! {
                _ = &mut upgrade => panic!("a reader is there"),
                () = until("it waits", || server.locks().iter().any(|row| !row.granted)) => {}
            }
        }
        until("its wait is ended", || server.locks().iter().all(|row| row.granted)).await;
        assert!(server.locks().iter().any(|row| row.mode == Mode::Update), "{:?}", server.locks());
        upgradeable.ensure_held().unwrap();
        other.rw_lock("r").read().await.unwrap().release().await.unwrap();
    }
    reader.release().await.unwrap();
    soon("it is upgraded", upgradeable.upgrade()).await.unwrap();
    assert!(other.rw_lock("r").try_read().await.unwrap().is_none());
    upgradeable.release().await.unwrap();
    nothing_left(&server).await;
}

/// The reader leaves at the moment at which the upgrade is given up: whichever comes first, the hold is never lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_up_upgrade_that_crosses_its_grant() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    server.fault_attention(Fault::CutAfter(0));
    let mut upgraded = [0, 0];
    for step in 0..40 {
        let reader = other.rw_lock("r").read().await.unwrap();
        let mut upgradeable = one.rw_lock("r").upgradeable_read().await.unwrap();
        let session = server.locks().into_iter().find(|row| row.mode == Mode::Update).unwrap().session;
        let (tried, left) = tokio::join!(upgradeable.try_upgrade_for(Duration::from_millis(40)), async {
            tokio::time::sleep(Duration::from_millis(20 + step)).await;
            reader.release().await
        });
        left.unwrap();
        let is_upgraded = tried.unwrap();
        upgraded[usize::from(is_upgraded)] += 1;
        upgradeable.ensure_held().unwrap();
        let rows: Vec<_> = server.locks().into_iter().filter(|row| row.granted && row.session == session).collect();
        let is_held = |row: &LockRow| match is_upgraded {
            true => row.mode == Mode::Exclusive,
            false => matches!(row.mode, Mode::Update | Mode::Exclusive),
        };
        assert!(rows.iter().any(is_held), "{is_upgraded}: {rows:?}");
        if !is_upgraded {
            // It can be upgraded still, also where it was at the server.
            soon("it is upgraded", upgradeable.upgrade()).await.unwrap();
            assert!(other.rw_lock("r").try_read().await.unwrap().is_none());
        }
        assert_eq!(upgradeable.release().await.unwrap(), Release::Released);
        until("all of it is released", || server.locks().is_empty()).await;
    }
    println!("not upgraded and upgraded: {upgraded:?}");
    assert_eq!(server.pending_faults(), 1, "nothing had to be cancelled");
    server.clear_faults();
    nothing_left(&server).await;
}

/// The hold is told of a server that hangs, also while its upgrade waits there.
#[tokio::test]
async fn a_server_that_hangs_during_an_upgrade() {
    let server = server();
    let beat = Duration::from_secs(2);
    let (one, other) = (locks_of(options(&server).sessions(heartbeat(beat))), locks(&server));
    let reader = other.rw_lock("r").read().await.unwrap();
    let mut upgradeable = one.rw_lock("r").upgradeable_read().await.unwrap();
    let upgraded = async {
        let (upgraded, frozen) = tokio::join!(upgradeable.upgrade(), async {
            until("it waits", || server.locks().iter().any(|row| !row.granted)).await;
            server.freeze();
            Instant::now()
        });
        (upgraded, frozen.elapsed())
    };
    let (upgraded, told) = soon("it is told", upgraded).await;
    let error = upgraded.unwrap_err();
    assert_eq!(error.loss(), Some(&LossReason::SessionEnded), "{error}");
    assert!(told >= beat / 2 && told < 10 * beat, "{told:?}");
    assert_eq!(soon("the loss is told", upgradeable.lost()).await, LossReason::SessionEnded);
    server.thaw();
    drop((upgradeable, reader));
    nothing_left(&server).await;
}

/// Released while its upgrade is still being ended.
#[tokio::test]
async fn a_release_in_the_middle_of_an_upgrade() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    let reader = other.rw_lock("r").read().await.unwrap();
    for _ in 0..5 {
        let mut upgradeable = one.rw_lock("r").upgradeable_read().await.unwrap();
        assert!(!upgradeable.try_upgrade_for(Duration::from_millis(20)).await.unwrap());
        upgradeable.release().await.unwrap();
        until("only the reader is left", || server.locks().len() == 1).await;
    }
    reader.release().await.unwrap();
    nothing_left(&server).await;
}

#[tokio::test]
async fn a_killed_session_ends_an_upgrade() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    let reader = other.rw_lock("r").read().await.unwrap();
    let mut upgradeable = one.rw_lock("r").upgradeable_read().await.unwrap();
    let session = server.locks().into_iter().find(|row| row.mode == Mode::Update).unwrap().session;
    let upgraded = async {
        let (upgraded, ()) = tokio::join!(upgradeable.upgrade(), async {
            until("it waits", || server.locks().iter().any(|row| !row.granted)).await;
            server.kill(session);
        });
        upgraded
    };
    let error = soon("it ends", upgraded).await.unwrap_err();
    assert_eq!(error.loss(), Some(&LossReason::SessionEnded), "{error}");
    drop(upgradeable);
    reader.release().await.unwrap();
    nothing_left(&server).await;
}

/// Where the .NET library has them: with its mutexes.
#[tokio::test]
async fn reader_writer_locks_of_dotnet() {
    let server = server();
    let dotnet = locks_of(options(&server).dotnet_rw(true));
    let read = dotnet.rw_lock("m").read().await.unwrap();
    assert_eq!(server.locks()[0].resource, "m");
    assert!(dotnet.mutex("m").try_acquire().await.unwrap().is_none());
    read.release().await.unwrap();
    let mutex = dotnet.mutex("m").acquire().await.unwrap();
    assert!(dotnet.rw_lock("m").try_write().await.unwrap().is_none(), "also of the same program");
    mutex.release().await.unwrap();
    nothing_left(&server).await;
}
