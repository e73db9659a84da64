//! Cycles in the graph of who waits for whom.

use std::collections::{BTreeMap, HashSet};

/// A session that waits, and the sessions that it waits for.
pub(super) type Graph = BTreeMap<i32, Vec<i32>>;

/// One cycle, as the sessions in it.
pub(super) fn cycle(graph: &Graph) -> Option<Vec<i32>> {
    let mut done = HashSet::new();
    graph.keys().find_map(|&start| from(graph, start, &mut done))
}

/// Goes on from `start` without recursion: hundreds of sessions may wait in one chain.
fn from(graph: &Graph, start: i32, done: &mut HashSet<i32>) -> Option<Vec<i32>> {
    let mut path: Vec<(i32, usize)> = vec![(start, 0)];
    while let Some((session, next)) = path.last_mut() {
        let session = *session;
        let blocker = graph.get(&session).and_then(|blockers| blockers.get(*next)).copied();
        *next += 1;
        match blocker {
            None => {
                done.insert(session);
                path.pop();
            }
            Some(blocker) => {
                if let Some(place) = path.iter().position(|&(other, _)| other == blocker) {
                    return Some(path[place..].iter().map(|&(session, _)| session).collect());
                }
                if !done.contains(&blocker) {
                    path.push((blocker, 0));
                }
            }
        }
    }
    None
}
