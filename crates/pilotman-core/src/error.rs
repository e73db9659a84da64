//! What went wrong, to which lock, on which backend, and what the caller can do about it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::LossReason;
use crate::votes::Votes;

/// The result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The lock was held by others until the time-out had passed. Nothing is held; try again later.
    TimedOut,
    /// The hold ended before it was released. Stop the protected work.
    Lost,
    /// The backend can't be reached or refuses to work at the moment; [`Error::is_retryable`] says whether trying
    /// again can help.
    Unavailable,
    /// Too few nodes of a quorum answered, or too few agreed.
    NoQuorum,
    /// The configuration is wrong: an option, an address, a permission, a credential. A human has to change it.
    Misconfigured,
    /// This backend can't do what was asked; its capabilities say so beforehand.
    Unsupported,
    /// The name is not one that can be locked.
    InvalidName,
    /// The server found a deadlock and chose this acquire as its victim.
    Deadlock,
    /// The [`Locks`](crate::Locks) were closed, or belong to the process that this one was forked from.
    Closed,
    /// A blocking wait was ended by its cancel token.
    Cancelled,
    /// A defect of this library or an answer that no correct server gives.
    Internal,
}

impl ErrorKind {
    /// The stable lower-case name, as it stands in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Unavailable => "unavailable",
            Self::NoQuorum => "no_quorum",
            Self::Misconfigured => "misconfigured",
            Self::Unsupported => "unsupported",
            Self::InvalidName => "invalid_name",
            Self::Deadlock => "deadlock",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// An error of a lock operation.
///
/// It is cheap to clone, holds no secret, and prints as one sentence with the lock, the backend and, where there is
/// one, the way out. [`kind`](Self::kind) says what the caller can do; [`has_no_effect`](Self::has_no_effect) whether
/// the operation certainly changed nothing.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    lock: Option<Arc<str>>,
    backend: Option<&'static str>,
    advice: Option<Cow<'static, str>>,
    retryable: bool,
    no_effect: bool,
    loss: Option<LossReason>,
    votes: Option<Arc<Votes>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what happened, without lock or backend, which are added on the way up.
    ///
    /// Time-outs and unavailability are retryable unless changed; every kind but [`ErrorKind::Unavailable`],
    /// [`ErrorKind::NoQuorum`], [`ErrorKind::Lost`] and [`ErrorKind::Internal`] is taken to have had no effect.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        use ErrorKind::*;
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            lock: None,
            backend: None,
            advice: None,
            retryable: matches!(kind, TimedOut | Unavailable | NoQuorum | Deadlock),
            no_effect: !matches!(kind, Unavailable | NoQuorum | Lost | Internal),
            loss: None,
            votes: None,
            source: None,
        }))
    }

    /// An [`ErrorKind::Unavailable`] error.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// An [`ErrorKind::Misconfigured`] error.
    pub fn misconfigured(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Misconfigured, message)
    }

    /// An [`ErrorKind::Unsupported`] error.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// An [`ErrorKind::InvalidName`] error.
    pub fn invalid_name(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidName, message)
    }

    /// An [`ErrorKind::Lost`] error.
    pub fn lost(reason: LossReason) -> Self {
        let mut error = Self::new(ErrorKind::Lost, reason.message());
        error.edit().loss = Some(reason);
        error
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Says which part of a whole the error concerns: one node of several, say. It stands before the message.
    #[must_use]
    pub fn with_part(mut self, part: &str) -> Self {
        let message = format!("{part}: {}", self.0.message);
        self.edit().message = message.into();
        self
    }

    /// Names the lock that the error concerns, unless one is named already. Long names are cut in the message.
    #[must_use]
    pub fn with_lock(mut self, lock: &str) -> Self {
        if self.0.lock.is_none() {
            self.edit().lock = Some(lock.into());
        }
        self
    }

    /// Names the backend, unless one is named already.
    #[must_use]
    pub fn with_backend(mut self, backend: &'static str) -> Self {
        if self.0.backend.is_none() {
            self.edit().backend = Some(backend);
        }
        self
    }

    /// Says what the reader can do.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.edit().advice = Some(advice.into());
        self
    }

    /// Keeps the error that caused this one. It must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.edit().source = Some(Arc::new(source));
        self
    }

    /// Keeps how the nodes of a quorum voted.
    #[must_use]
    pub fn with_votes(mut self, votes: Votes) -> Self {
        self.edit().votes = Some(Arc::new(votes));
        self
    }

    /// Says whether trying the same again can help.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.edit().retryable = retryable;
        self
    }

    /// Says that the operation certainly changed nothing (`true`), or that this isn't known (`false`).
    #[must_use]
    pub fn no_effect(mut self, no_effect: bool) -> Self {
        self.edit().no_effect = no_effect;
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying the same again can help.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether the operation certainly changed nothing at the backend.
    pub fn has_no_effect(&self) -> bool {
        self.0.no_effect
    }

    /// The name of the lock concerned.
    pub fn lock(&self) -> Option<&str> {
        self.0.lock.as_deref()
    }

    /// The backend concerned, such as `"file"`.
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// What the reader can do, as a sentence.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// Why the hold was lost, for [`ErrorKind::Lost`].
    pub fn loss(&self) -> Option<&LossReason> {
        self.0.loss.as_ref()
    }

    /// How the nodes voted, for an acquire on a quorum that came to nothing.
    pub fn votes(&self) -> Option<&Votes> {
        self.0.votes.as_deref()
    }
}

/// A name short enough for a message: the first 80 characters, control characters escaped.
pub(crate) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(lock) = &inner.lock {
            write!(f, "lock '{}'", shown(lock))?;
            if let Some(backend) = inner.backend {
                write!(f, " ({backend})")?;
            }
            f.write_str(": ")?;
        } else if let Some(backend) = inner.backend {
            write!(f, "{backend}: ")?;
        }
        f.write_str(&inner.message)?;
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        if let Some(votes) = &inner.votes {
            write!(f, ": {votes}")?;
        }
        if let Some(advice) = &inner.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{self}"))
            .field("retryable", &self.0.retryable)
            .field("no_effect", &self.0.no_effect)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_lock_backend_cause_and_way_out() {
        let error = Error::unavailable("can't create the lock file")
            .with_source(std::io::Error::other("disk full"))
            .with_advice("free some space")
            .with_lock("nightly")
            .with_backend("file");
        assert_eq!(error.to_string(), "lock 'nightly' (file): can't create the lock file: disk full; free some space");
        assert!(error.is_retryable() && !error.has_no_effect());
    }

    #[test]
    fn a_long_or_hostile_name_does_not_spoil_the_message() {
        let error = Error::invalid_name("too long").with_lock(&format!("\u{1b}[2J{}", "x".repeat(500)));
        assert!(error.to_string().len() < 200);
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
