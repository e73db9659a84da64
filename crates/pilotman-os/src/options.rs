//! How the backend is set up.

use std::path::PathBuf;

use pilotman_core::NameRule;

/// How an [`OsBackend`](crate::OsBackend) is set up. What the system at hand has no use for is refused, not ignored.
///
/// ```
/// use pilotman_core::NameRule;
/// use pilotman_os::OsOptions;
///
/// let options = OsOptions::new().names(NameRule::Strict);
/// assert!(!options.shared);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OsOptions {
    /// How names become physical ones. Default: [`NameRule::DotNet`].
    pub names: NameRule,
    /// Whether all users of the machine share the locks. Without it they are those of this user, and nobody else can open
    /// them. Default: `false`.
    pub shared: bool,
    /// Linux: where the lock table is. Default: `/dev/shm`. Made if it is missing, with mode 0700, or 1777 with
    /// [`shared`](Self::shared).
    pub directory: Option<PathBuf>,
    /// Windows: whether the locks are those of all sessions (`Global\`) or of this one (`Local\`). Default: all.
    pub scope: Scope,
    /// Windows: whether mutexes and semaphores are the objects of the .NET library, so that its holders and ours exclude
    /// each other. Costs the crash safety: see the page of this crate. Default: `false`.
    pub dotnet_compatible: bool,
    /// Windows: who may open the objects, as a security descriptor in Microsoft's text form (SDDL). Default: this user,
    /// and with [`shared`](Self::shared) everybody who is logged on.
    pub security: Option<String>,
}

/// Which sessions of a Windows machine share the locks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// All sessions: `Global\`.
    #[default]
    Machine,
    /// This session: `Local\`.
    Session,
}

impl OsOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
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

    /// Sets [`directory`](Self::directory).
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets [`scope`](Self::scope).
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets [`dotnet_compatible`](Self::dotnet_compatible).
    #[must_use]
    pub fn dotnet_compatible(mut self, compatible: bool) -> Self {
        self.dotnet_compatible = compatible;
        self
    }

    /// Sets [`security`](Self::security).
    #[must_use]
    pub fn security(mut self, descriptor: impl Into<String>) -> Self {
        self.security = Some(descriptor.into());
        self
    }
}
