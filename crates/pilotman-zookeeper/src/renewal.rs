//! Renewing leases: the session's heartbeats keep the nodes; that they are there has to be looked at.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::backend::{AttemptId, Holding, Renewal};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, LossReason, Result};
use zookeeper_client::MultiReadResult;

use crate::failure;
use crate::place::Place;
use crate::pulse::Pulse;

/// So many nodes are read by one request.
const BATCH: usize = 128;

/// Between two renewals of a lease that is always due.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// One result for each.
pub(crate) async fn renew(holds: &[Arc<Holding>]) -> Vec<Result<Renewal>> {
    let places: Vec<Option<Arc<Place>>> = holds.iter().map(|hold| hold.state::<Arc<Place>>().cloned()).collect();
    // A lease that its session can't keep any longer is due again as soon as it was renewed: not at once, but long before the
    // engine gives a renewal up, after 2 s or a sixth of the lease.
    let is_short = |place: &&Arc<Place>| place.held_lease().is_some_and(|lease| place.session.timeout() < lease);
    if let Some(place) = places.iter().flatten().find(is_short) {
        let pause = Pulse::cadence(place.session.timeout()).min(LONGEST_PAUSE);
        Sleep::new(place.session.clock().clone(), pause).await;
    }
    // A node that is watched tells by itself that it went, but a server that is silent tells nothing: one is read at least.
    let mut unsure: Vec<&Arc<Place>> = places.iter().flatten().filter(|place| place.loss().is_none()).collect();
    let watched = unsure.iter().filter(|place| place.is_watched()).count();
    if watched < unsure.len() {
        unsure.retain(|place| !place.is_watched());
    } else {
        unsure.truncate(1);
    }
    let looks = join_all(unsure.chunks(BATCH).map(|batch| async move { (batch, look(batch).await) })).await;
    let mut failed = None;
    let mut missing: HashSet<AttemptId> = HashSet::new();
    for (batch, look) in looks {
        match look {
            Ok(found) => missing.extend(batch.iter().zip(found).filter(|(_, found)| !found).map(|(place, _)| place.id)),
            Err(error) => failed = Some(error),
        }
    }
    let renewed = |place: &Option<Arc<Place>>| {
        let Some(place) = place else { return Ok(Renewal::Gone(LossReason::Gone)) };
        if missing.contains(&place.id) {
            place.set_gone();
        }
        if let Some(reason) = place.loss() {
            return Ok(Renewal::Gone(reason));
        }
        if let Some(error) = &failed {
            return Err(error.clone());
        }
        if place.session.is_troubled() {
            return Err(Error::unavailable("no server of the ensemble answers heartbeats").no_effect(true));
        }
        let Some(lease) = place.held_lease() else { return Ok(Renewal::Gone(LossReason::Gone)) };
        let from = place.session.valid_from(lease);
        match place.extend(from) {
            true => Ok(Renewal::Renewed { valid_from: Some(from) }),
            false => Ok(Renewal::Gone(LossReason::Expired)),
        }
    };
    places.iter().map(renewed).collect()
}

/// Whether these nodes are there.
async fn look(places: &[&Arc<Place>]) -> Result<Vec<bool>> {
    let Some(first) = places.first() else { return Ok(Vec::new()) };
    let mut reader = first.session.client.new_multi_reader();
    for place in places {
        let path = place.path().unwrap_or_default();
        reader.add_get_data(&path).map_err(|error| failure::of_request(error, &path))?;
    }
    let read = reader.commit().await.map_err(|error| failure::of_request(error, &first.lock.path))?;
    // What we may not read is there all the same.
    Ok(read
        .into_iter()
        .map(|read| !matches!(read, MultiReadResult::Error { err: zookeeper_client::Error::NoNode }))
        .collect())
}
