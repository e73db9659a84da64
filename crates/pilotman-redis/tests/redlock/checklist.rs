//! The checklist of what RedLock.net tests and of what nobody does. What is in which file:
//!
//! | line | test |
//! |---|---|
//! | three of five, three of six, overlap, sequence, race, renewal counts, crash, cancel, password, database, key format, TLS, client handed in, no nodes | `parity` |
//! | one node hangs | [`hung`] |
//! | acquired at a second attempt, then renewed (#97); an extension resurrects nothing (#48); out of memory or read-only at a renewal; the shortest lease; 10 000 holds; a dropped guard | [`renewal`] |
//! | told of the loss before another can acquire: hung holder, clocks, restarts, promotion | [`loss`], `faults` |
//! | an even number ties; a crash among 100 000 expiring keys; order with a node missing | [`waiting`] |
//! | tokens over restart, failover, rotation | [`tokens`] |
//! | released twice, after the end | [`release`] |
//! | key format without a placeholder | here; and `tests/redis/bad_input.rs`, since each node has a format of its own |

mod hung;
mod loss;
mod release;
mod renewal;
mod tokens;
mod waiting;

use pilotman_core::ErrorKind;
use pilotman_redis::RedisNode;

use crate::common::assert_says;

#[test]
fn key_format_without_placeholder_is_rejected() {
    let formats = ["redlock:", "", "{}{0}", "x{1}"];
    for format in formats {
        let error = RedisNode::endpoint("10.0.0.1").unwrap().key_format(format).unwrap_err();
        assert_says(&error, ErrorKind::Misconfigured, &["placeholder", "redlock:{}"]);
    }
}
