//! How a file backend is set up.

use std::path::PathBuf;

use pilotman_core::NameRule;

/// How a [`FileBackend`](crate::FileBackend) is set up.
///
/// ```
/// use pilotman_core::NameRule;
/// use pilotman_file::FileOptions;
///
/// let options = FileOptions::new("/var/lib/myjob/locks").names(NameRule::Strict).record_holder(true);
/// assert!(!options.shared);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOptions {
    /// Where the lock files are. Created with mode 0700 when the first lock is taken, if it is missing. A relative
    /// path counts from the working directory at the time when the backend is made.
    pub directory: PathBuf,
    /// How names become file names. Default: [`NameRule::DotNet`].
    pub names: NameRule,
    /// Whether several users use the directory. Without it a directory that others can write, or a lock file that
    /// belongs to another user, is refused. Default: `false`.
    pub shared: bool,
    /// Whether a holder of a mutex, a write lock or a permit notes in a file beside the lock who it is, for people who
    /// look. Costs some writes per hold. Default: `false`.
    pub record_holder: bool,
    /// What [`record_holder`](Self::record_holder) notes as the command. `None`: the name of this program. It can be
    /// read by everybody who can read the directory, so arguments with secrets don't belong here.
    pub holder_command: Option<String>,
    /// Whether each fencing token is on the disk before it is given out, so that tokens go on increasing after a power
    /// failure. Costs a flush to the disk per token. Default: `false`.
    pub durable_tokens: bool,
}

impl FileOptions {
    /// Lock files in `directory`, everything else as the defaults have it.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            names: NameRule::DotNet,
            shared: false,
            record_holder: false,
            holder_command: None,
            durable_tokens: false,
        }
    }

    /// Sets [`names`](Self::names).
    #[must_use]
    pub fn names(mut self, rule: NameRule) -> Self {
        self.names = rule;
        self
    }

    /// Sets [`shared`](Self::shared).
    #[must_use]
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Sets [`record_holder`](Self::record_holder).
    #[must_use]
    pub fn record_holder(mut self, record: bool) -> Self {
        self.record_holder = record;
        self
    }

    /// Sets [`holder_command`](Self::holder_command).
    #[must_use]
    pub fn holder_command(mut self, command: impl Into<String>) -> Self {
        self.holder_command = Some(command.into());
        self
    }

    /// Sets [`durable_tokens`](Self::durable_tokens).
    #[must_use]
    pub fn durable_tokens(mut self, durable: bool) -> Self {
        self.durable_tokens = durable;
        self
    }
}
