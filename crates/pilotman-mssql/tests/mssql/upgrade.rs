//! Upgradeable reads: alone in their session, upgraded there, and given up there.

use std::time::Duration;

use pilotman_core::LossReason;
use pilotman_testkit_mssql::Mode;

use crate::common::{locks, locks_of, nothing_left, options, server, soon, until};

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
