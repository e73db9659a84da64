//! A certificate authority of a test's own, with a certificate for a server on loopback and one for a client.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The name of the host in the server's certificate. Its address, 127.0.0.1, is there, too.
pub const HOST: &str = "localhost";

/// Where the PEM files of one authority are. They go with the directory that they were made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The authority's certificate: what the other side has to trust.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost` and `127.0.0.1`.
    pub server: PathBuf,
    /// The key of the server's certificate.
    pub server_key: PathBuf,
    /// A client's certificate.
    pub client: PathBuf,
    /// The key of the client's certificate.
    pub client_key: PathBuf,
}

impl Certificates {
    /// The files as [`Self::make`] names them in `directory`.
    pub fn of(directory: &Path) -> Self {
        Self {
            ca: directory.join("ca.pem"),
            server: directory.join("server.pem"),
            server_key: directory.join("server.key"),
            client: directory.join("client.pem"),
            client_key: directory.join("client.key"),
        }
    }

    /// Makes a new authority and its certificates in `directory`. Two of them don't trust each other.
    ///
    /// # Errors
    ///
    /// When a key can't be made or a file can't be written.
    pub fn make(directory: &Path) -> io::Result<Self> {
        let files = Self::of(directory);
        let ca = CertifiedIssuer::self_signed(authority(), key()?).map_err(io::Error::other)?;
        fs::write(&files.ca, ca.pem())?;
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        let names = vec![HOST.to_owned(), "127.0.0.1".to_owned()];
        write(&ca, "pilotman test server", names, server, &files.server, &files.server_key)?;
        write(&ca, "pilotman test client", Vec::new(), client, &files.client, &files.client_key)?;
        Ok(files)
    }
}

fn key() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "pilotman test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn write(
    ca: &CertifiedIssuer<'_, KeyPair>,
    subject: &str,
    names: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
    certificate_file: &Path,
    key_file: &Path,
) -> io::Result<()> {
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = key()?;
    let certificate = params.signed_by(&key, ca).map_err(io::Error::other)?;
    fs::write(certificate_file, certificate.pem())?;
    fs::write(key_file, key.serialize_pem())
}
