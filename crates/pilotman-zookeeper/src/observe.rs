//! Watching the node of a hold for its holder.

use std::sync::Arc;

use zookeeper_client::EventType;

use crate::failure;
use crate::link::Link;
use crate::place::Place;

/// Begins to, unless that is done already.
pub(crate) fn observe(link: &Arc<Link>, place: &Arc<Place>) {
    let (Some(runtime), Some(path)) = (link.runtime(), place.path()) else { return };
    if place.begin_watch() {
        runtime.spawn(watch(place.clone(), path));
    }
}

/// Until the node goes or the session ends; the end of the session is told elsewhere.
async fn watch(place: Arc<Place>, path: String) {
    while !place.session.has_ended() {
        match place.session.client.check_and_watch_stat(&path).await {
            Ok((None, _)) => break,
            Ok((Some(_), watcher)) => {
                if watcher.changed().await.event_type == EventType::NodeDeleted {
                    break;
                }
            }
            Err(error) if failure::is_open(&error) => place.session.pause().await,
            Err(error) => {
                tracing::warn!(%error, "the node of a hold can't be watched; renewals look for it");
                place.end_watch();
                return;
            }
        }
    }
    place.session.report_gone(&place);
}
