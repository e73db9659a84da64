//! The conformance suite on a primary that Sentinels name, with a replica that has to acknowledge each write.

mod suite;

use std::time::Duration;

use pilotman_redis::RedisNode;
use pilotman_testkit::servers::redis::SERVICE;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(
        suite::server("redis-sentinel", |place| {
            Ok(RedisNode::sentinel(place.addresses(), SERVICE)?.wait_replicas(1, Duration::from_secs(1)))
        })
        .async_only(),
    )
}
