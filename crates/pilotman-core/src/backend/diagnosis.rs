//! What a look at a backend's set-up found.

use std::fmt;

/// How much a [`Finding`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It is as it should be.
    Fine,
    /// Worth knowing: what this set-up doesn't promise, or what could not be looked at.
    Note,
    /// It works, but something that happens in operation can cost locks.
    Warning,
    /// Locks fail or are not safe until this is put right.
    Problem,
}

impl Severity {
    /// The stable lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that a backend found out about its own set-up.
///
/// ```
/// use pilotman_core::backend::{Finding, Severity};
///
/// let finding = Finding::problem("eviction", "locks are evicted when the memory is full").advice("use noeviction");
/// assert_eq!(finding.severity, Severity::Problem);
/// assert_eq!(finding.to_string(), "problem: eviction: locks are evicted when the memory is full; use noeviction");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The server that it concerns; `None` if it concerns all of them together.
    pub node: Option<String>,
    /// What it is about: a stable lower-case word for programs, such as `eviction`.
    pub about: &'static str,
    /// What was found, for people. It holds no secret.
    pub what: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(severity: Severity, about: &'static str, what: impl Into<String>) -> Self {
        Self { severity, node: None, about, what: what.into(), advice: None }
    }

    /// It is as it should be.
    #[must_use]
    pub fn fine(about: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Fine, about, what)
    }

    /// Something worth knowing.
    #[must_use]
    pub fn note(about: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Note, about, what)
    }

    /// Something that can cost locks.
    #[must_use]
    pub fn warning(about: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, about, what)
    }

    /// Something that must be put right.
    #[must_use]
    pub fn problem(about: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Problem, about, what)
    }

    /// Says which server it concerns.
    #[must_use]
    pub fn at(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        write!(f, "{}: {}", self.about, self.what)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_more_is_more() {
        use Severity::{Fine, Note, Problem, Warning};
        assert!(Fine < Note && Note < Warning && Warning < Problem);
        assert_eq!([Fine, Note, Warning, Problem].map(Severity::as_str), ["fine", "note", "warning", "problem"]);
    }

    #[test]
    fn a_finding_reads_as_one_line() {
        let finding = Finding::warning("clock", "it is 2 s ahead").at("10.0.0.1:6379").advice("run NTP");
        assert_eq!(finding.to_string(), "warning: 10.0.0.1:6379: clock: it is 2 s ahead; run NTP");
    }
}
