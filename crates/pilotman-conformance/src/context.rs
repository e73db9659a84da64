//! What a case has to work with.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilotman_core::{Capabilities, LockOptions, Locks, Waiting};
use tokio::runtime::{Builder, Runtime};

use crate::faults::{Faults, Faulty};
use crate::surface::{Client, Form, Hold, Kind, Lock, Surface, Wait, shown};
use crate::under_test::{LoseHold, UnderTest};

/// How long something may take that takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// See the [module](self).
pub(crate) struct Ctx {
    pub(crate) under_test: Arc<UnderTest>,
    pub(crate) place: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) form: Form,
    runtime: Runtime,
    /// Unique to this case in this process.
    prefix: String,
    names: AtomicUsize,
    /// What was locked, to look at afterwards.
    used: Mutex<BTreeSet<(Kind, String)>>,
    /// Holds that stay to the end of the case.
    kept: Mutex<Vec<Hold>>,
    skipped: Mutex<Option<String>>,
}

impl Ctx {
    pub(crate) fn new(under_test: Arc<UnderTest>, place: String, form: Form, case: &str) -> Self {
        let capabilities = under_test.backend(&place).capabilities();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        // Short, since a server may limit the length of keys; random, since a server outlives this process.
        let prefix = format!("{}-{:08x}", case.rsplit("::").next().unwrap_or(case), random() as u32);
        Self {
            under_test,
            place,
            capabilities,
            form,
            runtime,
            prefix,
            names: AtomicUsize::new(0),
            used: Mutex::default(),
            kept: Mutex::default(),
            skipped: Mutex::default(),
        }
    }

    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    fn surface(&self) -> Surface {
        match self.form {
            Form::Async => Surface::Async(self.runtime.handle().clone()),
            Form::Blocking => Surface::Blocking,
        }
    }

    /// A backend of its own at the place of this run, as another process would have.
    pub(crate) fn client(&self) -> Client {
        self.client_with(LockOptions::default())
    }

    /// As [`Self::client`], with the short lease where there are leases: what is only found out by a renewal is then
    /// found out soon.
    pub(crate) fn brief_client(&self) -> Client {
        let mut options = LockOptions::default();
        options.lease = self.capabilities.lease.map(|_| self.lease());
        self.client_with(options)
    }

    fn client_with(&self, mut options: LockOptions) -> Client {
        if self.capabilities.waiting == Waiting::Poll {
            // With the default of half a second, cases with many clients would take minutes and prove no more.
            options.retry = Some(Duration::from_millis(50));
        }
        let locks = Locks::builder_shared(self.under_test.backend(&self.place)).options(options).build();
        // Connecting takes long on a busy machine, and is no part of what cases measure. What goes wrong they meet themselves.
        drop(pilotman_core::blocking::Locks::from(locks.clone()).check());
        Client { locks, surface: self.surface() }
    }

    /// As [`Self::client`], with faults in between.
    pub(crate) fn faulty(&self) -> (Client, Faults) {
        let backend = Faulty::over(self.under_test.backend(&self.place));
        let faults = backend.faults();
        (Client { locks: Locks::new(backend), surface: self.surface() }, faults)
    }

    /// A name that nobody else uses.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.prefix, self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// What is locked under this name is looked at after the case.
    pub(crate) fn watch(&self, kind: Kind, name: &str) {
        if let Kind::All(others) = &kind {
            for other in others.iter().map(String::as_str).chain([name]) {
                self.watch(Kind::Mutex, other);
            }
            return;
        }
        self.used.lock().unwrap().insert((kind, name.to_owned()));
    }

    /// A new name for a mutex, looked at after the case.
    pub(crate) fn mutex_name(&self) -> String {
        self.name_of(Kind::Mutex)
    }

    /// A new name for a lock of this kind, looked at after the case.
    pub(crate) fn name_of(&self, kind: Kind) -> String {
        let name = self.name();
        self.watch(kind, &name);
        name
    }

    /// Keeps a hold to the end of the case.
    pub(crate) fn keep(&self, hold: Hold) {
        self.kept.lock().unwrap().push(hold);
    }

    /// The case can't be run here for a reason that is no fault of the backend.
    pub(crate) fn skip(&self, reason: impl Into<String>) {
        *self.skipped.lock().unwrap() = Some(reason.into());
    }

    pub(crate) fn skipped(&self) -> Option<String> {
        self.skipped.lock().unwrap().clone()
    }

    pub(crate) fn can_lose(under_test: &UnderTest, capabilities: &Capabilities) -> bool {
        capabilities.loss && (under_test.has_lose() || capabilities.force_release)
    }

    /// Has a hold lost by means from outside. `false`: that can't be done to this kind of lock.
    pub(crate) fn lose(&self, lock: &Lock, hold: &Hold) -> bool {
        let kind = match lock.kind() {
            Kind::All(_) => &Kind::Mutex,
            kind => kind,
        };
        let (name, other) = (hold.guard().name().to_owned(), self.client());
        if self.under_test.has_lose() {
            let physical = other.locks.physical_name(&name, kind.primitive()).expect("a physical name");
            let lost = self.under_test.lose_hold(&LoseHold {
                place: &self.place,
                name: &name,
                physical: &physical,
                primitive: kind.primitive(),
                guard: hold.guard(),
            });
            if lost {
                return true;
            }
            assert!(*kind != Kind::Mutex, "`loss` is claimed, so the hook must be able to lose a mutex");
            if !self.capabilities.force_release {
                self.skip(format!("a {} lock can't be lost by the hook", kind.primitive()));
                return false;
            }
        }
        let broken = other.force_release(kind, &name).expect("force_release");
        assert!(!broken.is_empty(), "force_release found no holder of {name:?}");
        true
    }

    /// The lease of cases about leases.
    pub(crate) fn lease(&self) -> Duration {
        let min = self.capabilities.lease.map_or(Duration::ZERO, |bounds| bounds.min);
        self.under_test.short_lease.max(min)
    }

    /// Ends what the case kept, then proves that it left nothing.
    pub(crate) fn finish(self) {
        for hold in self.kept.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            // A hold that a case had lost is no longer there to release.
            drop(hold);
        }
        // What the case left running on its runtime counts as left behind if it holds anything.
        let surface = Surface::Blocking;
        let locks = Locks::builder_shared(self.under_test.backend(&self.place)).build();
        let client = Client { locks, surface };
        let used = self.used.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // All alike in a case that uses thousands.
        let step = (used.len() / 50).max(1);
        for (kind, name) in used.iter().step_by(step) {
            prove_free(&client, &self.capabilities, kind, name);
        }
        client.close();
        self.under_test.check_leaks(&self.place);
        self.runtime.shutdown_background();
    }
}

/// Proves that nothing holds or waits for a lock: it can be acquired as exclusively as it gets, and the backend knows
/// nobody afterwards.
fn prove_free(client: &Client, capabilities: &Capabilities, kind: &Kind, name: &str) {
    let (exclusive, times) = match kind {
        Kind::Reader | Kind::Writer | Kind::Upgradeable => (Kind::Writer, 1),
        Kind::Permit(permits) => (kind.clone(), (*permits).min(16)),
        other => (other.clone(), 1),
    };
    let holds: Vec<_> = (0..times)
        .map(|taken| match client.lock(exclusive.clone(), name).get(Wait::For(SOON)) {
            Ok(Some(hold)) => hold,
            Ok(None) => panic!(
                "left behind: {exclusive:?} of {:?} is not free {SOON:?} after the case ({taken} were): {:?}",
                shown(name),
                client.inspect(&exclusive, name)
            ),
            Err(error) => panic!("left behind: {exclusive:?} can't be acquired after the case: {error}"),
        })
        .collect();
    holds.into_iter().for_each(Hold::release);
    if !capabilities.inspect {
        return;
    }
    eventually(SOON, "no holder and no waiter is left", || {
        let found = client.inspect(&exclusive, name).unwrap_or_else(|error| panic!("inspect: {error}"));
        match found.holders.is_empty() && found.waiters.is_none_or(|waiters| waiters == 0) {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    });
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(limit: Duration, what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    loop {
        match look() {
            Ok(()) => return,
            Err(found) if start.elapsed() > limit => panic!("not within {limit:?}: {what}; found {found}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the operating system gives no random numbers")
}
