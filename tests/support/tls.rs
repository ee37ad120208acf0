//! Certificates of the tests' own making, and clients that speak TLS.
#![allow(dead_code)] // Each test file uses its own part of this.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Request;
use http::uri::{Authority as Host, Scheme, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{AnyBody, Reply, read};

/// Who issues certificates.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate for a server on loopback, which expires in this year, or for a client.
    pub fn issue(&self, year: i32) -> Issued {
        let mut parameters = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// How a client speaks TLS that trusts it. `identity`: what it shows; `protocols`: by ALPN.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
        identity: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut client = match identity {
            None => client.with_no_client_auth(),
            Some(Issued { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                client.with_client_auth_cert(chain, key).unwrap()
            }
        };
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(client)
    }
}

/// Where a certificate and its key lie as Kubernetes puts them: behind a link to a directory, which is swapped.
pub struct Mounted {
    directory: PathBuf,
    turn: usize,
}

impl Mounted {
    pub fn new(directory: &Path, files: &[(&str, &str)]) -> Self {
        for (name, _) in files {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
        let mut mounted = Self { directory: directory.to_owned(), turn: 0 };
        mounted.put(files);
        mounted
    }

    /// All of them at once.
    pub fn put(&mut self, files: &[(&str, &str)]) {
        self.turn += 1;
        let (name, link) = (format!("..{}", self.turn), self.directory.join("..link"));
        let beside = self.directory.join(&name);
        fs::create_dir(&beside).unwrap();
        for (name, text) in files {
            fs::write(beside.join(name), text).unwrap();
        }
        symlink(&name, &link).unwrap();
        fs::rename(link, self.directory.join("..data")).unwrap();
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

pub async fn connect(to: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::IpAddress(to.ip().into());
    TlsConnector::from(client.clone()).connect(name, stream).await
}

/// A connection that speaks HTTP/2.
pub async fn http2(stream: TlsStream<TcpStream>) -> http2::SendRequest<AnyBody> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The same request as HTTP/2 writes it: its host stands in the target.
pub fn over_http2<B>(request: Request<B>) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    let host = parts.headers.remove("host").unwrap();
    let mut uri = parts.uri.into_parts();
    uri.authority = Some(host.to_str().unwrap().parse::<Host>().unwrap());
    uri.scheme = Some(Scheme::HTTPS);
    parts.uri = Uri::from_parts(uri).unwrap();
    Request::from_parts(parts, body)
}

/// Sends a request and reads its answer. None if there is none.
pub async fn ask(sender: &mut http2::SendRequest<AnyBody>, request: Request<AnyBody>) -> Option<Reply> {
    Some(read(sender.send_request(over_http2(request)).await.ok()?).await)
}
