//! Authentication by SASL.

use pilotman_core::{Error, Result};
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::prelude::{Mechname, SASLClient, SASLConfig, SessionError};
use zookeeper_client::SaslOptions;

use crate::options::Secret;

const DIGEST_MD5: &[u8] = b"DIGEST-MD5";

/// Knows no answer; it is only to be seen whether there is something that would ask.
struct Nobody;

impl SessionCallback for Nobody {
    fn callback(&self, _: &SessionData, _: &Context<'_>, _: &mut Request<'_>) -> std::result::Result<(), SessionError> {
        Ok(())
    }
}

/// What the driver is told.
pub(crate) fn options(user: &str, password: &Secret) -> Result<SaslOptions> {
    // The driver's mechanism is in a list that the linker gathers; were it left out, the driver would panic.
    if !is_linked() {
        return Err(Error::misconfigured("this program was linked without DIGEST-MD5")
            .with_advice("link it with another linker or with lto = \"thin\", or authenticate by digest"));
    }
    let password = String::from_utf8_lossy(&password.0).into_owned();
    Ok(SaslOptions::digest_md5(user.to_owned(), password).into())
}

fn is_linked() -> bool {
    let Ok(name) = Mechname::parse(DIGEST_MD5) else { return false };
    let config = SASLConfig::builder().with_defaults().with_callback(Nobody);
    config.is_ok_and(|config| SASLClient::new(config).start_suggested(&[name]).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mechanism_is_there() {
        assert!(options("me", &Secret((*b"hunter2").into())).is_ok());
    }
}
