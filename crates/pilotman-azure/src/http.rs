//! The client beneath the SDK: rustls, no redirects, and limits that suit leases.

use std::sync::Arc;
use std::time::Duration;

use azure_core::http::{HttpClient, Url};
use pilotman_core::{Error, Result};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Connections that nobody used for so long are closed: those between end them after a few minutes without a word.
const IDLE: Duration = Duration::from_secs(60);

/// A client for this endpoint.
pub(crate) fn client(endpoint: &Url, ca: Option<&[u8]>, connect_timeout: Duration) -> Result<Arc<dyn HttpClient>> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE)
        .tls_backend_preconfigured(config(endpoint, ca)?);
    if is_loopback(endpoint) {
        builder = builder.no_proxy();
    }
    let client = builder.build().map_err(|error| {
        // What can fail here is how proxies are named in the environment, whose URLs may hold passwords.
        Error::misconfigured("no HTTP client can be made").with_source(error.without_url())
    })?;
    Ok(Arc::new(client))
}

fn is_loopback(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn config(endpoint: &Url, ca: Option<&[u8]>) -> Result<ClientConfig> {
    let bad = |what: &'static str| Error::misconfigured(what);
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut roots = RootCertStore::empty();
    // Reading the system's takes a while, for nothing where there is no TLS.
    if endpoint.scheme() == "https" {
        let certificates = match ca {
            Some(pem) => match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
                Ok(certificates) if !certificates.is_empty() => certificates,
                _ => return Err(bad("the certificate authority is no PEM")),
            },
            None => rustls_native_certs::load_native_certs().certs,
        };
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(bad("no certificate authority is known").with_advice("give one, in PEM (ca-file)"));
        }
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("no version of TLS can be used").with_source(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_not_asked_for_this_machine() {
        for (url, expected) in [
            ("http://127.0.0.1:1/a", true),
            ("https://[::1]/a", true),
            ("http://localhost/a", true),
            ("https://h", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn certificates_are_read_beforehand() {
        let url = Url::parse("https://h").unwrap();
        let error = client(&url, Some(b"hunter2"), IDLE).unwrap_err().to_string();
        assert!(error.contains("no PEM") && !error.contains("hunter2"), "{error}");
    }
}
