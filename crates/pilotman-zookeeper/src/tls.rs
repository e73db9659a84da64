//! Which certificates are trusted.

use pilotman_core::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zookeeper_client::{TlsCa, TlsCerts, TlsIdentity, TlsOptions};

use crate::options::Tls;

/// What the driver is told.
pub(crate) fn options(tls: &Tls) -> Result<TlsOptions> {
    provide();
    let bad = |what: &str| Error::misconfigured(what.to_owned());
    let ca = TlsCa::from_pem(&authorities(tls)?)
        .map_err(|_| bad("no certificate authority is known that can be used").with_advice("give one, in PEM (ca)"))?;
    let mut certs = TlsCerts::builder().with_ca(ca);
    if let Some((certificate, key)) = &tls.identity {
        let text = |pem: &[u8], what: &str| std::str::from_utf8(pem).map(str::to_owned).map_err(|_| bad(what));
        let certificate = text(certificate, "the client's certificate is no PEM")?;
        let key = text(&key.0, "the client's key is no PEM")?;
        // What the driver says could quote the key.
        let identity = TlsIdentity::from_pem(&certificate, &key)
            .map_err(|_| bad("the client's certificate and key can't be used").with_advice("give both in PEM"))?;
        certs = certs.with_identity(identity);
    }
    let certs = certs.build().map_err(|_| bad("the certificates can't be used"))?;
    Ok(TlsOptions::new().with_certs(certs))
}

/// In PEM, which is what the driver reads.
fn authorities(tls: &Tls) -> Result<String> {
    let usable = |certificate: &CertificateDer<'_>| RootCertStore::empty().add(certificate.clone()).is_ok();
    match &tls.ca {
        Some(pem) => {
            let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let is_fine = read.is_ok_and(|found| found.iter().any(usable));
            match (is_fine, std::str::from_utf8(pem)) {
                (true, Ok(text)) => Ok(text.to_owned()),
                _ => Err(Error::misconfigured("the certificate authority is no PEM that can be used")),
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs().certs;
            Ok(system.iter().filter(|certificate| usable(certificate)).map(|certificate| pem(certificate)).collect())
        }
    }
}

fn pem(certificate: &[u8]) -> String {
    let text = crate::names::base64(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The driver uses the provider of the process; we set one only if nobody has.
fn provide() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody may have been faster, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Secret;

    #[test]
    fn the_systems_authorities_are_read() {
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            return;
        }
        assert!(options(&Tls::default()).is_ok());
    }

    #[test]
    fn what_is_no_certificate_is_refused_without_being_shown() {
        let ca = Tls { ca: Some((*b"hunter2").into()), identity: None };
        let error = options(&ca).unwrap_err().to_string();
        assert!(error.contains("authority") && !error.contains("hunter2"), "{error}");
        let identity = Tls { ca: None, identity: Some(((*b"x").into(), Secret((*b"hunter2").into()))) };
        let error = options(&identity).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
