//! Which certificates are trusted.

use mysql_async::SslOpts;
use pilotman_core::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::options::{MySql, TlsMode};

/// What the driver is told; `None`: no TLS.
pub(crate) fn options(mysql: &MySql) -> Result<Option<SslOpts>> {
    let checks = match mysql.tls {
        TlsMode::Disable => return Ok(None),
        TlsMode::Prefer => false,
        TlsMode::Require => mysql.ca.is_some(),
        TlsMode::VerifyFull => true,
    };
    provide();
    let mut options = SslOpts::default();
    if checks {
        let roots = roots(mysql)?.into_iter().map(|root| root.as_ref().to_vec().into()).collect();
        options = options.with_root_certs(roots).with_disable_built_in_roots(true);
    } else {
        options = options.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
    }
    if let Some(name) = &mysql.tls_name {
        options = options.with_danger_tls_hostname_override(Some(name.clone()));
    }
    if let Some((certificate, key)) = &mysql.client_certificate {
        let identity = mysql_async::ClientIdentity::new(certificate.to_vec().into(), key.0.to_vec().into());
        options = options.with_client_identity(Some(identity));
    }
    Ok(Some(options))
}

fn roots(mysql: &MySql) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |what: &str| Error::misconfigured(what.to_owned());
    let mut certificates = match &mysql.ca {
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad("the certificate authority is no PEM"))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    // The driver would fail with one that it can't use; of the system's, some may be so.
    certificates.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    match certificates.is_empty() {
        true => Err(bad("no certificate authority is known that can be used").with_advice("give one, in PEM (ca)")),
        false => Ok(certificates),
    }
}

/// The driver uses the provider of the process; we set one only if nobody has.
fn provide() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody may have been faster, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}
