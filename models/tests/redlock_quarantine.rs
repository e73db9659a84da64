//! Entering nodes into a quorum, and ending their quarantine: no lock is forgotten, and what would forget one is found.

use pilotman_models::explore::explore;
use pilotman_models::quarantine::{Mutant, Quarantine, Setup};

const LIMIT: usize = 1_500_000;
/// Nodes that have never been used, one of which may lose what it has.
const NEW: Setup =
    Setup { used: false, entering: 1, lease: 2, losses: 1, restarts: 0, one_by_one: false, mutant: None };
/// Two clients enter nodes at once.
const RACE: Setup = Setup { entering: 2, lease: 1, ..NEW };
const USED: Setup = Setup { used: true, ..NEW };
const TWO_HOLDERS: &str = "2 clients take the lock";

#[track_caller]
fn holds(name: &str, setup: Setup) {
    let explored = explore(&Quarantine::new(setup), LIMIT);
    println!("{name}: {explored}");
    assert!(explored.violation.is_none(), "{explored}");
}

#[track_caller]
fn is_caught(mutant: Mutant, setup: Setup) {
    let explored = explore(&Quarantine::new(Setup { mutant: Some(mutant), ..setup }), LIMIT);
    println!("{mutant:?}: {explored}");
    let violation = explored.violation.expect("the mutant must be caught");
    assert!(violation.what.contains(TWO_HOLDERS), "caught for another reason: {}", violation.what);
}

#[test]
fn new_nodes_and_a_loss() {
    holds("new nodes, 1 loss", NEW);
}

#[test]
fn a_race_for_new_nodes_and_a_loss() {
    holds("new nodes, 2 who enter them, 1 loss", RACE);
}

#[test]
fn new_nodes_and_a_restart() {
    holds("new nodes, 1 restart", Setup { losses: 0, restarts: 1, ..NEW });
}

#[test]
fn used_nodes_of_which_a_majority_is_lost() {
    holds("used nodes, 2 losses at any time", Setup { losses: 2, ..USED });
}

#[test]
fn used_nodes_are_lost_one_after_the_other() {
    holds("used nodes, 3 losses, one by one", Setup { losses: 3, one_by_one: true, ..USED });
}

#[test]
fn nodes_are_entered_in_quarantine() {
    is_caught(Mutant::NoQuarantine, USED);
}

#[test]
fn nodes_are_claimed_before_they_are_lifted() {
    is_caught(Mutant::LiftsWithoutClaims, RACE);
}

#[test]
fn a_claim_takes_the_place_of_the_nonce_that_was_seen() {
    is_caught(Mutant::ClaimsAnyNonce, RACE);
}

#[test]
fn only_the_own_nonce_is_lifted() {
    is_caught(Mutant::LiftsAnyNonce, RACE);
}

#[test]
fn all_claims_must_succeed() {
    is_caught(Mutant::LiftsWithSomeClaims, RACE);
}

#[test]
fn a_nonce_ends_with_its_quarantine() {
    is_caught(Mutant::NonceOutlivesQuarantine, NEW);
}

/// So that months may lie between the losses.
#[test]
fn a_nonce_of_an_earlier_loss_is_worth_nothing() {
    is_caught(Mutant::NonceOutlivesQuarantine, Setup { losses: 3, one_by_one: true, ..USED });
}

/// What is not prevented.
#[test]
fn nodes_that_have_all_lost_what_they_had_look_new() {
    let explored = explore(&Quarantine::new(Setup { losses: 3, ..USED }), LIMIT);
    println!("used nodes, 3 losses at any time: {explored}");
    assert!(explored.violation.is_some_and(|violation| violation.what.contains(TWO_HOLDERS)));
}

#[test]
fn a_vote_counts_only_when_a_quorum_is_known_to_be_open() {
    is_caught(Mutant::VotesBeforeOpened, NEW);
}

#[test]
fn a_restart_with_old_notes_begins_a_quarantine() {
    is_caught(Mutant::TrustsRestart, Setup { losses: 0, restarts: 1, ..USED });
}
