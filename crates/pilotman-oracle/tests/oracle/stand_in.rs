//! The real driver in Rust over a socket, before a stand-in that speaks Oracle's protocol: kills, frozen servers, replies that are cut
//! and that stall.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilotman_core::{ErrorKind, Locks, LossReason};
use pilotman_oracle::{Oracle, OracleBackend};
use pilotman_testkit_oracle::{Fault, Privilege, Reply, StandIn};

use crate::common::{LONG, quick, soon, until};

fn locks(stand_in: &StandIn) -> Locks {
    let oracle = Oracle::new(format!("127.0.0.1:{}/STANDIN", stand_in.address().port())).unwrap();
    let oracle = oracle.user("pilotman").password("a-password").connect_timeout(Duration::from_secs(20));
    Locks::new(OracleBackend::new(quick(oracle)).unwrap())
}

fn is_held(stand_in: &StandIn, name: &str) -> bool {
    stand_in.locks().iter().any(|entry| entry.name.as_deref() == Some(name))
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_grant_are_told() {
    let stand_in = StandIn::start().unwrap();
    let address = format!("127.0.0.1:{}/STANDIN", stand_in.address().port());
    let wrong = Oracle::new(&address).unwrap().user("pilotman").password("hunter2").connect_timeout(LONG);
    let error = Locks::new(OracleBackend::new(wrong).unwrap()).mutex("m").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("ORA-01017") && !error.to_string().contains("hunter2"), "{error}");
    stand_in.deny(Privilege::DbmsLock);
    let error = locks(&stand_in).mutex("m").acquire().await.unwrap_err();
    assert!(error.to_string().contains("GRANT EXECUTE ON SYS.DBMS_LOCK TO pilotman"), "{error}");
}

/// Tokens are numbers of sixteen digits, which come through the driver as they are.
#[tokio::test]
async fn tokens_begin_at_the_time_and_increase_by_one() {
    let stand_in = StandIn::start().unwrap();
    let locks = locks(&stand_in);
    let mut tokens = Vec::new();
    for _ in 0..12 {
        let guard = locks.mutex("m").fenced().unwrap().acquire().await.unwrap();
        tokens.push(guard.token());
        guard.release().await.unwrap();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let apart = now.abs_diff(Duration::from_micros(tokens[0]));
    assert!(apart < Duration::from_secs(3600), "{tokens:?} began {apart:?} from {now:?}");
    assert!(tokens.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{tokens:?}");
}

#[tokio::test]
async fn a_killed_and_a_cut_session_are_told() {
    let stand_in = StandIn::start().unwrap();
    let locks = locks(&stand_in);
    for kill in [StandIn::kill as fn(&StandIn, _) -> bool, StandIn::disconnect] {
        let guard = locks.mutex("m").acquire().await.unwrap();
        let entry = stand_in.locks().into_iter().find(|entry| entry.name.as_deref() == Some("m")).unwrap();
        let start = Instant::now();
        assert!(kill(&stand_in, entry.sid));
        assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
        println!("told after {:?}", start.elapsed());
        until("the database has freed it", || !is_held(&stand_in, "m")).await;
    }
    soon("it closes", locks.close()).await;
}

#[tokio::test]
async fn a_frozen_server_is_told_and_hangs_nothing() {
    let stand_in = StandIn::start().unwrap();
    let locks = locks(&stand_in);
    let guard = locks.mutex("m").acquire().await.unwrap();
    stand_in.freeze();
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
    soon("it closes", locks.close()).await;
    stand_in.thaw();
    until("the session that was given up has ended", || stand_in.locks().is_empty()).await;
}

/// The reply to an attempt is cut, or stalls, at many places: what it was granted is never kept, and the next attempt works.
#[tokio::test]
async fn a_reply_that_does_not_come_leaves_nothing() {
    let stand_in = StandIn::start().unwrap();
    let locks = locks(&stand_in);
    locks.mutex("warm").acquire().await.unwrap().release().await.unwrap();
    for bytes in (0..60).step_by(3) {
        stand_in.inject(Reply::Execute, Fault::Cut(bytes));
        // Whether another session was tried in time is all the same.
        let guard = soon("it ends", locks.mutex("m").acquire()).await;
        drop(guard);
        until("nothing is held", || stand_in.locks().is_empty()).await;
    }
    for bytes in [0, 4, 11, 30] {
        stand_in.inject(Reply::Execute, Fault::Stall(bytes));
        let guard = tokio::time::timeout(Duration::from_secs(1), locks.mutex("m").acquire()).await;
        drop(guard);
        until("it stalls", || stand_in.stalled() > 0).await;
        // The session is given up after a heartbeat, and ends when the database goes on.
        tokio::time::sleep(Duration::from_secs(3)).await;
        stand_in.thaw();
        until("nothing is held", || stand_in.locks().is_empty()).await;
    }
    soon("it is free", locks.mutex("m").acquire()).await.unwrap().release().await.unwrap();
    assert_eq!(stand_in.misunderstandings(), Vec::<String>::new());
}

/// Passes on what client and stand-in say. Once it is armed, the next thing the stand-in says is replaced by a packet that is shorter
/// than its own head, over which the driver panics.
struct Relay {
    port: u16,
    armed: Arc<AtomicBool>,
    /// So many connections that had such an answer were closed by the client.
    closed: Arc<AtomicUsize>,
}

fn relay(to: SocketAddr) -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (armed, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let relay = Relay { port, armed: armed.clone(), closed: closed.clone() };
    // It ends with the process of this test.
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A stand-in that has ended takes no more.
            let Ok(server) = TcpStream::connect(to) else { return };
            let (armed, closed) = (armed.clone(), closed.clone());
            let struck = Arc::new(AtomicBool::new(false));
            let is_struck = struck.clone();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                // Whatever ended it, the client has gone.
                let _ = std::io::copy(&mut from_client, &mut to_server);
                closed.fetch_add(is_struck.load(Ordering::SeqCst).into(), Ordering::SeqCst);
                let _ = to_server.shutdown(Shutdown::Both);
            });
            let (mut from_server, mut to_client) = (server, client);
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(read @ 1..) = from_server.read(&mut buffer) {
                    let strikes = armed.swap(false, Ordering::SeqCst);
                    let said = if strikes { &[0, 0, 0, 5, 0] } else { &buffer[..read] };
                    struck.fetch_or(strikes, Ordering::SeqCst);
                    if to_client.write_all(said).is_err() {
                        return;
                    }
                }
            });
        }
    });
    relay
}

/// The connection over which the driver has panicked is closed: its socket does not stay behind.
#[tokio::test]
async fn an_answer_over_which_the_driver_panics_closes_the_connection() {
    let stand_in = StandIn::start().unwrap();
    let relay = relay(stand_in.address());
    let oracle = Oracle::new(format!("127.0.0.1:{}/STANDIN", relay.port)).unwrap();
    let oracle = oracle.user("pilotman").password("a-password").connect_timeout(Duration::from_secs(20));
    let locks = Locks::new(OracleBackend::new(quick(oracle)).unwrap());
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    for nth in 1..=3 {
        relay.armed.store(true, Ordering::SeqCst);
        // Another session has it in the end, or this attempt says why not.
        drop(soon("it ends", locks.mutex("m").acquire()).await);
        assert!(!relay.armed.load(Ordering::SeqCst), "it has had no such answer");
        until("the connection is closed", || relay.closed.load(Ordering::SeqCst) == nth).await;
        until("nothing is held", || stand_in.locks().is_empty()).await;
    }
    soon("it closes", locks.close()).await;
}
