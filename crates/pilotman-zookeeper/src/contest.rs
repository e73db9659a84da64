//! Whose turn it is, by the children of a lock's node. No I/O.

use crate::layout::{Kind, Layout};
use crate::sequence;

/// A node that stands for a hold or a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sibling {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) number: i32,
}

/// Those of one queue, oldest first. `Err`: their numbers don't tell which is the oldest; see [`sequence::sort`].
pub(crate) fn queue(layout: Layout, kind: Kind, children: &[String]) -> Result<Vec<Sibling>, Vec<Sibling>> {
    let sibling = |name: &String| {
        let (other, number) = layout.parse(name)?;
        kind.is_in_one_queue_with(other).then(|| Sibling { name: name.clone(), kind: other, number })
    };
    let mut siblings: Vec<Sibling> = children.iter().filter_map(sibling).collect();
    match sequence::sort(&mut siblings, |sibling| sibling.number) {
        Ok(()) => Ok(siblings),
        Err(()) => Err(siblings),
    }
}

/// How one node stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is our turn.
    Ours,
    /// Our node is not there.
    Vanished,
    /// Until this node has gone. `last`: then it is our turn, nobody else stands before us.
    Behind { name: String, last: bool },
    /// Until this node has its permit or has gone: a waiter for a permit.
    BehindWaiter { name: String },
    /// Until any node goes: the first waiter for a permit.
    First,
}

/// How the node of this name stands in its queue; `permits` is for semaphores.
pub(crate) fn standing(queue: &[Sibling], own: &str, permits: usize) -> Standing {
    let Some(at) = queue.iter().position(|sibling| sibling.name == own) else { return Standing::Vanished };
    let before = &queue[..at];
    match queue[at].kind {
        Kind::Mutex | Kind::Write => match before {
            [] => Standing::Ours,
            [.., last] => Standing::Behind { name: last.name.clone(), last: before.len() == 1 },
        },
        Kind::Read => {
            let mut writers = before.iter().filter(|sibling| sibling.kind == Kind::Write);
            match (writers.next_back(), writers.next()) {
                (None, _) => Standing::Ours,
                (Some(writer), other) => Standing::Behind { name: writer.name.clone(), last: other.is_none() },
            }
        }
        Kind::Permit => match before {
            _ if at < permits => Standing::Ours,
            _ if at == permits => Standing::First,
            [.., last] => Standing::BehindWaiter { name: last.name.clone() },
            [] => Standing::First,
        },
    }
}

/// Who of a queue holds the lock; the others wait.
pub(crate) fn holders(queue: &[Sibling], permits: usize) -> usize {
    match queue.first().map(|sibling| sibling.kind) {
        None => 0,
        Some(Kind::Mutex | Kind::Write) => 1,
        Some(Kind::Read) => queue.iter().take_while(|sibling| sibling.kind == Kind::Read).count(),
        Some(Kind::Permit) => queue.len().min(permits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], kind: Kind) -> Vec<Sibling> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        queue(Layout::DotNet, kind, &names).unwrap()
    }

    fn behind(name: &str, last: bool) -> Standing {
        Standing::Behind { name: name.to_owned(), last }
    }

    #[test]
    fn a_mutex_goes_by_age() {
        let queue = of(&["lock-0000000003", "read-0000000001", "lock-0000000002", "lock-0000000004", "x"], Kind::Mutex);
        assert_eq!(queue.len(), 3);
        assert_eq!(standing(&queue, "lock-0000000002", 1), Standing::Ours);
        assert_eq!(standing(&queue, "lock-0000000003", 1), behind("lock-0000000002", true));
        assert_eq!(standing(&queue, "lock-0000000004", 1), behind("lock-0000000003", false));
        assert_eq!(standing(&queue, "lock-0000000009", 1), Standing::Vanished);
        assert_eq!(holders(&queue, 1), 1);
    }

    #[test]
    fn readers_wait_for_the_last_writer_before_them() {
        let names = [
            "read-0000000001",
            "read-0000000002",
            "write-0000000003",
            "read-0000000004",
            "write-0000000005",
            "read-0000000006",
        ];
        let queue = of(&names, Kind::Read);
        assert_eq!(standing(&queue, names[1], 1), Standing::Ours);
        assert_eq!(standing(&queue, names[2], 1), behind(names[1], false));
        assert_eq!(standing(&queue, names[3], 1), behind(names[2], true));
        assert_eq!(standing(&queue, names[5], 1), behind(names[4], false));
        assert_eq!(holders(&queue, 1), 2);
    }

    #[test]
    fn permits_go_to_the_oldest() {
        let names = ["semaphore-0000000001", "semaphore-0000000002", "semaphore-0000000003", "semaphore-0000000004"];
        let queue = of(&names, Kind::Permit);
        assert_eq!(standing(&queue, names[1], 2), Standing::Ours);
        assert_eq!(standing(&queue, names[2], 2), Standing::First);
        assert_eq!(standing(&queue, names[3], 2), Standing::BehindWaiter { name: names[2].to_owned() });
        assert_eq!(holders(&queue, 2), 2);
        assert_eq!(holders(&queue, 9), 4);
    }

    #[test]
    fn the_order_goes_on_after_the_greatest_number() {
        let queue = of(&["lock--2147483648", "lock-2147483647"], Kind::Mutex);
        assert_eq!(standing(&queue, "lock-2147483647", 1), Standing::Ours);
        assert_eq!(standing(&queue, "lock--2147483648", 1), behind("lock-2147483647", true));
    }
}
