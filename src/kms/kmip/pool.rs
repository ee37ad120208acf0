//! Connections to a KMIP server: TLS with a client certificate, a few kept open.
//!
//! One request is under way on a connection at a time, as most servers have it. One that was given up in between is
//! closed, so that its answer can't be taken for another's.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

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
use crate::kms::endpoints::{Turn, Ways, refuse_credentials};
use crate::net::{self, Identity};
use crate::watch::Watched;

/// KMIP's port. Source: specification 1.4, profiles, section 3.1.
const PORT: u16 = 5696;

/// How an endpoint is written.
const ENDPOINT_FORM: &str = "HOST:PORT, such as kmip.example.com:5696";

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long for a request and its answer, a connection included: less than `guard` waits for an attempt, so that it is
/// told what failed.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(4);

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
    ways: Ways<Endpoint>,
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
    /// And in this turn.
    turn: usize,
    last_used: Instant,
}

impl PoolConfig {
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn build(self) -> Result<Pool, String> {
        let ways = Ways::new(&self.endpoints, ENDPOINT_FORM, endpoint)?;
        let files = self.ca_file.iter().chain([&self.certificate, &self.key]).cloned().collect();
        let tls = Watched::new(files, move || {
            let identity = Identity::from_pem_files(&self.certificate, &self.key)
                .map_err(|why| format!("certificate_file, key_file: {why}"))?;
            Ok(TlsConnector::from(Arc::new(net::tls(self.ca_file.as_deref(), Some(identity))?)))
        })?;
        Ok(Pool { ways, tls, idle: Mutex::default(), slots: Semaphore::new(CONNECTIONS) })
    }
}

/// `HOST` or `HOST:PORT`; an IPv6 address with a port stands in brackets.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    refuse_credentials(text, ENDPOINT_FORM)?;
    let wrong = |why: &str| format!("endpoint: '{text}' {why}. Write {ENDPOINT_FORM}");
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
        let turn = self.ways.turn();
        let answer = timeout(EXCHANGE_TIMEOUT, self.ask(&turn, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let answer = answer.unwrap_or_else(|why| Err(turn.endpoint().failed(&why)));
        turn.end(answer)
    }

    async fn ask(
        &self,
        turn: &Turn<'_, Endpoint>,
        request: &[u8],
    ) -> io::Result<Result<Zeroizing<Vec<u8>>, Error>> {
        let tls = self.tls.get();
        let mut connection = match self.idle(&tls, turn.number()) {
            Some(connection) => connection,
            None => {
                let stream = timeout(CONNECT_TIMEOUT, connect(turn.endpoint(), &tls)).await??;
                Connection { stream, tls, turn: turn.number(), last_used: Instant::now() }
            }
        };
        let answer = connection.exchange(request).await?;
        if answer.is_ok() {
            connection.last_used = Instant::now();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(answer)
    }

    /// An open connection that was made with the present certificate in this turn. Others are closed: those of an
    /// earlier turn are at an endpoint that has failed since, and may be dead without showing it.
    fn idle(&self, tls: &Arc<TlsConnector>, turn: usize) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| {
            connection.turn == turn
                && Arc::ptr_eq(&connection.tls, tls)
                && connection.last_used.elapsed() < IDLE
        });
        while let Some(mut connection) = idle.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
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
        let place = format!("{}:{}", self.host, self.port);
        match net::refuses_certificate(why) {
            true => Error::Denied(format!("{place} does not take the client certificate: {why}")),
            false => Error::Unavailable(format!("{place}: {why}")),
        }
    }
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
