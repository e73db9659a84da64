//! What a session needs while it is open: heartbeats, an eye on its state, holds freed that nobody renews, empty nodes
//! removed, an end when nobody needs it.

use std::sync::{Arc, Weak};

use pilotman_core::clock::Sleep;
use zookeeper_client::SessionState;

use crate::bounds;
use crate::link::Link;
use crate::pulse::Pulse;
use crate::session::Session;

/// See the [module](self). It ends with the session.
pub(crate) async fn keep(link: Weak<Link>, session: Arc<Session>) {
    look_at_bounds(&link, &session);
    let mut states = session.client.state_watcher();
    let mut next = session.now();
    loop {
        tokio::select! {
            state = states.changed() => match state {
                SessionState::SyncConnected => {
                    session.beat();
                    // This may be another member, or one that was configured anew.
                    look_at_bounds(&link, &session);
                }
                SessionState::Disconnected | SessionState::ConnectedReadOnly => session.trouble(),
                state => {
                    tracing::debug!(?state, "the session has ended");
                    break;
                }
            },
            () = Sleep::until(session.clock().clone(), next) => {
                next = session.now().after(Pulse::cadence(session.timeout()));
                session.beat();
                if !tick(&link, &session) {
                    break;
                }
            }
            () = session.closing.notified() => break,
        }
        if session.has_ended() {
            break;
        }
    }
    session.end();
    if let Some(link) = link.upgrade() {
        link.forget(&session);
    }
}

fn look_at_bounds(link: &Weak<Link>, session: &Arc<Session>) {
    let Some(zookeeper) = link.upgrade().map(|link| link.zookeeper.clone()) else { return };
    // A member that answers nobody doesn't keep a session that is closed.
    let (session, clock) = (Arc::downgrade(session), session.clock().clone());
    tokio::spawn(async move { bounds::look_after(&zookeeper, &session, &clock).await });
}

/// What is due; `false`: nobody needs the session any longer.
fn tick(link: &Weak<Link>, session: &Arc<Session>) -> bool {
    let Some(link) = link.upgrade() else { return false };
    session.report_unsure();
    for place in session.begin_sweeps() {
        tokio::spawn(async move { place.sweep().await });
    }
    if !link.parents.is_empty() {
        let (parents, session) = (link.parents.clone(), session.clone());
        tokio::spawn(async move {
            parents.remove(&session.client, Some(session.now()), |path| session.uses(path)).await;
        });
        return true;
    }
    if session.retire_if_idle(link.zookeeper.idle_timeout) {
        tracing::debug!("nobody needs the session");
        return false;
    }
    true
}
