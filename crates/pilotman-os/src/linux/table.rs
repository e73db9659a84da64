//! The table: a file that all processes have mapped.

use std::ffi::CString;
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilotman_core::{Error, Result};
use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::directory;
use super::failure::{failed, unfit};
use super::layout::{Header, Layout, MAGIC};

const SIZE: usize = size_of::<Layout>();
/// How often opening is repeated because somebody replaces the table under our hands.
const RACES: usize = 64;
/// How long somebody may take to make the table as new, after a boot and from a slow disk.
const RENEWING: Duration = Duration::from_secs(2);

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) file: String,
    pub(crate) path: PathBuf,
    raw: CString,
    pub(crate) shared: bool,
}

impl Place {
    pub(crate) fn new(directory: &Path, shared: bool) -> Result<Self> {
        let refuse = |why: &str| Error::misconfigured(format!("the directory of the lock table {why}"));
        let directory = std::path::absolute(directory)
            .map_err(|error| refuse("is not a path").with_source(error))?
            .components()
            .collect::<PathBuf>();
        let file = match shared {
            true => "pilotman-os-1-shared".to_owned(),
            false => format!("pilotman-os-1-{}", rustix::process::geteuid().as_raw()),
        };
        let path = directory.join(&file);
        let raw = CString::new(path.as_os_str().as_bytes()).map_err(|_| refuse("contains a NUL"))?;
        Ok(Self { directory, file, path, raw, shared })
    }
}

pub(crate) struct Table {
    layout: NonNull<Layout>,
    pub(crate) place: Place,
    /// Keeps a shared `flock` for as long as the table is in use here: nobody replaces it then.
    _file: OwnedFd,
    id: (u64, u64),
}

// SAFETY: the memory is shared with other processes already; it consists of atomics only.
#[allow(unsafe_code)]
unsafe impl Send for Table {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Table {}

impl Deref for Table {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        // SAFETY: the mapping has the size of the layout, is aligned to a page, lives as long as `self`, and consists of
        // atomics, for which any bits are a valid value.
        #[allow(unsafe_code)]
        unsafe {
            self.layout.as_ref()
        }
    }
}

impl Table {
    /// Opens the table, making it if it is missing or from before the last boot.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let directory = directory::open(&place.directory, place.shared)?;
        let fail = |errno| failed("can't open the lock table", &place.path, errno);
        let here = Here::look().map_err(fail)?;
        let since = Instant::now();
        let mut races = 0;
        while races < RACES {
            races += 1;
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = match rustix::fs::openat(&directory, &*place.file, flags, Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NOENT) => {
                    create(place, &directory, &here)?;
                    continue;
                }
                Err(Errno::ACCESS) if place.shared => {
                    return Err(fail(Errno::ACCESS).with_advice(
                        "have who made the shared table open it to all users (chmod 666) or remove it, or use another \
                         directory",
                    ));
                }
                Err(errno) => return Err(fail(errno)),
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    if since.elapsed() >= RENEWING {
                        let what = format!("{} is being made as new by another process", place.path.display());
                        return Err(Error::unavailable(what).no_effect(true));
                    }
                    races -= 1;
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(errno) => return Err(fail(errno)),
            }
            let stat = rustix::fs::fstat(&file).map_err(fail)?;
            directory::judge(&place.path, &stat, place.shared, SIZE as u64)?;
            let table = Self::map(place, file, (stat.st_dev, stat.st_ino)).map_err(fail)?;
            if table.is_replaced() {
                continue;
            }
            if table.header.magic.load(Ordering::Acquire) != MAGIC {
                return Err(directory::damaged(&place.path));
            }
            match table.fits(&here) {
                Fit::Here => return Ok(table),
                // Only when nobody uses it: then nothing in it is true any more. It is not removed: in a sticky directory
                // only who made it could do that.
                unfit => match rustix::fs::flock(&table._file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) if table.is_replaced() => {}
                    Ok(()) => table.renew(&here),
                    Err(Errno::WOULDBLOCK) if unfit == Fit::OtherNamespace => return Err(other_namespace(place)),
                    Err(Errno::WOULDBLOCK) => {
                        // Others may be about to do the same, and each be in the way of all others.
                        drop(table);
                        std::thread::sleep(Duration::from_micros(500 + u64::from(std::process::id()) % 16 * 200));
                    }
                    Err(errno) => return Err(fail(errno)),
                },
            }
        }
        Err(Error::unavailable(format!("{} is replaced again and again", place.path.display())).no_effect(true))
    }

    fn map(place: &Place, file: OwnedFd, id: (u64, u64)) -> Result<Self, Errno> {
        // SAFETY: a new shared mapping, placed by the kernel, of a file that has this length.
        #[allow(unsafe_code)]
        let memory = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), SIZE, protection, MapFlags::SHARED, &file, 0)?
        };
        let layout = NonNull::new(memory.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { layout, place: place.clone(), _file: file, id })
    }

    /// Makes it as new for those who are here, while nobody else has it. If this is interrupted, it still doesn't fit,
    /// and the next one does the same.
    fn renew(&self, here: &Here) {
        // From here to the end it fits nobody.
        self.header.boot.store(!here.boot, Ordering::SeqCst);
        const WORD: usize = size_of::<AtomicU64>();
        let (all, header) = (SIZE / WORD, size_of::<Header>() / WORD);
        // SAFETY: the whole mapping, which is aligned to a page and consists of atomics, for which any bits are a valid
        // value.
        #[allow(unsafe_code)]
        let words = unsafe { std::slice::from_raw_parts(self.layout.as_ptr().cast::<AtomicU64>(), all) };
        words[header..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.header.turn.0.store(0, Ordering::Relaxed);
        self.header.unused.0.store(0, Ordering::Relaxed);
        // A last token that is far ahead of any clock was never given out.
        let last = Some(self.header.token.0.load(Ordering::Relaxed)).filter(|last| *last < u64::MAX / 2);
        self.header.token.0.store(first_token().max(last.unwrap_or(0)), Ordering::Relaxed);
        self.header.pid_namespace.store(here.pid_namespace, Ordering::SeqCst);
        self.header.boot.store(here.boot, Ordering::SeqCst);
    }

    fn fits(&self, here: &Here) -> Fit {
        if self.header.boot.load(Ordering::Relaxed) != here.boot {
            Fit::OtherBoot
        } else if self.header.pid_namespace.load(Ordering::Relaxed) != here.pid_namespace {
            Fit::OtherNamespace
        } else {
            Fit::Here
        }
    }

    /// Whether others find another table at this one's place, or none.
    pub(crate) fn is_replaced(&self) -> bool {
        match rustix::fs::statat(CWD, &self.place.raw, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => (stat.st_dev, stat.st_ino) != self.id,
            Err(Errno::NOENT | Errno::NOTDIR) => true,
            Err(errno) => {
                tracing::debug!(%errno, path = %self.place.path.display(), "the lock table can't be looked at");
                false
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and nothing borrowed from it outlives `self`.
        #[allow(unsafe_code)]
        if let Err(errno) = unsafe { rustix::mm::munmap(self.layout.as_ptr().cast(), SIZE) } {
            tracing::debug!(%errno, "the lock table stays mapped");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Here,
    OtherBoot,
    OtherNamespace,
}

/// What process numbers mean here.
struct Here {
    boot: u64,
    pid_namespace: u64,
}

impl Here {
    fn look() -> Result<Self, Errno> {
        let boot = match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            // A system without it tells no boots apart.
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
        };
        let digits: String = boot.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let namespace = rustix::fs::stat("/proc/self/ns/pid").map(|stat| stat.st_ino);
        // When a process started is told by another clock in another time namespace.
        let clock = rustix::fs::stat("/proc/self/ns/time").map_or(0, |stat| stat.st_ino);
        Ok(Self {
            boot: u64::from_str_radix(&digits, 16).unwrap_or(0),
            pid_namespace: namespace.unwrap_or(0) ^ clock.rotate_left(32),
        })
    }
}

fn other_namespace(place: &Place) -> Error {
    unfit(
        &place.path,
        "is in use by processes of another PID namespace (another container), whose death can't be seen from here",
        "let the containers share the PID namespace, give each a directory of its own, or use the file backend",
    )
}

/// Makes a table that becomes visible when it is complete. That somebody else is faster is no error.
fn create(place: &Place, directory: &OwnedFd, here: &Here) -> Result<()> {
    let fail = |errno| failed("can't make the lock table", &place.path, errno);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let temporary = format!(".{}-{}-{}", place.file, std::process::id(), now.as_nanos());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, &*temporary, flags, Mode::from_raw_mode(0o600));
    let file = file.map_err(|errno| match errno {
        Errno::ACCESS if place.shared => fail(errno).with_advice(
            "have the owner of the directory use it first, who then makes the table for all, or open it to all users \
             (chmod 1777)",
        ),
        errno => fail(errno),
    })?;
    let made = fill(place, file, here).and_then(|()| {
        match rustix::fs::linkat(directory, &*temporary, directory, &*place.file, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(fail(errno)),
        }
    });
    let removed = rustix::fs::unlinkat(directory, &*temporary, AtFlags::empty()).map_err(fail);
    made.and(removed)
}

fn fill(place: &Place, file: OwnedFd, here: &Here) -> Result<()> {
    let fail = |errno| failed("can't make the lock table", &place.path, errno);
    if !keeps_space(&file).map_err(fail)? {
        return Err(unfit(
            &place.directory,
            "is on a file system on which a mapped file is not safe",
            "use a directory on tmpfs, ext4 or xfs, such as /dev/shm",
        ));
    }
    // Allocated at once: a page that can't be had later would kill whoever touches it.
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE as u64).map_err(fail)?;
    let mode = if place.shared { 0o666 } else { 0o600 };
    // Not left to the umask.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(fail)?;
    let table = Table::map(place, file, (0, 0)).map_err(fail)?;
    table.header.boot.store(here.boot, Ordering::Relaxed);
    table.header.pid_namespace.store(here.pid_namespace, Ordering::Relaxed);
    table.header.token.0.store(first_token(), Ordering::Relaxed);
    table.header.magic.store(MAGIC, Ordering::Release);
    Ok(())
}

/// Microseconds since 1970: more than any table before has given out, unless it gave out a million a second.
fn first_token() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0)
}

/// Whether blocks that are allocated can always be written, and whether all who map the file see the same.
// The field has other types on other architectures.
#[allow(clippy::unnecessary_cast)]
fn keeps_space(file: &OwnedFd) -> Result<bool, Errno> {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    Ok([EXT, XFS, TMPFS, OVERLAY].contains(&(rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff)))
}
