//! Runs the cases as a test target with `harness = false`.

use std::any::Any;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pilotman_core::Capabilities;

use crate::case::{self, Variant};
use crate::context::{Ctx, random};
use crate::taker;
use crate::under_test::UnderTest;

/// A case that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// The place of a backend that only tells its capabilities.
const LISTING: &str = "listing";

/// Runs the suite, as the `main` of a test target with `harness = false`. Understands the arguments of `cargo test` and
/// of `cargo nextest`.
///
/// The suite starts this same program again as other processes, so nothing that has effects may come before the call.
#[must_use = "it is the exit code of the test target"]
pub fn main(under_test: UnderTest) -> ExitCode {
    if let Some(code) = taker::run_if_asked(&under_test) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Cases mostly wait, so more of them than there are processors can run at once.
    arguments.test_threads.get_or_insert(4);
    // Held to the end: a server lives as long as this does.
    if let Some(settle) = under_test.settle {
        crate::surface::set_settle(settle);
    }
    let (place, _kept) = place(&under_test, arguments.list);
    let under_test = Arc::new(under_test);
    let capabilities = under_test.backend(&place).capabilities();
    let chosen = case::chosen(&under_test, &capabilities);
    let mut trials = claims(&under_test, &capabilities, &chosen);
    trials.extend(chosen.into_iter().map(|variant| trial(&under_test, &place, variant)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        under_test.clean(&place);
    }
    conclusion.exit_code()
}

/// Where the cases run, and what has to live as long as they do.
fn place(under_test: &UnderTest, only_list: bool) -> (String, Option<Box<dyn Any>>) {
    match under_test.take_set_up() {
        Some(_) if only_list => (LISTING.to_owned(), None),
        Some(set_up) => {
            let (place, kept) = set_up();
            (place, Some(kept))
        }
        None => {
            let new = || format!("conformance-{}-{:08x}", std::process::id(), random() as u32);
            (under_test.fixed_place().map_or_else(new, str::to_owned), None)
        }
    }
}

fn trial(under_test: &Arc<UnderTest>, place: &str, variant: Variant) -> Trial {
    let (under_test, place) = (under_test.clone(), place.to_owned());
    let name = variant.name.clone();
    Trial::ignorable_test(name.clone(), move || {
        // A thread of its own, so that a case that hangs is told from one that is slow.
        let (sender, done) = std::sync::mpsc::channel();
        let case = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let ctx = Ctx::new(under_test, place, variant.form, &variant.name);
            variant.run(&ctx);
            let skipped = ctx.skipped();
            ctx.finish();
            // The receiver has given up if this took too long.
            let _ = sender.send(skipped);
        })?;
        match done.recv_timeout(LIMIT) {
            Ok(None) => Ok(Completion::Completed),
            Ok(Some(reason)) => Ok(Completion::ignored_with(reason)),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                Err(Failed::from(format!("it hangs: not done in {LIMIT:?}")))
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match case.join() {
                Ok(()) => Err(Failed::from("it ended without a result")),
                Err(panic) => Err(Failed::from(message(&*panic))),
            },
        }
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// The cases about the claims themselves.
fn claims(under_test: &Arc<UnderTest>, capabilities: &Capabilities, chosen: &[Variant]) -> Vec<Trial> {
    let claimed: Vec<_> =
        capabilities.claims().into_iter().filter_map(|(name, claimed)| claimed.then_some(name)).collect();
    let untested: Vec<_> =
        claimed.iter().filter(|claim| !chosen.iter().any(|variant| variant.needs.contains(claim))).copied().collect();
    let unknown: Vec<_> =
        capabilities.claims().into_iter().map(|(name, _)| name).filter(|name| !case::KNOWN.contains(name)).collect();
    let cant_lose = capabilities.loss && !Ctx::can_lose(under_test, capabilities);
    let nothing = claimed.is_empty();
    vec![
        Trial::test("claims::each_claim_has_cases", move || {
            if cant_lose {
                return Err("`loss` is claimed, but the suite can't cause one: give it the hook `lose`".into());
            }
            if nothing {
                return Err("nothing is claimed, so nothing would be tested".into());
            }
            match untested.is_empty() {
                true => Ok(()),
                false => Err(format!("claimed, but no case tests it: {}", untested.join(", ")).into()),
            }
        }),
        Trial::test("claims::each_claim_is_known", move || match unknown.is_empty() {
            true => Ok(()),
            false => Err(format!("this suite is older than the claims {}", unknown.join(", ")).into()),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_core::memory::MemoryBackend;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn counted(calls: &Arc<AtomicUsize>) -> UnderTest {
        let calls = calls.clone();
        UnderTest::new("counted", MemoryBackend::shared).place("fixed").set_up(move || {
            calls.fetch_add(1, Ordering::SeqCst);
            ("p40001-3fa2".to_owned(), Box::new("a server"))
        })
    }

    #[test]
    fn a_run_is_set_up_once_and_keeps_what_came_with_the_place() {
        let calls = Arc::default();
        let (place, kept) = place(&counted(&calls), false);
        assert_eq!(place, "p40001-3fa2");
        assert_eq!(kept.and_then(|kept| kept.downcast::<&str>().ok()).as_deref(), Some(&"a server"));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_list_sets_nothing_up() {
        let calls = Arc::default();
        let (place, kept) = place(&counted(&calls), true);
        assert_eq!((place.as_str(), kept.is_none()), (LISTING, true));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn without_a_hook_the_place_is_the_fixed_one_or_a_new_one() {
        let fixed = UnderTest::new("fixed", MemoryBackend::shared).place("fixed");
        assert_eq!(place(&fixed, false).0, "fixed");
        let new = UnderTest::new("new", MemoryBackend::shared);
        assert_ne!(place(&new, false).0, place(&new, false).0);
    }
}
