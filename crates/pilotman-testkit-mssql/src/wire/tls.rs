//! The server's certificate, and the configuration of its TLS.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pilotman_testkit::certificates::Certificates;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// TLS in TDS packets, as servers before TDS 8 speak it.
pub(crate) fn config(directory: &Path) -> io::Result<Arc<ServerConfig>> {
    let files = Certificates::of(directory);
    let certificate = CertificateDer::from_pem_slice(&fs::read(&files.server)?).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(&files.server_key)?).map_err(io::Error::other)?;
    // TLS 1.3 comes with TDS 8 only: its first messages after the handshake would have no place in TDS packets.
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
