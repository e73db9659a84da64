//! The hand-off on one Redis: nothing it can do is wrong, and what would be wrong is found.

use pilotman_models::explore::explore;
use pilotman_models::hand_off::{Act, Action, Faults, HandOff, Mutant, Setup};

const LIMIT: usize = 2_000_000;
const EACH: Faults =
    Faults { break_off: 1, lose_push: 1, lose_reply: 1, give_up: 1, crash: 1, cancel: 1, step_back: 1 };

/// Two clients, one attempt each, no fault, and everything as slow as it likes.
const CALM: Setup = Setup {
    clients: 2,
    attempts: [1; 3],
    faults: Faults { break_off: 0, lose_push: 0, lose_reply: 0, give_up: 0, crash: 0, cancel: 0, step_back: 0 },
    together: 0,
    prompt: false,
    before: &[],
    mutant: None,
};

fn holds(name: &str, setup: Setup) {
    let model = HandOff::new(setup);
    let explored = explore(&model, LIMIT);
    let (served, quiet) = model.slowest();
    println!("{name}: {explored}; all served within {served} ticks, nothing left within {quiet}");
    assert!(explored.violation.is_none(), "{explored}");
}

#[track_caller]
fn is_caught(mutant: Mutant, what: &str, setup: Setup) {
    let explored = explore(&HandOff::new(Setup { mutant: Some(mutant), ..setup }), LIMIT);
    println!("{mutant:?}: {explored}");
    let violation = explored.violation.expect("the mutant must be caught");
    assert!(violation.what.contains(what), "caught for another reason: {}", violation.what);
}

const TWO_HOLDERS: &str = "2 clients take the lock";
const TOKENS: &str = "a token is not larger";
const STARVED: &str = "a waiter has not had the lock";
const LEFT_BEHIND: &str = "something is left on the server";

#[test]
fn two_clients_twice_each() {
    holds("2 clients, 2 attempts each, slow", Setup { attempts: [2; 3], ..CALM });
}

#[test]
fn three_clients() {
    holds("3 clients, slow", Setup { clients: 3, ..CALM });
}

#[test]
fn two_clients_and_a_fault() {
    holds("2 clients, any fault, slow", Setup { faults: EACH, together: 1, ..CALM });
}

#[test]
fn two_clients_twice_each_and_a_fault() {
    holds(
        "2 clients, 2 attempts each, any fault",
        Setup { attempts: [2; 3], faults: EACH, together: 1, prompt: true, ..CALM },
    );
}

#[test]
fn three_clients_and_two_faults() {
    let faults = Faults { break_off: 1, lose_push: 1, crash: 1, ..CALM.faults };
    holds("3 clients, two faults", Setup { clients: 3, faults, together: 2, prompt: true, ..CALM });
}

#[test]
fn a_push_for_an_earlier_place_is_not_taken() {
    is_caught(Mutant::AnyTicket, TWO_HOLDERS, Setup { attempts: [2; 3], ..CALM });
}

#[test]
fn a_pushed_hold_counts_from_the_last_not_yours() {
    is_caught(Mutant::FromArrival, TWO_HOLDERS, Setup { attempts: [2; 3], ..CALM });
}

#[test]
fn a_pushed_hold_lasts_for_the_first_lease() {
    is_caught(Mutant::WholeLease, TWO_HOLDERS, Setup { attempts: [2; 3], ..CALM });
}

/// Of clients that do everything in time.
const PROMPT: Setup = Setup { clients: 3, faults: EACH, together: 1, prompt: true, ..CALM };

#[test]
fn a_release_removes_only_its_own() {
    is_caught(Mutant::AnyOwner, TWO_HOLDERS, PROMPT);
}

#[test]
fn a_renewal_creates_nothing() {
    is_caught(Mutant::RenewalCreates, LEFT_BEHIND, PROMPT);
}

#[test]
fn a_timer_stands_behind_every_push() {
    is_caught(Mutant::NoTimer, STARVED, PROMPT);
}

#[test]
fn an_abandoned_attempt_gives_back_what_it_was_handed() {
    is_caught(Mutant::LeavesQueueOnly, LEFT_BEHIND, PROMPT);
}

#[test]
fn tokens_need_a_counter() {
    is_caught(Mutant::TokenByClock, TOKENS, PROMPT);
}

/// A held; C stood in the queue and died; the server's clock was set back; B came after C and was handed the lock.
const A_DEAD_ONE_AHEAD: [Action; 12] = [
    Action { client: 0, act: Act::Begin },
    Action { client: 0, act: Act::Serve },
    Action { client: 2, act: Act::Begin },
    Action { client: 2, act: Act::Serve },
    Action { client: 2, act: Act::Crash },
    Action { client: 2, act: Act::Notice },
    Action { client: 0, act: Act::StepBack },
    Action { client: 1, act: Act::Begin },
    Action { client: 1, act: Act::Serve },
    Action { client: 0, act: Act::Hear },
    Action { client: 0, act: Act::Release },
    Action { client: 0, act: Act::Serve },
];

#[test]
fn a_place_in_the_queue_has_a_number_of_its_own() {
    let setup = Setup { clients: 3, attempts: [2, 1, 1], faults: EACH, together: 2, before: &A_DEAD_ONE_AHEAD, ..CALM };
    holds("a number of its own for each place", setup);
    is_caught(Mutant::TicketByClock, TWO_HOLDERS, setup);
}
