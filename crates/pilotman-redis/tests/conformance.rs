//! The conformance suite on one Redis.

use pilotman_conformance::UnderTest;
use pilotman_redis::{RedisBackend, RedisNode};

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(UnderTest::new("redis", |place| {
        let format = format!("{place}:{{}}");
        let node = RedisNode::endpoint("127.0.0.1:6399").and_then(|node| node.key_format(format));
        node.and_then(RedisBackend::new).expect("this set-up is right")
    }))
}
