//! The conformance suite on a cluster of three nodes.

mod suite;

use pilotman_redis::RedisNode;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(
        suite::server("redis-cluster", |place| RedisNode::cluster(place.addresses())).async_only(),
    )
}
