//! What of a server's certificate is checked.

use std::sync::Arc;

use pilotman_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::options::{Postgres, TlsMode};

/// The configuration for this server.
pub(crate) fn config(postgres: &Postgres) -> Result<ClientConfig> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let algorithms = provider.signature_verification_algorithms;
    let checks = match postgres.tls {
        TlsMode::Disable | TlsMode::Prefer => None,
        TlsMode::Require if postgres.ca.is_none() => None,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let roots = Arc::new(roots(postgres)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Some(verifier.map_err(|error| bad("the certificate authorities can't be used").with_source(error))?)
        }
    };
    let verifier = Verifier { checks, names: postgres.tls == TlsMode::VerifyFull, algorithms };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("no version of TLS can be used").with_source(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = &postgres.client_certificate else { return Ok(builder.with_no_client_auth()) };
    let certificates = pem(certificate, "the client's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&key.0).map_err(|_| bad("the client's key is no PEM"))?;
    builder
        .with_client_auth_cert(certificates, key)
        .map_err(|error| bad("the client's certificate and key can't be used").with_source(error))
}

fn roots(postgres: &Postgres) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let certificates = match &postgres.ca {
        Some(ca) => pem(ca, "the certificate authority")?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(certificates);
    match added {
        0 => Err(bad("no certificate authority is known").with_advice("give one, in PEM (sslrootcert)")),
        _ => Ok(roots),
    }
}

fn pem(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(bad(format!("{what} is no PEM"))),
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::misconfigured(message.into())
}

/// Checks as much of a certificate as was asked for; always that the server has its key.
#[derive(Debug)]
struct Verifier {
    /// Whether it is of a known authority.
    checks: Option<Arc<WebPkiServerVerifier>>,
    /// Whether it is for this host.
    names: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(checks) = &self.checks else { return Ok(ServerCertVerified::assertion()) };
        match checks.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // All else has been found right before the name is looked at.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
