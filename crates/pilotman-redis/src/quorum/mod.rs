//! Redlock: locks on a quorum of independent nodes.

// Where what lives:
// - `options`: which nodes, and what is expected of them
// - `backend`: the quorum as the engine sees it
// - `set`, `member`: the nodes together, and each of them: how they are asked, clocks, quarantine
// - `entry`: who belongs to the set, as the nodes note it
// - `lock`: one lock on all nodes: keys, how many nodes it needs, answers
// - `contest`: an attempt, until a quorum has granted it
// - `tokens`: one fencing token for all nodes
// - `hold`, `renew`, `release`: what a hold stands on, renewing and filling up, giving back
// - `inspect`, `status`: who holds what; which nodes are up
// - `scripts`, and `scripts/quorum/*.lua` beside the others: what runs on each node in one step
mod backend;
mod background;
mod contest;
mod entry;
mod hold;
mod inspect;
mod lock;
mod member;
mod options;
mod release;
mod renew;
mod scripts;
mod set;
mod status;
mod tokens;

pub use backend::{QuorumWatch, RedlockBackend};
pub use options::Redlock;
pub use status::{NodeStatus, QuorumStatus};
