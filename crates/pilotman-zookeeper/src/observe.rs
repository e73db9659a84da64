//! Watching the node of a hold for its holder.

use std::sync::{Arc, Weak};

use zookeeper_client::EventType;

use crate::failure;
use crate::link::Link;
use crate::place::Place;

/// Begins to, unless that is done already.
pub(crate) fn observe(link: &Arc<Link>, place: &Arc<Place>) {
    let (Some(runtime), Some(path)) = (link.runtime(), place.path()) else { return };
    if place.begin_watch() {
        runtime.spawn(watch(Arc::downgrade(place), path));
    }
}

/// Until the node goes or the session ends; the end of the session is told elsewhere.
async fn watch(observed: Weak<Place>, path: String) {
    loop {
        // Not kept while it waits: whoever has the place keeps the session open.
        let Some(place) = observed.upgrade() else { return };
        if place.session.has_ended() {
            return;
        }
        match place.session.client.check_and_watch_stat(&path).await {
            Ok((None, _)) => return place.session.report_gone(&place),
            Ok((Some(_), watcher)) => {
                drop(place);
                if watcher.changed().await.event_type == EventType::NodeDeleted {
                    if let Some(place) = observed.upgrade() {
                        place.session.report_gone(&place);
                    }
                    return;
                }
            }
            Err(error) if failure::is_open(&error) => place.session.pause().await,
            Err(error) => {
                tracing::warn!(%error, "the node of a hold can't be watched; renewals look for it");
                return place.end_watch();
            }
        }
    }
}
