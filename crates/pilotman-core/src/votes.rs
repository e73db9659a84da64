//! How the nodes of a quorum stand to a lock.

use std::fmt;

use crate::Error;

/// How each node of a quorum answered. On backends that have but one server there are no votes.
///
/// It is found on a guard ([`Guard::votes`](crate::Guard::votes)) and on the errors of acquires that came to nothing
/// ([`Error::votes`]).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Votes {
    /// So many nodes must grant the lock.
    pub needed: usize,
    /// Each node, in the order in which they were configured.
    pub nodes: Vec<NodeVote>,
}

/// How one node answered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeVote {
    /// The node, as it was configured.
    pub node: String,
    /// Its answer.
    pub vote: Vote,
}

/// The answer of one node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Vote {
    /// It granted the lock.
    Granted,
    /// Others have the lock there.
    Conflicted,
    /// It granted the lock, but its grants don't count at the moment: it may have forgotten others.
    SetAside,
    /// It could not be asked, or refused.
    Failed(Error),
    /// It had not answered when the matter was decided.
    Open,
}

/// What votes come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Enough nodes granted the lock.
    Acquired,
    /// Enough nodes answered, but others have the lock on too many of them. Also if the answers of the rest could not have
    /// made a difference and were not waited for.
    Conflicted,
    /// Too few nodes answered, or too few of those whose answers count.
    NoQuorum,
}

impl Votes {
    /// Votes of these nodes, of which so many are needed.
    pub fn new(needed: usize, nodes: impl IntoIterator<Item = (String, Vote)>) -> Self {
        Self { needed, nodes: nodes.into_iter().map(|(node, vote)| NodeVote { node, vote }).collect() }
    }

    fn count(&self, which: impl Fn(&Vote) -> bool) -> usize {
        self.nodes.iter().filter(|node| which(&node.vote)).count()
    }

    /// How many nodes granted the lock.
    pub fn granted(&self) -> usize {
        self.count(|vote| matches!(vote, Vote::Granted))
    }

    /// On how many nodes others have the lock.
    pub fn conflicted(&self) -> usize {
        self.count(|vote| matches!(vote, Vote::Conflicted))
    }

    /// How many nodes could not be asked, refused, or had no say.
    pub fn failed(&self) -> usize {
        self.count(|vote| matches!(vote, Vote::Failed(_) | Vote::SetAside))
    }

    /// What they come to.
    pub fn verdict(&self) -> Verdict {
        let (granted, conflicted) = (self.granted(), self.conflicted());
        let open = self.count(|vote| matches!(vote, Vote::Open));
        // The holders of these nodes alone stand in the way, whatever those say that have not answered yet.
        let barred = conflicted + self.needed > self.nodes.len();
        match granted + conflicted {
            _ if granted >= self.needed => Verdict::Acquired,
            answered if answered >= self.needed || barred && answered + open >= self.needed => Verdict::Conflicted,
            _ => Verdict::NoQuorum,
        }
    }
}

impl Verdict {
    /// The stable lower-case name, as it stands in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquired => "acquired",
            Self::Conflicted => "conflicted",
            Self::NoQuorum => "no_quorum",
        }
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::Conflicted => f.write_str("others have it"),
            Self::SetAside => f.write_str("has no say at the moment"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Open => f.write_str("no answer yet"),
        }
    }
}

impl fmt::Display for Votes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} nodes granted it, {} needed", self.granted(), self.nodes.len(), self.needed)?;
        for (at, NodeVote { node, vote }) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}: {vote}", if at == 0 { " (" } else { "; " })?;
        }
        if self.nodes.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(nodes: &[Vote]) -> Votes {
        Votes::new(nodes.len() / 2 + 1, nodes.iter().enumerate().map(|(at, vote)| (format!("n{at}"), vote.clone())))
    }

    #[test]
    fn votes_come_to_what_redlock_says() {
        let failed = || Vote::Failed(Error::unavailable("down"));
        let of = |nodes: &[Vote]| votes(nodes).verdict();
        assert_eq!(of(&[Vote::Granted, Vote::Granted, failed()]), Verdict::Acquired);
        assert_eq!(of(&[Vote::Granted, Vote::Conflicted, failed()]), Verdict::Conflicted);
        assert_eq!(of(&[Vote::Granted, failed(), failed()]), Verdict::NoQuorum);
        assert_eq!(of(&[Vote::Granted, Vote::SetAside, failed()]), Verdict::NoQuorum);
        assert_eq!(of(&[Vote::Granted, Vote::Granted, Vote::Conflicted, Vote::Conflicted]), Verdict::Conflicted);
        assert_eq!(of(&[Vote::Conflicted, failed()]), Verdict::NoQuorum);
    }

    #[test]
    fn who_has_not_answered_counts_only_where_it_would_matter() {
        let of = |nodes: &[Vote]| votes(nodes).verdict();
        assert_eq!(of(&[Vote::Conflicted, Vote::Open]), Verdict::Conflicted, "the open one could not have helped");
        assert_eq!(of(&[Vote::Conflicted, Vote::Open, Vote::Open]), Verdict::NoQuorum);
        assert_eq!(of(&[Vote::Conflicted, Vote::Conflicted, Vote::Open, Vote::Open]), Verdict::Conflicted);
        let failed = Vote::Failed(Error::unavailable("down"));
        assert_eq!(of(&[Vote::Conflicted, Vote::Conflicted, Vote::Open, failed]), Verdict::Conflicted);
        assert_eq!(of(&[Vote::Granted, Vote::Open]), Verdict::NoQuorum);
    }

    #[test]
    fn a_summary_names_each_node() {
        let shown = votes(&[Vote::Granted, Vote::Conflicted, Vote::Open]).to_string();
        assert_eq!(shown, "1 of 3 nodes granted it, 2 needed (n0: granted; n1: others have it; n2: no answer yet)");
    }
}
