//! Tokens of a quorum: they grow from holder to holder, and what would make them not grow is found.

use pilotman_models::explore::explore;
use pilotman_models::tokens::{Mutant, Setup, Tokens};

const LIMIT: usize = 3_000_000;
/// No node loses anything.
const KEPT: Setup =
    Setup { mints: 5, apart: 1, losses: 0, away: 0, ticks: 0, late: false, own_clock: false, mutant: None };
/// A node loses what it has, when all clients propose the same.
const LOST: Setup = Setup { mints: 4, apart: 0, losses: 1, away: 1, ticks: 2, ..KEPT };
const FEWER: &str = "a holder has the token";

#[track_caller]
fn holds(name: &str, setup: Setup) {
    let explored = explore(&Tokens::new(setup), LIMIT);
    println!("{name}: {explored}");
    assert!(explored.violation.is_none(), "{explored}");
}

#[track_caller]
fn is_found(name: &str, setup: Setup) {
    let explored = explore(&Tokens::new(setup), LIMIT);
    println!("{name}: {explored}");
    let violation = explored.violation.expect("it must be found");
    assert!(violation.what.contains(FEWER), "found for another reason: {}", violation.what);
}

#[track_caller]
fn is_caught(mutant: Mutant, setup: Setup) {
    is_found(&format!("{mutant:?}"), Setup { mutant: Some(mutant), ..setup });
}

#[test]
fn tokens_grow_whatever_is_proposed() {
    holds("any proposals", KEPT);
}

#[test]
fn the_largest_is_no_token_before_a_quorum_is_raised_to_it() {
    is_caught(Mutant::TakesLargest, KEPT);
}

#[test]
fn a_node_is_raised_only_while_the_lock_is_ours_there() {
    is_caught(Mutant::RaisesForAnybody, KEPT);
}

/// One that comes late, over a connection that has ended, may find a later grant.
#[test]
fn raising_never_lowers_the_token_of_a_key() {
    is_caught(Mutant::RaiseLowers, KEPT);
}

#[test]
fn proposals_alone_are_no_tokens() {
    is_caught(Mutant::KeepsNoCounter, KEPT);
}

#[test]
fn votes_that_ended_while_nodes_were_raised_are_worth_nothing() {
    is_caught(Mutant::EntersLate, KEPT);
}

#[test]
fn the_token_of_a_hold_that_goes_on_is_agreed_upon_too() {
    is_caught(Mutant::HandsOnLargest, Setup { mints: 6, apart: 2, ..KEPT });
}

#[test]
fn proposals_stand_in_for_a_lost_counter() {
    holds("a loss, the same proposals", LOST);
}

#[test]
fn a_loss_that_takes_longer_than_proposals_are_apart_does_no_harm() {
    holds("a loss, proposals apart, longer away", Setup { apart: 1, away: 2, ticks: 3, ..LOST });
}

/// What is not prevented.
#[test]
fn after_a_loss_proposals_that_are_apart_may_give_a_smaller_token() {
    is_found("a loss, proposals apart", Setup { apart: 1, away: 1, ..LOST });
}

/// What is not prevented.
#[test]
fn after_a_loss_proposals_that_come_late_may_give_a_smaller_token() {
    is_found("a loss, late proposals", Setup { late: true, ..LOST });
}

#[test]
fn the_own_clock_stands_in_for_late_proposals() {
    holds("a loss, late proposals, own clock", Setup { late: true, own_clock: true, ..LOST });
}
