//! The conformance suite over TLS, as a user whom an access-control list lets do what a lock needs and no more.

mod suite;

use std::path::Path;

use pilotman_redis::RedisNode;
use pilotman_testkit::certificates::Certificates;
use pilotman_testkit::servers::redis::{LOCKER, LOCKER_PASSWORD};

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(
        suite::server("redis-tls", |place| {
            let certificates = Certificates::of(Path::new(&place.directory));
            // Not there yet while only the claims are asked for.
            let read = |file: &Path| std::fs::read(file).unwrap_or_default();
            let node = RedisNode::endpoint(&place.addresses()[0])?
                .username(LOCKER)
                .password(LOCKER_PASSWORD)
                .ca(read(&certificates.ca))
                .client_certificate(read(&certificates.client), read(&certificates.client_key));
            Ok(node)
        })
        .async_only(),
    )
}
