//! The one HTTPS client: roots, connect timeout, connection pool. For the store and for every KMS.

use std::path::PathBuf;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::body::ByteBody;

/// Connections over http or https.
pub type Connector = HttpsConnector<HttpConnector>;

/// An idle connection is given up before the usual stores do, so that few requests meet a closing one.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// Read and write buffer of a connection, in bytes: two chunks. Larger ones save system calls; but as many as six are
/// alive in one transfer, each pinned by the piece that was read into it (docs/performance.md).
pub const BUFFER: usize = 128 * 1024;

/// What differs between the peers.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Roots to trust instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
}

/// A client with its own pool.
///
/// Errors: a message that names the key `ca_file`, the file and the remedy.
pub fn client(config: NetConfig) -> Result<Client<Connector, ByteBody>, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(config.connect_timeout));
    let tls = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("tls: {why}"))?
        .with_root_certificates(roots(config.ca_file)?)
        .with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_buf_size(BUFFER)
        .build(connector))
}

fn roots(file: Option<PathBuf>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        // A system without roots is fine for plain http; over https the handshake then says what is missing.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let wrong = |why: String| format!("ca_file: '{}' {why}. Give a file of PEM certificates", file.display());
    let pems = CertificateDer::pem_file_iter(&file).map_err(|why| wrong(format!("can't be read: {why}")))?;
    for pem in pems {
        let certificate = pem.map_err(|why| wrong(format!("is not PEM: {why}")))?;
        roots.add(certificate).map_err(|why| wrong(format!("holds a bad certificate: {why}")))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".into()));
    }
    Ok(roots)
}
