//! HTTPS to whomever s3veil asks: roots, client certificate, connect timeout. And the client of KMSs and traces, with its pool;
//! the store's connections are its own (`backend/line.rs`).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::body::ByteBody;

/// Connections over http or https.
pub type Connector = HttpsConnector<HttpConnector>;

/// An idle connection is given up before the usual stores do, so that few requests meet a closing one.
pub const POOL_IDLE: Duration = Duration::from_secs(20);

/// Read and write buffer of a connection, in bytes: two chunks. Larger ones save system calls; but as many as six are
/// alive in one transfer, each pinned by the piece that was read into it (docs/performance.md).
pub const BUFFER: usize = 128 * 1024;

/// What differs between the peers.
#[derive(Debug)]
pub struct NetConfig {
    /// Roots to trust instead of the system's: a file in PEM, or a directory of them.
    pub ca_file: Option<PathBuf>,
    /// What s3veil shows a server that asks who it is.
    pub identity: Option<Identity>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
}

/// A client certificate and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, and those between it and a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From two files in PEM, or one that holds both.
    ///
    /// Errors: a message that names the file and the remedy.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, String> {
        let wrong = |file: &Path, why: &dyn std::fmt::Display| {
            format!("'{}' can't be used: {why}. Give a file in PEM that s3veil may read", file.display())
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|why| wrong(certificate, &why))?;
        if chain.is_empty() {
            return Err(wrong(certificate, &"it holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|why| wrong(key, &why))?;
        Ok(Self { chain, key })
    }
}

/// A client with its own pool.
///
/// Errors: a message that names the key `ca_file`, the file and the remedy.
pub fn client(config: NetConfig) -> Result<Client<Connector, ByteBody>, String> {
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_buf_size(BUFFER)
        .build(connector(config)?))
}

/// What connects.
///
/// Errors: the same.
pub fn connector(config: NetConfig) -> Result<Connector, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(config.connect_timeout));
    let tls = tls(config.ca_file.as_deref(), config.identity)?;
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http))
}

/// How s3veil speaks TLS to any peer: TLS 1.2 or later, the certificate checked against `ca_file` or the system's roots.
///
/// Errors: a message that names the key, the file and the remedy.
pub fn tls(ca_file: Option<&Path>, identity: Option<Identity>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("tls: {why}"))?
        .with_root_certificates(roots(ca_file)?);
    match identity {
        None => Ok(tls.with_no_client_auth()),
        Some(Identity { chain, key }) => tls.with_client_auth_cert(chain, key).map_err(|why| {
            format!("client certificate: {why}. Give a certificate and the key that belongs to it")
        }),
    }
}

/// Whether the server has ended the handshake because of the certificate that it was shown, or was not. Source: RFC 8446,
/// section 6.2.
pub fn refuses_certificate(why: &(dyn Error + 'static)) -> bool {
    use rustls::AlertDescription as Alert;

    let mut next = Some(why);
    while let Some(error) = next {
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref() {
            return matches!(
                alert,
                Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::CertificateRequired
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    // From an authority that is called as one that the server knows, but is another.
                    | Alert::DecryptError
            );
        }
        // What an io::Error was made of is not its source, but stands in its place.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// Those of this kind among an error and its causes.
pub fn among<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a T> {
    std::iter::successors(Some(error), |&error| error.source()).filter_map(|error| error.downcast_ref())
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        // A system without roots is fine for plain http; over https the handshake then says what is missing.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    roots_in("ca_file", file)
}

/// The roots in a file or directory that the configuration names under this key.
///
/// Errors: a message that names the key, the file and the remedy.
pub fn roots_in(key: &str, file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let wrong = |why: String| {
        format!("{key}: '{}' {why}. Give PEM certificates: a file, or a directory of files", file.display())
    };
    for file in pem_files(file).map_err(|why| wrong(format!("can't be read: {why}")))? {
        let pems =
            CertificateDer::pem_file_iter(&file).map_err(|why| wrong(format!("can't be read: {why}")))?;
        for pem in pems {
            let certificate = pem.map_err(|why| wrong(format!("is not PEM: {why}")))?;
            roots.add(certificate).map_err(|why| wrong(format!("holds a bad certificate: {why}")))?;
        }
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".into()));
    }
    Ok(roots)
}

/// The files that a `ca_file` stands for. A directory that can't be read stands for itself: whoever reads it will say so.
pub fn root_files(path: &Path) -> Vec<PathBuf> {
    pem_files(path).unwrap_or_else(|_| vec![path.to_owned()])
}

/// The file itself, or the files of a directory.
fn pem_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let files = entries.collect::<Result<Vec<_>, _>>()?;
    Ok(files.into_iter().filter(|file| file.is_file()).collect())
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::AlertDescription as Alert;

    use super::*;

    #[test]
    fn alerts_about_the_client_certificate() {
        let within = |error: rustls::Error| io::Error::other(io::Error::other(error));
        for alert in [Alert::UnknownCA, Alert::CertificateRequired, Alert::DecryptError] {
            assert!(refuses_certificate(&within(rustls::Error::AlertReceived(alert))), "{alert:?}");
        }
        for other in [
            rustls::Error::AlertReceived(Alert::InternalError),
            rustls::Error::AlertReceived(Alert::HandshakeFailure),
            rustls::Error::DecryptError,
        ] {
            assert!(!refuses_certificate(&within(other)));
        }
        assert!(!refuses_certificate(&io::Error::from(io::ErrorKind::TimedOut)));
    }
}
