//! Kernel objects: what is refused, and what holders of the .NET library and ours are to each other.
#![cfg(windows)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotman_core::blocking::Locks;
use pilotman_core::{ErrorKind, NameRule, Primitive};
use pilotman_os::{OsBackend, OsOptions, Scope};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    CreateEventW, CreateSemaphoreW, ReleaseSemaphore, SetEvent, WaitForSingleObject,
};

const LONG: Duration = Duration::from_secs(60);
const ROLE: &str = "PILOTMAN_OS_TEST_ROLE";

fn with(options: OsOptions) -> Locks {
    Locks::from(pilotman_core::Locks::builder_shared(Arc::new(OsBackend::new(options).unwrap())).build())
}

fn dotnet() -> Locks {
    with(OsOptions::new().dotnet_compatible(true))
}

/// A name that no other run has.
fn unique(test: &str) -> String {
    format!("pilotman-test-{test}-{}", std::process::id())
}

/// As the .NET library makes and uses it, step by step.
struct Foreign(HANDLE);

impl Foreign {
    fn event(name: &str) -> Self {
        let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a zero.
        #[allow(unsafe_code)]
        Self::made(unsafe { CreateEventW(std::ptr::null(), 0, 1, name.as_ptr()) })
    }

    fn semaphore(name: &str, permits: i32) -> Self {
        let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a zero.
        #[allow(unsafe_code)]
        Self::made(unsafe { CreateSemaphoreW(std::ptr::null(), permits, permits, name.as_ptr()) })
    }

    fn made(handle: HANDLE) -> Self {
        assert!(!handle.is_null(), "{}", std::io::Error::last_os_error());
        Self(handle)
    }

    fn take(&self) -> bool {
        // SAFETY: the handle is open.
        #[allow(unsafe_code)]
        let result = unsafe { WaitForSingleObject(self.0, 0) };
        result == WAIT_OBJECT_0
    }

    fn set(&self) {
        // SAFETY: the handle is open.
        #[allow(unsafe_code)]
        let done = unsafe { SetEvent(self.0) };
        assert_ne!(done, 0);
    }

    fn post(&self) {
        // SAFETY: the handle is open.
        #[allow(unsafe_code)]
        let done = unsafe { ReleaseSemaphore(self.0, 1, std::ptr::null_mut()) };
        assert_ne!(done, 0);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and not used after this.
        #[allow(unsafe_code)]
        let closed = unsafe { CloseHandle(self.0) };
        assert_ne!(closed, 0);
    }
}

#[test]
fn options_of_linux_and_nonsense_are_refused() {
    for options in [
        OsOptions::new().directory("C:\\locks"),
        OsOptions::new().security("nonsense"),
        OsOptions::new().dotnet_compatible(true).scope(Scope::Session),
    ] {
        assert_eq!(OsBackend::new(options).unwrap_err().kind(), ErrorKind::Misconfigured);
    }
    let shared = with(OsOptions::new().shared(true)).mutex(unique("shared")).try_acquire().unwrap();
    assert!(shared.is_some());
    let described = with(OsOptions::new().security("D:(A;;GA;;;WD)")).mutex(unique("sddl")).try_acquire().unwrap();
    assert!(described.is_some());
}

#[test]
fn names() {
    let locks = with(OsOptions::new());
    let base = unique("names");
    let long = "x".repeat(300);
    for name in [format!(r"{base}\b"), format!(r"Global\{base}"), format!("{base}{long}"), format!("{base}/:é")] {
        assert!(locks.mutex(&name).try_acquire().unwrap().is_some(), "{name}");
        assert!(locks.semaphore(&name, 3).try_acquire().unwrap().is_some(), "{name}");
    }
    let physical = |locks: &Locks, name: &str| locks.physical_name(name, Primitive::Mutex).unwrap();
    assert_eq!(physical(&locks, "abc"), r"Global\abc");
    assert_eq!(physical(&with(OsOptions::new().scope(Scope::Session)), "abc"), r"Local\abc");
    let exact = with(OsOptions::new().names(NameRule::Exact));
    for bad in ["abc", r"Global\", r"Global\a\b", r"global\abc", &format!(r"Global\{long}")] {
        assert_eq!(exact.mutex(bad).try_acquire().map(drop).unwrap_err().kind(), ErrorKind::InvalidName, "{bad}");
    }
    let held = exact.mutex(format!(r"Global\{base}")).try_acquire().unwrap();
    assert!(held.is_some() && locks.mutex(&base).try_acquire().unwrap().is_none());
}

#[test]
fn an_object_of_another_kind_is_told() {
    let name = unique("kind");
    let foreign = Foreign::event(&format!(r"Global\{name}"));
    let error = with(OsOptions::new()).mutex(&name).try_acquire().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("another kind") && error.has_no_effect(), "{error}");
    let error = dotnet().semaphore(&name, 2).try_acquire().map(drop).unwrap_err();
    assert!(error.to_string().contains("another kind"), "{error}");
    drop(foreign);
    assert!(with(OsOptions::new()).mutex(&name).try_acquire().unwrap().is_some());
}

#[test]
fn holders_of_dotnet_and_ours_exclude_each_other() {
    let name = unique("mutex");
    let ours = dotnet();
    let foreign = Foreign::event(&format!(r"Global\{name}"));
    assert!(foreign.take());
    assert!(ours.mutex(&name).try_acquire().unwrap().is_none());
    let waiting = ours.mutex(&name);
    let waiter = std::thread::spawn(move || waiting.acquire().unwrap());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiter.is_finished());
    foreign.set();
    let guard = waiter.join().unwrap();
    assert!(!foreign.take(), "ours keeps it out");
    guard.release().unwrap();
    assert!(foreign.take());
    foreign.set();

    let name = unique("semaphore");
    let foreign = Foreign::semaphore(&format!(r"Global\{name}"), 2);
    assert!(foreign.take());
    let guard = ours.semaphore(&name, 2).try_acquire().unwrap();
    assert!(guard.is_some() && !foreign.take());
    assert!(ours.semaphore(&name, 2).try_acquire().unwrap().is_none());
    drop(guard);
    ours.close();
    assert!(foreign.take());
    foreign.post();
    foreign.post();
    let error = ours.semaphore(&name, u32::MAX).try_acquire().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[test]
fn a_wait_that_is_given_up_loses_no_signal() {
    let ours = dotnet();
    let name = unique("signal");
    let guard = ours.mutex(&name).acquire().unwrap();
    for _ in 0..20 {
        assert!(ours.mutex(&name).try_acquire_for(Duration::from_millis(5)).unwrap().is_none());
    }
    guard.release().unwrap();
    assert!(ours.mutex(&name).try_acquire_for(LONG).unwrap().is_some());
}

#[test]
fn a_permit_of_very_many_is_found_soon() {
    const PERMITS: u32 = 1500;
    let locks = with(OsOptions::new());
    let name = unique("many");
    let semaphore = locks.semaphore(&name, PERMITS);
    let mut held: Vec<_> = (0..PERMITS)
        .map(|number| semaphore.try_acquire().unwrap().unwrap_or_else(|| panic!("permit {number} is not found")))
        .collect();
    assert!(semaphore.try_acquire().unwrap().is_none());
    let target = Primitive::Permit(PERMITS.try_into().unwrap());
    assert_eq!(locks.inspect(&name, target).unwrap().holders.len(), PERMITS as usize);
    // Each time another one, which few of the objects that are waited for would be.
    let start = Instant::now();
    for number in [7, 700, 1400, 333, 1111, 99] {
        let waiting = semaphore.clone();
        let waiter = std::thread::spawn(move || waiting.try_acquire_for(LONG).unwrap());
        std::thread::sleep(Duration::from_millis(30));
        held.swap_remove(number).release().unwrap();
        held.push(waiter.join().unwrap().expect("a permit is free"));
    }
    println!("six of {PERMITS} permits were found within {:?}", start.elapsed());
    // A look at 32 of them after each tenth of a second would take half a minute.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn people_see_what_is_held() {
    let base = unique("seen");
    let locks = with(OsOptions::new());
    let physical = locks.physical_name(&base, Primitive::Mutex).unwrap();
    let listed = |locks: &Locks, physical: &str| {
        let mut list = locks.list().unwrap();
        list.retain(|found| found.physical == physical);
        list.pop().map(|found| (found.name, found.holders.len()))
    };
    assert_eq!(listed(&locks, &physical), None);
    let guard = locks.mutex(&base).acquire().unwrap();
    // A look is no attempt: it is nobody's while it is looked at, however often.
    let looking = locks.clone();
    let looked = base.clone();
    let looker = std::thread::spawn(move || {
        (0..200).for_each(|_| assert_eq!(looking.inspect(&looked, Primitive::Mutex).unwrap().waiters, None));
    });
    assert_eq!(listed(&locks, &physical), Some((Some(base.clone()), 1)));
    guard.release().unwrap();
    while !looker.is_finished() {
        assert!(locks.mutex(&base).try_acquire().unwrap().is_some(), "the look is in the way");
    }
    looker.join().unwrap();
    assert_eq!(listed(&locks, &physical), None);

    let permits: Vec<_> = (0..2).map(|_| locks.semaphore(&base, 3).acquire().unwrap()).collect();
    let physical = locks.physical_name(&base, Primitive::Permit(3.try_into().unwrap())).unwrap();
    assert_eq!(listed(&locks, &physical), Some((None, 2)));
    drop(permits);
    let session = with(OsOptions::new().scope(Scope::Session));
    let strict = with(OsOptions::new().names(NameRule::Strict));
    let exact = with(OsOptions::new().names(NameRule::Exact));
    for (locks, name, shown) in [
        (&session, base.clone(), Some(base.clone())),
        (&strict, base.clone(), None),
        (&exact, format!(r"Local\{base}-x"), Some(format!(r"Local\{base}-x"))),
        (&exact, format!(r"Global\{base}-x"), Some(format!(r"Global\{base}-x"))),
    ] {
        let _held = locks.mutex(&name).acquire().unwrap();
        let physical = locks.physical_name(&name, Primitive::Mutex).unwrap();
        assert_eq!(listed(locks, &physical), Some((shown, 1)), "{physical}");
    }

    assert_eq!(dotnet().list().unwrap_err().kind(), ErrorKind::Unsupported);
    let refused = locks.force_release(&base, Primitive::Mutex).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("only the thread that has a lock") && refused.advice().is_some(), "{refused}");
}

fn holder(test: &str, name: &str) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    child.unwrap()
}

/// What a waiter finds after the holder is killed, and how long that takes.
fn after_a_kill(test: &str, locks: &Locks) {
    if let Ok(name) = std::env::var(ROLE) {
        let _guard = locks.mutex(&name).acquire().unwrap();
        std::thread::sleep(LONG * 2);
    }
    let name = unique(test);
    let mut child = holder(test, &name);
    let start = Instant::now();
    while locks.mutex(&name).try_acquire().unwrap().is_some() {
        assert!(start.elapsed() < LONG, "the other process never has it");
        std::thread::sleep(Duration::from_millis(20));
    }
    let waiting = locks.mutex(&name);
    let waiter = std::thread::spawn(move || waiting.try_acquire_for(LONG).unwrap());
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    child.kill().unwrap();
    assert!(waiter.join().unwrap().is_some());
    println!("{test}: free {:?} after the kill", start.elapsed());
    child.wait().unwrap();
}

#[test]
fn a_mutex_of_a_killed_holder_is_free_at_once() {
    after_a_kill("a_mutex_of_a_killed_holder_is_free_at_once", &with(OsOptions::new()));
}

#[test]
fn an_event_of_a_killed_holder_is_free_after_the_abandonment_check() {
    after_a_kill("an_event_of_a_killed_holder_is_free_after_the_abandonment_check", &dotnet());
}
