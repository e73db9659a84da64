//! It is our turn: the fencing token, the lease, the hold.

use std::sync::Arc;

use futures_util::future::join3;
use pilotman_core::backend::{Attempt, Grant};
use pilotman_core::{Error, Result};
use zookeeper_client::Error as DriverError;

use crate::failure;
use crate::layout::{Kind, Layout};
use crate::place::Place;

/// What the .NET library writes into the node of a permit that was taken, for the next one to see.
pub(crate) const ACQUIRED: &[u8] = b"ACQUIRED";

/// How it came to be our turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    /// Right when the node was made, in the transaction `made`; `changed` was the last change of the children.
    AtOnce { made: i64, changed: i64 },
    /// By a later listing, in which `changed` was the last change of the children.
    Listed { changed: i64 },
    /// When the only node before ours went.
    Left,
}

/// Makes a hold of the place.
pub(crate) async fn grant(place: &Arc<Place>, attempt: &Attempt, turn: Turn) -> Result<Grant> {
    let token = token(place, turn).await?;
    let lease = attempt.spec.lease.unwrap_or(place.session.asked());
    let from = place.session.surely_valid_from(lease).await.map_err(|error| error.no_effect(false))?;
    place.hold(lease, from);
    Ok(Grant { token: Some(token), valid_from: Some(from), lease: None, state: Some(Box::new(place.clone())) })
}

/// A number above those of all who held the lock before, also above those made for local hand-offs: the transaction by which the
/// last of them left, or a later one.
async fn token(place: &Place, turn: Turn) -> Result<u64> {
    let zxid = match (place.lock.kind, turn) {
        // The others see by it that they are not behind a waiter; and its number is nobody else's.
        (Kind::Permit, _) => write(place, data(place)).await?,
        (Kind::Mutex | Kind::Write, Turn::AtOnce { changed, .. } | Turn::Listed { changed }) => changed,
        (Kind::Mutex | Kind::Write, Turn::Left) => last_change(place).await?,
        // Several can be let in by one change, and each needs a number of its own.
        (Kind::Read, Turn::AtOnce { made, changed }) if made == changed => made,
        (Kind::Read, _) => write(place, data(place)).await?,
    };
    u64::try_from(zxid).map_err(|_| Error::unavailable("the server gave no transaction number").no_effect(false))
}

/// A new number for a hold that goes on under another holder.
pub(crate) async fn mint(place: &Place) -> Result<u64> {
    let zxid = write(place, data(place)).await?;
    u64::try_from(zxid).map_err(|_| Error::unavailable("the server gave no transaction number").no_effect(false))
}

fn data(place: &Place) -> Vec<u8> {
    let shape = &place.lock.shape;
    match (place.lock.kind, shape.layout) {
        (Kind::Permit, Layout::DotNet) => ACQUIRED.to_vec(),
        _ => shape.owner.clone().into_bytes(),
    }
}

/// Writes into our node; the transaction's number.
async fn write(place: &Place, data: Vec<u8>) -> Result<i64> {
    let path = place.path().ok_or_else(vanished)?;
    loop {
        match place.session.client.set_data(&path, &data, None).await {
            Ok(stat) => return Ok(stat.mzxid),
            Err(DriverError::NoNode) => {
                place.set_gone();
                return Err(vanished());
            }
            Err(error) if failure::ends_session(&error) => return Err(failure::lost_session()),
            // It may have been done; then it is done again, with a later number.
            Err(error) if failure::is_open(&error) => place.session.pause().await,
            Err(error) => return Err(failure::of_request(error, &path).no_effect(false)),
        }
    }
}

/// The number of the last change of the children, and whether our node is one.
async fn last_change(place: &Place) -> Result<i64> {
    let (client, own) = (&place.session.client, place.path().ok_or_else(vanished)?);
    loop {
        // Word of the other's leaving may have come from a server that was ahead of this one.
        let synced = client.sync(&place.lock.path);
        let (synced, parent, own) = join3(synced, client.check_stat(&place.lock.path), client.check_stat(&own)).await;
        match (synced.and(parent), own) {
            (Ok(Some(parent)), Ok(Some(_))) => return Ok(parent.pzxid),
            (Ok(_), Ok(_)) => {
                place.set_gone();
                return Err(vanished());
            }
            (Err(error), _) | (_, Err(error)) if failure::ends_session(&error) => return Err(failure::lost_session()),
            (Err(error), _) | (_, Err(error)) if failure::is_open(&error) => {
                place.session.pause().await;
            }
            (Err(error), _) | (_, Err(error)) => return Err(failure::of_request(error, &place.lock.path)),
        }
    }
}

/// Somebody removed our node.
pub(crate) fn vanished() -> Error {
    Error::unavailable("the node of this wait was removed by somebody else")
        .with_advice("see who removes nodes of locks; waiting again makes another one")
        .no_effect(false)
}
