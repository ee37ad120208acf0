//! Connections to a KMIP server: TLS with a client certificate, a few kept open.
//!
//! One request is under way on a connection at a time, as most servers have it. One that was given up in between is
//! closed, so that its answer can't be taken for another's.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::message::tag;
use super::ttlv::{self, HEAD_LEN};
use crate::kms::Error;
use crate::net::{self, Identity};
use crate::watch::Watched;

/// KMIP's port. Source: specification 1.4, profiles, section 3.1.
const PORT: u16 = 5696;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for an answer: less than a caller waits, so that another endpoint gets its turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections at a time.
const CONNECTIONS: usize = 16;

/// An idle connection is given up after so long.
const IDLE: Duration = Duration::from_secs(20);

/// The longest answer that is read, in bytes. A list of thousands of keys is shorter.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Where the server is, and how s3veil shows who it is.
#[derive(Debug)]
pub(super) struct PoolConfig {
    pub endpoints: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The connections to one KMS, at any of its endpoints.
pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    /// The endpoint that is asked next.
    next: AtomicUsize,
    tls: Watched<TlsConnector>,
    idle: Mutex<Vec<Connection>>,
    slots: Semaphore,
}

struct Endpoint {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    /// Made with this certificate.
    tls: Arc<TlsConnector>,
    last_used: Instant,
}

impl PoolConfig {
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn build(self) -> Result<Pool, String> {
        let endpoints = self.endpoints.iter().map(|text| endpoint(text)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err("endpoint: missing. Write HOST:PORT".into());
        }
        let files = self.ca_file.iter().chain([&self.certificate, &self.key]).cloned().collect();
        let tls = Watched::new(files, move || {
            let identity = Identity::from_pem_files(&self.certificate, &self.key)
                .map_err(|why| format!("certificate_file, key_file: {why}"))?;
            Ok(TlsConnector::from(Arc::new(net::tls(self.ca_file.as_deref(), Some(identity))?)))
        })?;
        Ok(Pool {
            endpoints,
            next: AtomicUsize::new(0),
            tls,
            idle: Mutex::default(),
            slots: Semaphore::new(CONNECTIONS),
        })
    }
}

/// `HOST` or `HOST:PORT`; an IPv6 address with a port stands in brackets.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let wrong =
        |why: &str| format!("endpoint: '{text}' {why}. Write HOST:PORT, such as kmip.example.com:5696");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| wrong("has no number for a port"))?)
        }
        _ => (text, PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong("names no host"))?;
    Ok(Endpoint { host: host.to_owned(), port, name })
}

impl Pool {
    /// Sends a request and gives its answer, into memory that is wiped. One attempt.
    ///
    /// Errors: [`Error::Unavailable`] without an answer; [`Error::Denied`] when the server does not take the client
    /// certificate; [`Error::Malformed`] for an answer that is not KMIP.
    pub(super) async fn exchange(&self, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        let mut turn = Turn { next: &self.next, at: self.next.load(Ordering::Relaxed), served: false };
        let endpoint = &self.endpoints[turn.at % self.endpoints.len()];
        let answer = self.ask(endpoint, request).await;
        turn.served = !matches!(answer, Err(Error::Unavailable(_)));
        answer
    }

    async fn ask(&self, endpoint: &Endpoint, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let tls = self.tls.get();
        let mut connection = match self.idle(&tls) {
            Some(connection) => connection,
            None => {
                let connected = timeout(CONNECT_TIMEOUT, connect(endpoint, &tls)).await;
                let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let stream = stream.map_err(|why| endpoint.failed(&why))?;
                Connection { stream, tls, last_used: Instant::now() }
            }
        };
        let answer = timeout(ANSWER_TIMEOUT, connection.exchange(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let answer = answer.map_err(|why| endpoint.failed(&why))?;
        if answer.is_ok() {
            connection.last_used = Instant::now();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        answer
    }

    /// An open connection that was made with the present certificate. Others are closed.
    fn idle(&self, tls: &Arc<TlsConnector>) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| Arc::ptr_eq(&connection.tls, tls) && connection.last_used.elapsed() < IDLE);
        while let Some(mut connection) = idle.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }
}

/// A call at an endpoint. One that is not served moves all who ask there on, once; also one that the caller has given up.
struct Turn<'a> {
    next: &'a AtomicUsize,
    at: usize,
    served: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.served {
            let on = self.at.wrapping_add(1);
            self.next.compare_exchange(self.at, on, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }
}

async fn connect(endpoint: &Endpoint, tls: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    tls.connect(endpoint.name.clone(), stream).await
}

impl Connection {
    /// Whether it is open, and nothing comes from it: an end, or an answer that nobody asked for.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut context = Context::from_waker(Waker::noop());
        let read = Pin::new(&mut self.stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
        matches!(read, Poll::Pending)
    }

    /// The answer, or what is wrong with it.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<Result<Zeroizing<Vec<u8>>, Error>> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut head = [0; HEAD_LEN];
        self.stream.read_exact(&mut head).await?;
        let length = match ttlv::length(&head, tag::RESPONSE_MESSAGE) {
            Ok(length) if length <= ANSWER_MAX => length,
            Ok(length) => return Ok(Err(Error::Malformed(format!("an answer of {length} bytes")))),
            Err(why) => return Ok(Err(Error::Malformed(why.to_string()))),
        };
        let mut answer = Zeroizing::new(Vec::with_capacity(HEAD_LEN + length));
        answer.extend_from_slice(&head);
        answer.resize(HEAD_LEN + length, 0);
        self.stream.read_exact(&mut answer[HEAD_LEN..]).await?;
        Ok(Ok(answer))
    }
}

impl Endpoint {
    fn failed(&self, why: &io::Error) -> Error {
        let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let place = format!("{}:{}", self.host, self.port);
        match inner {
            Some(rustls::Error::AlertReceived(alert)) if is_about_the_client(*alert) => {
                Error::Denied(format!("{place} does not take the client certificate: {alert:?}"))
            }
            _ => Error::Unavailable(format!("{place}: {why}")),
        }
    }
}

fn is_about_the_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // From an authority that is called as one that the server knows, but is another.
            | AlertDescription::DecryptError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("kmip.example.com:5697", Ok(("kmip.example.com", 5697))),
            ("kmip.example.com", Ok(("kmip.example.com", 5696))),
            ("127.0.0.1:1", Ok(("127.0.0.1", 1))),
            ("[::1]:1", Ok(("::1", 1))),
            ("::1", Ok(("::1", 5696))),
            ("host:port", Err("has no number for a port")),
            ("host:65536", Err("has no number for a port")),
            ("https://host:1", Err("names no host")),
            ("", Err("names no host")),
        ] {
            match (endpoint(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!((got.host.as_str(), got.port), expected),
                (Err(got), Err(part)) => assert!(got.contains(part) && got.contains(text), "{got}"),
                (got, _) => panic!("{text}: {:?}", got.map(|got| (got.host, got.port))),
            }
        }
    }
}
