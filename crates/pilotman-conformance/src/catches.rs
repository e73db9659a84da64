//! Proves that the suite finds what it is there to find: backends with a defect each, and the cases that must fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released, Renewal,
    Spec,
};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{Capabilities, Fencing, LockOptions, Name, Result, Target};

use crate::case;
use crate::context::{Ctx, random};
use crate::under_test::UnderTest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// For comparison.
    None,
    /// Everybody gets the lock.
    NoExclusion,
    /// Now and then two get the lock.
    RareDoubleGrant,
    /// A release that answers and does nothing.
    NoRelease,
    /// A release that removes whoever holds the lock.
    ReleasesOthers,
    /// What was granted to an abandoned attempt stays.
    NoAbandon,
    /// Every hold has the same token.
    SameToken,
    /// Renewals that answer and do nothing.
    NoRenewal,
    /// A and a are one name.
    FoldsCase,
    /// Long names are cut.
    CutsNames,
    /// Those who hold are not shown.
    BlindInspect,
}

#[derive(Debug)]
struct Broken {
    inner: MemoryBackend,
    defect: Defect,
    /// Counts the attempts of all backends of one case.
    count: Arc<AtomicU64>,
}

impl Broken {
    /// The attempt as the inner backend gets it.
    fn changed(&self, attempt: &Attempt) -> Attempt {
        let name = attempt.spec.target.name.as_str();
        let name = match self.defect {
            Defect::FoldsCase => name.to_lowercase(),
            Defect::CutsNames => name.chars().take(200).collect(),
            _ => return attempt.clone(),
        };
        let target = Target { name: Name::new(name).expect("still a name"), ..attempt.spec.target.clone() };
        Attempt { spec: Arc::new(Spec { target, ..(*attempt.spec).clone() }), ..attempt.clone() }
    }

    fn changed_holds(&self, holds: &[Arc<Holding>]) -> Vec<Arc<Holding>> {
        let change = |hold: &Arc<Holding>| Arc::new(Holding { attempt: self.changed(&hold.attempt), state: None });
        holds.iter().map(change).collect()
    }

    fn out_of_thin_air(&self) -> Option<Grant> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        match self.defect {
            Defect::NoExclusion => {}
            Defect::RareDoubleGrant if count % 8 == 7 => {}
            _ => return None,
        }
        Some(Grant { token: Some((1 << 40) + count), ..Grant::default() })
    }

    fn with_token(&self, mut grant: Grant) -> Grant {
        if self.defect == Defect::SameToken {
            grant.token = Some(7);
        }
        grant
    }
}

impl Backend for Broken {
    fn kind(&self) -> &'static str {
        "broken"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.fencing = Fencing::Free;
        capabilities
    }

    fn start(&self, environment: Environment) {
        self.inner.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        self.inner.prepare(target, options)
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.inner.physical_name(target)
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.check()
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        self.inner.ready()
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            if let Some(grant) = self.out_of_thin_air() {
                return Ok(Outcome::Granted(grant));
            }
            Ok(match Backend::try_acquire(&self.inner, &self.changed(attempt)).await? {
                Outcome::Granted(grant) => Outcome::Granted(self.with_token(grant)),
                contended => contended,
            })
        })
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(async move {
            if let Some(grant) = self.out_of_thin_air() {
                return Ok(grant);
            }
            let attempt = self.changed(attempt);
            self.inner.enqueue(&attempt).await.map(|grant| self.with_token(grant))
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            if self.defect == Defect::NoAbandon {
                return attempts.iter().map(|_| Ok(())).collect();
            }
            let attempts: Vec<_> = attempts.iter().map(|attempt| self.changed(attempt)).collect();
            self.inner.abandon(&attempts).await
        })
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(async move {
            match self.defect {
                Defect::NoRenewal => holds.iter().map(|_| Ok(Renewal::Renewed { valid_from: None })).collect(),
                _ => self.inner.renew(&self.changed_holds(holds)).await,
            }
        })
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move {
            match self.defect {
                Defect::NoRelease => holds.iter().map(|_| Ok(Released::Free { others_wait: false })).collect(),
                Defect::ReleasesOthers => {
                    for hold in holds {
                        drop(self.inner.force_release(&hold.attempt.spec.target).await);
                    }
                    holds.iter().map(|_| Ok(Released::Free { others_wait: false })).collect()
                }
                _ => Backend::release(&self.inner, &self.changed_holds(holds)).await,
            }
        })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            match self.defect {
                Defect::SameToken => Ok(7),
                _ => Backend::mint(&self.inner, hold).await,
            }
        })
    }

    fn upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<()>> {
        self.inner.upgrade(hold)
    }

    fn try_upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<bool>> {
        self.inner.try_upgrade(hold)
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move {
            let mut found = self.inner.inspect(target).await?;
            if self.defect == Defect::BlindInspect {
                found.holders.clear();
            }
            Ok(found)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        self.inner.list()
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        self.inner.force_release(target)
    }
}

/// Runs one case against a defect. Returns whether it failed.
fn fails(defect: Defect, name: &str) -> bool {
    let variant = case::every().into_iter().find(|variant| variant.name == name);
    let variant = variant.unwrap_or_else(|| panic!("there is no case {name}"));
    let count = Arc::new(AtomicU64::new(0));
    let connect = move |place: &str| Broken { inner: MemoryBackend::shared(place), defect, count: count.clone() };
    let under_test = Arc::new(UnderTest::new("broken", connect).short_lease(Duration::from_millis(500)));
    let case = std::thread::spawn(move || {
        let ctx = Ctx::new(under_test, format!("catches-{:016x}", random()), variant.form, &variant.name);
        variant.run(&ctx);
        ctx.finish();
    });
    case.join().is_err()
}

#[track_caller]
fn check(defect: Defect, cases: &[&str]) {
    for case in cases {
        assert!(!fails(Defect::None, case), "{case} fails without a defect");
        assert!(fails(defect, case), "{case} does not find {defect:?}");
    }
}

#[test]
fn exclusion() {
    check(Defect::NoExclusion, &["async::mutex::basic", "blocking::writer_as_mutex::excludes_other_clients"]);
    check(Defect::RareDoubleGrant, &["async::mutex::parallelism", "blocking::semaphore::parallelism"]);
}

#[test]
fn releases() {
    check(Defect::NoRelease, &["async::mutex::basic", "blocking::mutex::a_waiter_gets_it"]);
    check(Defect::ReleasesOthers, &["async::loss::a_late_release_spares_the_next_holder"]);
}

#[test]
fn abandonment() {
    check(Defect::NoAbandon, &["async::timeouts::a_lost_answer_leaves_nothing"]);
}

#[test]
fn tokens() {
    check(
        Defect::SameToken,
        &["async::tokens::mutex::increase_over_clean_releases", "async::tokens::increase_over_a_thousand_hand_offs"],
    );
}

#[test]
fn renewals() {
    check(Defect::NoRenewal, &["blocking::lease::mutex::is_renewed_while_held"]);
}

#[test]
fn names() {
    check(
        Defect::FoldsCase,
        &["async::names::mutex::case_matters", "async::names::mutex::odd_names_are_different_locks"],
    );
    check(Defect::CutsNames, &["blocking::names::writer::ten_thousand_characters"]);
}

#[test]
fn looks() {
    check(Defect::BlindInspect, &["async::inspect::mutex::shows_the_holder"]);
}
