//! The hand-off over three nodes: what holds for it, and that each of its rules is needed.

use pilotman_models::explore::explore;
use pilotman_models::quorum::{Faults, Mutant, Plan, Quorum, Setup};

const LIMIT: usize = 3_000_000;
const NONE: Faults = Faults {
    slow: 0,
    slow_push: 0,
    lose_push: 0,
    break_off: 0,
    crash: 0,
    cancel: 0,
    down: 0,
    restart: 0,
    step: 0,
    step_unnoticed: 0,
    vanish: 0,
    skew: 0,
};
/// Of the network.
const MESSAGES: Faults = Faults { slow: 2, slow_push: 1, lose_push: 1, break_off: 1, ..NONE };
/// Of the clients and the nodes.
const MEMBERS: Faults = Faults { crash: 1, cancel: 1, down: 1, restart: 1, step: 1, skew: 1, ..NONE };
const ALL: Faults = Faults { crash: 1, cancel: 1, down: 1, restart: 1, step: 1, skew: 1, ..MESSAGES };
const CALM: Setup = Setup {
    plans: &[Plan::Wait, Plan::Wait],
    faults: NONE,
    together: 0,
    prompt: false,
    ordered: false,
    bound: 5,
    mutant: None,
};
const PROMPT: Setup = Setup { prompt: true, ..CALM };
const THREE: &[Plan] = &[Plan::Wait; 3];

/// So many of these faults.
const fn with(together: u8, faults: Faults, setup: Setup) -> Setup {
    Setup { faults, together, ..setup }
}

/// From every state all are served, and nothing is left, within `bound` ticks: the most that was measured, and one more.
#[track_caller]
fn holds(name: &str, bound: u8, setup: Setup) {
    let model = Quorum::new(Setup { bound, ..setup });
    let explored = explore(&model, LIMIT);
    let (served, quiet) = model.slowest();
    println!("{name}: {explored}; all served within {served} ticks, nothing left within {quiet}");
    assert!(explored.violation.is_none(), "{explored}");
}

#[track_caller]
fn is_found(name: &str, what: &str, setup: Setup) {
    let explored = explore(&Quorum::new(setup), LIMIT);
    println!("{name}: {explored}");
    let violation = explored.violation.expect("it must be found");
    assert!(violation.what.contains(what), "found for another reason: {}", violation.what);
}

#[track_caller]
fn is_caught(mutant: Mutant, what: &str, setup: Setup) {
    is_found(&format!("{mutant:?}"), what, Setup { mutant: Some(mutant), ..setup });
}

const TWO_HOLDERS: &str = "2 clients take the lock";
const STARVED: &str = "a waiter has not had the lock";
const RENEWED: &str = "is renewed although another had the lock";
const OVERTAKEN: &str = "a waiter was overtaken";

#[test]
fn two_waiters_and_any_fault() {
    holds("2 waiters, any 1", 5, with(1, ALL, CALM));
}

#[test]
fn two_waiters_and_a_question_that_comes_after_its_connection_has_ended() {
    holds("2 waiters, 1 slow and 1 lost connection", 4, with(2, Faults { slow: 1, break_off: 1, ..NONE }, CALM));
}

#[test]
fn two_prompt_waiters_and_two_faults_of_the_network() {
    holds("2 waiters, prompt, 2 of the network", 4, with(2, MESSAGES, PROMPT));
}

#[test]
fn two_prompt_waiters_and_two_faults_of_clients_or_nodes() {
    holds("2 waiters, prompt, 2 of clients or nodes", 5, with(2, MEMBERS, PROMPT));
}

#[test]
fn two_prompt_waiters_and_a_slow_message_and_a_fault_of_a_client_or_a_node() {
    holds("2 waiters, prompt, 1 slow and 1 other", 5, with(2, Faults { slow: 1, ..MEMBERS }, PROMPT));
}

#[test]
fn two_prompt_waiters_and_a_lost_message_and_a_fault_of_a_client_or_a_node() {
    let lost = Faults { slow_push: 1, lose_push: 1, break_off: 1, ..MEMBERS };
    holds("2 waiters, prompt, 1 of pushes or connections and 1 other", 5, with(2, lost, PROMPT));
}

#[test]
fn three_waiters() {
    holds("3 waiters", 2, Setup { plans: THREE, ..CALM });
}

/// None of them is overtaken either by one that begins when it has its place on a quorum of nodes.
#[test]
fn three_prompt_waiters_and_a_fault_of_the_network() {
    let three = Setup { plans: THREE, ordered: true, ..PROMPT };
    holds("3 waiters, prompt, 1 of the network", 3, with(1, MESSAGES, three));
}

/// Neither then.
#[test]
fn three_prompt_waiters_and_a_fault_of_a_client_or_a_node() {
    let three = Setup { plans: THREE, ordered: true, ..PROMPT };
    holds("3 waiters, prompt, 1 of a client or a node", 5, with(1, Faults { skew: 0, ..MEMBERS }, three));
}

#[test]
fn a_waiter_and_one_that_tries_and_any_fault() {
    holds("1 waits, 1 tries, any 1", 5, with(1, ALL, Setup { plans: &[Plan::Wait, Plan::Try], ..CALM }));
}

#[test]
fn two_waiters_and_one_that_tries() {
    holds("2 wait, 1 tries", 2, Setup { plans: &[Plan::Wait, Plan::Wait, Plan::Try], ..CALM });
}

/// What is not promised.
#[test]
fn a_waiter_is_overtaken_by_one_that_measures_an_earlier_time() {
    let three = Setup { plans: THREE, ordered: true, ..PROMPT };
    is_found("3 waiters, skewed", OVERTAKEN, with(1, Faults { skew: 1, ..NONE }, three));
}

const SLOW: Setup = with(1, Faults { slow: 1, ..NONE }, CALM);
const SLOW_PUSH: Setup = with(1, Faults { slow_push: 1, ..NONE }, CALM);
const STRAY: Setup = with(2, Faults { slow: 1, slow_push: 1, break_off: 1, ..NONE }, CALM);
const DOWN: Setup = with(1, Faults { down: 1, ..NONE }, CALM);
const VANISH: Setup = with(1, Faults { vanish: 1, ..NONE }, CALM);

#[test]
fn a_question_with_yield_suspends_the_vote() {
    is_caught(Mutant::VotesWhileYielding, TWO_HOLDERS, SLOW);
}

#[test]
fn a_question_with_yield_is_obeyed_for_a_while_only() {
    is_caught(Mutant::YieldsLate, TWO_HOLDERS, STRAY);
}

#[test]
fn a_node_does_not_count_while_it_may_yet_yield() {
    is_caught(Mutant::IgnoresTaint, TWO_HOLDERS, STRAY);
}

#[test]
fn a_holder_knows_where_it_may_yet_yield() {
    let faults = Faults { slow: 1, break_off: 1, down: 1, ..NONE };
    is_caught(Mutant::ForgetsTaint, TWO_HOLDERS, with(3, faults, PROMPT));
}

#[test]
fn a_late_question_does_not_shorten_the_lease() {
    is_caught(Mutant::Shortens, TWO_HOLDERS, STRAY);
}

#[test]
fn a_push_is_for_the_place_it_names() {
    is_caught(Mutant::AnyPlace, TWO_HOLDERS, SLOW_PUSH);
}

#[test]
fn a_pushed_vote_counts_from_the_last_question() {
    is_caught(Mutant::FromArrival, TWO_HOLDERS, SLOW_PUSH);
}

#[test]
fn a_vote_counts_for_what_the_key_lasts() {
    is_caught(Mutant::WholeLease, TWO_HOLDERS, CALM);
}

#[test]
fn a_node_that_lost_its_data_is_in_quarantine() {
    is_caught(Mutant::NoQuarantine, TWO_HOLDERS, with(1, Faults { restart: 1, ..NONE }, CALM));
}

#[test]
fn a_push_says_whether_the_node_is_in_quarantine() {
    let three = Setup { plans: THREE, ..CALM };
    is_caught(Mutant::PushHidesQuarantine, TWO_HOLDERS, with(1, Faults { step: 1, ..NONE }, three));
}

#[test]
fn waiters_yield_to_who_came_before() {
    is_caught(Mutant::NoYield, STARVED, DOWN);
}

#[test]
fn tickets_are_the_same_on_all_nodes() {
    is_caught(Mutant::OwnTickets, STARVED, DOWN);
}

#[test]
fn a_renewal_makes_no_key() {
    is_caught(Mutant::RenewalCreates, RENEWED, VANISH);
}

#[test]
fn a_node_that_was_just_filled_counts_later() {
    is_caught(Mutant::CountsFilled, RENEWED, VANISH);
}

/// And one that all nodes have renewed survives it.
#[test]
fn a_hold_of_which_a_key_was_deleted_is_not_renewed_after_another() {
    holds("2 waiters, a key is deleted", 2, VANISH);
}
/// What is not prevented, because nobody can notice in time: a rival has no earlier reading of that node's clock.
#[test]
fn a_step_that_nobody_noticed_hurts_a_bare_majority() {
    is_found("a step unnoticed", TWO_HOLDERS, with(1, Faults { step_unnoticed: 1, ..NONE }, CALM));
}
