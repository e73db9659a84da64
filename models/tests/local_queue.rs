//! The local queue under every interleaving of holders, waiters that give up, and its driver.
//!
//! The queue itself is the engine's own source. The model plays the parts around it as the engine does: a backend with
//! one lock, a driver that runs while the queue wants it, waiters that may cancel, holders that hand on or give back.

// The model uses a part of what the engine uses.
#[allow(dead_code, unreachable_pub)]
#[path = "../../crates/pilotman-core/src/engine/queue.rs"]
mod queue;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use queue::{Driver, Queue};

/// What a waiter looks at: whether it was given the hold.
type Slip = Arc<(Mutex<State>, Condvar)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Given,
    Gone,
}

struct Model {
    queue: Mutex<Queue<Slip>>,
    /// Whether the lock is taken at the backend, and a way to wait there.
    taken: Mutex<bool>,
    freed: Condvar,
    /// Holders inside the protected section.
    inside: AtomicUsize,
    served: AtomicUsize,
    drivers: AtomicUsize,
}

impl Model {
    /// A model whose lock another process has.
    fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::new(Some(1), true)),
            taken: Mutex::new(true),
            freed: Condvar::new(),
            inside: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            drivers: AtomicUsize::new(0),
        })
    }

    /// One attempt at the backend.
    fn take(&self) -> bool {
        !std::mem::replace(&mut *self.taken.lock().unwrap(), true)
    }

    fn wait_and_take(&self) {
        let mut taken = self.taken.lock().unwrap();
        while *taken {
            taken = self.freed.wait(taken).unwrap();
        }
        *taken = true;
    }

    fn free(&self) {
        assert!(std::mem::replace(&mut *self.taken.lock().unwrap(), false), "released what was not held");
        self.freed.notify_all();
    }

    /// What a holder does with its hold.
    fn work(&self) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
        self.served.fetch_add(1, Ordering::SeqCst);
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives a hold back: to the next waiter of this process, or to the backend.
    fn give_back(&self) {
        loop {
            let next = self.queue.lock().unwrap().hand_on();
            let Some((_, slip)) = next else {
                self.free();
                let driver = self.queue.lock().unwrap().returned();
                return self.drive_if(driver);
            };
            if self.give(&slip) {
                return;
            }
        }
    }

    /// Hands a hold to a waiter. `false`: it is gone.
    fn give(&self, slip: &Slip) -> bool {
        let mut state = slip.0.lock().unwrap();
        let waits = *state == State::Waiting;
        if waits {
            *state = State::Given;
            slip.1.notify_one();
        }
        waits
    }

    fn drive_if(&self, driver: Driver) {
        if driver == Driver::Start {
            self.drive();
        }
    }

    /// The driver. In the engine it is a task of its own; here it runs on the thread that starts it.
    fn drive(&self) {
        assert_eq!(self.drivers.fetch_add(1, Ordering::SeqCst), 0, "two drivers at once");
        loop {
            // It counts as ended as soon as the queue says so: another one may start before this line is left.
            let wanted = {
                let mut queue = self.queue.lock().unwrap();
                let wanted = queue.drive();
                if !wanted {
                    self.drivers.fetch_sub(1, Ordering::SeqCst);
                }
                wanted
            };
            if !wanted {
                return;
            }
            self.wait_and_take();
            let waiter = self.queue.lock().unwrap().grant();
            if !waiter.is_some_and(|slip| self.give(&slip)) {
                self.drivers.fetch_sub(1, Ordering::SeqCst);
                self.give_back_granted();
                self.drivers.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// A grant that nobody wants goes the way of every hold; the driver that calls this is still running, so none is
    /// started by it.
    fn give_back_granted(&self) {
        loop {
            let next = self.queue.lock().unwrap().hand_on();
            match next {
                Some((_, slip)) if self.give(&slip) => return,
                Some(_) => {}
                None => {
                    self.free();
                    let driver = self.queue.lock().unwrap().returned();
                    assert_eq!(driver, Driver::Leave, "a second driver was started");
                    return;
                }
            }
        }
    }

    /// One caller that tries once and otherwise waits, until it is served or, if it has no patience, gives up.
    fn acquire(&self, patient: bool) {
        let reserved = self.queue.lock().unwrap().reserve();
        if reserved {
            if self.take() {
                self.work();
                return self.give_back();
            }
            let driver = self.queue.lock().unwrap().unreserve();
            self.drive_if(driver);
        }
        let slip: Slip = Arc::new((Mutex::new(State::Waiting), Condvar::new()));
        let (ticket, driver) = self.queue.lock().unwrap().push(slip.clone());
        self.drive_if(driver);
        if !patient {
            let cancelled = self.queue.lock().unwrap().cancel(ticket).is_some();
            let given = {
                let mut state = slip.0.lock().unwrap();
                let given = *state == State::Given;
                *state = State::Gone;
                given
            };
            assert!(!(cancelled && given), "a waiter that was taken out of the queue was served");
            if given {
                self.give_back();
            }
            return;
        }
        let mut state = slip.0.lock().unwrap();
        while *state != State::Given {
            state = slip.1.wait(state).unwrap();
        }
        drop(state);
        self.work();
        self.give_back();
    }

    fn is_at_rest(&self) {
        let queue = self.queue.lock().unwrap();
        assert_eq!((queue.len(), queue.out()), (0, 0));
        assert!(!*self.taken.lock().unwrap(), "a hold was left behind");
        assert_eq!(self.drivers.load(Ordering::SeqCst), 0);
    }
}

fn explore(patience: &'static [bool], served: usize, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let model = Model::new();
        let threads: Vec<_> = patience
            .iter()
            .map(|&patient| {
                let model = model.clone();
                thread::spawn(move || model.acquire(patient))
            })
            .collect();
        // The other process gives the lock back at some point.
        model.free();
        for thread in threads {
            thread.join().unwrap();
        }
        model.is_at_rest();
        assert!(model.served.load(Ordering::SeqCst) >= served);
    });
}

#[test]
fn patient_waiters_are_all_served() {
    explore(&[true, true], 2, 3);
}

#[test]
fn a_waiter_that_gives_up_leaves_nothing() {
    explore(&[true, false], 1, 3);
}

#[test]
fn one_of_three_gives_up() {
    explore(&[true, false, true], 2, 2);
}
