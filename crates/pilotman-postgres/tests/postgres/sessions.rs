//! Many holds on few sessions.

use crate::common::{LONG, Server, count, eventually, locked, locks, ms, sessions, unique, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_holds_need_at_most_two_sessions() {
    let (server, name) = (Server::get(), unique("thousand"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    let mut guards = Vec::new();
    for nth in 0..1000 {
        guards.push(locks.mutex(format!("{name}-{nth}")).acquire().await.unwrap());
    }
    assert!(count(&admin, &name).await <= 2);
    assert_eq!(locked(&admin, &name).await, 1000);
    drop(guards);
    locks.close().await;
    eventually("all are given back", || async { locked(&admin, &name).await == 0 }).await;
    eventually("all sessions are closed", || async { count(&admin, &name).await == 0 }).await;
}

/// Readers of one process share a session, until a writer waits.
#[tokio::test(flavor = "multi_thread")]
async fn readers_share_a_session_and_let_a_waiting_writer_go_first() {
    let (server, name) = (Server::get(), unique("readers"));
    let admin = server.admin().await;
    let (readers, writer) = (locks(server.options(&name)), locks(server.options("writer")));
    let mut guards = Vec::new();
    for _ in 0..20 {
        guards.push(readers.rw_lock(&name).read().await.unwrap());
    }
    assert_eq!(count(&admin, &name).await, 1);
    let lock = writer.rw_lock(&name);
    let wait = tokio::spawn(async move { lock.write().await });
    eventually("the writer waits", || async { locked(&admin, "writer").await >= 1 }).await;
    assert!(readers.rw_lock(&name).try_read().await.unwrap().is_none(), "it would go before the writer");
    drop(guards);
    within("the writer comes in", LONG, wait).await.unwrap().unwrap().release().await.unwrap();
    readers.rw_lock(&name).read().await.unwrap().release().await.unwrap();
}

/// More waits than may wait on the server stand in line here, and all of them get what they wait for.
#[tokio::test(flavor = "multi_thread")]
async fn waits_beyond_the_bound_stand_in_line() {
    let (server, name) = (Server::get(), unique("bound"));
    let admin = server.admin().await;
    let holder = locks(server.options("holder"));
    let few = locks(server.options(&name).sessions(sessions(|options| options.max_waiting = 3)));
    let names: Vec<_> = (0..10).map(|nth| format!("{name}-{nth}")).collect();
    let mut held = Vec::new();
    let mut waits = Vec::new();
    for name in &names {
        held.push(holder.mutex(name).acquire().await.unwrap());
        let lock = few.mutex(name);
        waits.push(tokio::spawn(async move { lock.acquire().await }));
    }
    tokio::time::sleep(ms(500)).await;
    assert!(count(&admin, &name).await <= 4, "three wait, and one tries");
    // The last first: those that wait on the server are in nobody's way.
    while let (Some(guard), Some(wait)) = (held.pop(), waits.pop()) {
        guard.release().await.unwrap();
        within("it is had", LONG, wait).await.unwrap().unwrap().release().await.unwrap();
    }
}

/// Sessions that hold nothing are closed after a while, but for the warm ones.
#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_are_closed_but_for_the_warm_ones() {
    let (server, name) = (Server::get(), unique("idle"));
    let (admin, holder) = (server.admin().await, locks(server.options("holder")));
    let locks = locks(server.options(&name).sessions(sessions(|options| options.idle = ms(300))));
    let guards = [
        holder.mutex(format!("{name}-a")).acquire().await.unwrap(),
        holder.mutex(format!("{name}-b")).acquire().await.unwrap(),
    ];
    for suffix in ["a", "b"] {
        assert!(locks.mutex(format!("{name}-{suffix}")).try_acquire_for(ms(50)).await.unwrap().is_none());
    }
    let waits: Vec<_> = ["a", "b"]
        .map(|suffix| locks.mutex(format!("{name}-{suffix}")))
        .map(|lock| tokio::spawn(async move { lock.acquire().await }))
        .into();
    eventually("two wait", || async { count(&admin, &name).await >= 2 }).await;
    for guard in guards {
        guard.release().await.unwrap();
    }
    for wait in waits {
        within("it is had", LONG, wait).await.unwrap().unwrap().release().await.unwrap();
    }
    eventually("one is left", || async { count(&admin, &name).await == 1 }).await;
    tokio::time::sleep(ms(700)).await;
    assert_eq!(count(&admin, &name).await, 1, "it stays warm");
}
