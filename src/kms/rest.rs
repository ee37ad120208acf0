//! JSON over HTTPS: what the KMSs that are asked without a vendor's crate have in common.
//!
//! One attempt per call, at the endpoint whose turn it is. Retries, timeouts and backoff are those of
//! [`Keys`](super::Keys), the same for every KMS. An answer may hold a DEK, so it is gathered into memory that is wiped.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Error;
use super::endpoints::{Ways, refuse_credentials};
use crate::body::{self, ByteBody};
use crate::net::{Connector, Identity, NetConfig, client, refuses_certificate};
use crate::secret::Secret;
use crate::watch::Watched;

/// How long to wait for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest answer that is read, in bytes. A list of thousands of keys is shorter.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// How an endpoint is written.
const ENDPOINT_FORM: &str = "https://HOST:PORT";

/// The room that an answer is given at first, in bytes: the usual ones need no second, which would be a copy.
const ANSWER_USUAL: usize = 16 * 1024;

/// Where a KMS is, and how TLS is spoken with it.
#[derive(Default)]
pub(super) struct RestConfig {
    /// `https://HOST[:PORT]`, each a way to the same KMS. A path is kept in front of every call's own.
    pub endpoints: Vec<String>,
    /// Roots to trust instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// What s3veil shows the server, if it asks.
    pub identity: IdentitySource,
}

/// Where the client certificate is.
#[derive(Default)]
pub(super) enum IdentitySource {
    /// Nowhere: the server is not shown one.
    #[default]
    None,
    /// In two files, read again when one has changed.
    Files {
        /// The certificate and those between it and a root, in PEM.
        certificate: PathBuf,
        /// The private key, in PEM.
        key: PathBuf,
    },
    /// In a secret of another form, made into a certificate by `load`; made again when one of the files has changed.
    Made {
        /// The files that it is made from.
        files: Vec<PathBuf>,
        /// Makes it.
        load: Box<dyn Fn() -> Result<Identity, String> + Send + Sync>,
    },
}

/// A client of one KMS.
pub(super) struct Rest {
    ways: Ways<String>,
    client: Watched<Client<Connector, ByteBody>>,
}

/// One question.
pub(super) struct Ask {
    method: Method,
    /// Path and query, percent-encoded.
    path: String,
    headers: HeaderMap,
    body: Option<Zeroizing<Vec<u8>>>,
}

/// The answer, whatever its status.
pub(super) struct Reply {
    pub status: StatusCode,
    body: Zeroizing<Vec<u8>>,
}

impl RestConfig {
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn build(self) -> Result<Rest, String> {
        let ways = Ways::new(&self.endpoints, ENDPOINT_FORM, endpoint)?;
        let mut files: Vec<PathBuf> = self.ca_file.iter().cloned().collect();
        match &self.identity {
            IdentitySource::None => {}
            IdentitySource::Files { certificate, key } => files.extend([certificate.clone(), key.clone()]),
            IdentitySource::Made { files: more, .. } => files.extend(more.iter().cloned()),
        }
        let client = Watched::new(files, move || {
            let identity = match &self.identity {
                IdentitySource::None => None,
                IdentitySource::Files { certificate, key } => {
                    Some(Identity::from_pem_files(certificate, key)?)
                }
                IdentitySource::Made { load, .. } => Some(load()?),
            };
            client(NetConfig { ca_file: self.ca_file.clone(), identity, connect_timeout: CONNECT_TIMEOUT })
        })?;
        Ok(Rest { ways, client })
    }
}

/// An endpoint without a slash at its end. Plain http is for a server on this machine: a DEK travels in the answer.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    refuse_credentials(text, ENDPOINT_FORM)?;
    let wrong = |why: &str| format!("endpoint: '{text}' {why}. Write {ENDPOINT_FORM}");
    let uri: Uri = text.parse().map_err(|_| wrong("is not an address"))?;
    let host = uri.host().ok_or_else(|| wrong("names no host"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(host) => {}
        Some("http") => return Err(wrong("is not encrypted, and not on this machine")),
        _ => return Err(wrong("is not https")),
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whether a host of a URI is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || ip.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Rest {
    /// Asks once.
    ///
    /// Errors: [`Error::Unavailable`] without an answer, or with 408, 429 or 5xx but 501: those may differ next time.
    /// [`Error::Denied`] when the server does not take the client certificate.
    pub(super) async fn send(&self, ask: Ask) -> Result<Reply, Error> {
        let turn = self.ways.turn();
        let answer = self.ask(turn.endpoint(), ask).await;
        turn.end(answer)
    }

    async fn ask(&self, endpoint: &str, ask: Ask) -> Result<Reply, Error> {
        let away = |why: &(dyn std::error::Error + 'static)| {
            let text = format!("{endpoint}: {}", crate::s3::error::chain(why));
            if refuses_certificate(why) { Error::Denied(text) } else { Error::Unavailable(text) }
        };
        let uri: Uri = format!("{endpoint}{}", ask.path)
            .parse()
            .map_err(|why: http::uri::InvalidUri| Error::Denied(format!("{endpoint}: {why}")))?;
        let host = uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
        let mut request = Request::new(match ask.body {
            Some(bytes) => body::full(bytes::Bytes::from_owner(Wiped(bytes))),
            None => body::empty(),
        });
        *request.method_mut() = ask.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = ask.headers;
        if let Some(Ok(host)) = host {
            request.headers_mut().insert(HOST, host);
        }
        let response = self.client.get().request(request).await.map_err(|why| away(&why))?;
        let (parts, stream) = response.into_parts();
        let body = match gather(stream).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err(Error::Malformed(format!("{endpoint}: {TOO_LONG}"))),
            Err(why) => return Err(away(&why)),
        };
        let reply = Reply { status: parts.status, body };
        if is_transient(reply.status) {
            Err(Error::Unavailable(format!("{endpoint}: {}", reply.summary())))
        } else {
            Ok(reply)
        }
    }
}

/// What [`gather`] could not hold, in words.
pub(super) const TOO_LONG: &str = "the answer is longer than 4 MiB";

/// All of an answer, in memory that is wiped. `None` if it is longer than any answer of a KMS.
pub(super) async fn gather(
    mut stream: hyper::body::Incoming,
) -> Result<Option<Zeroizing<Vec<u8>>>, hyper::Error> {
    let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_USUAL));
    while let Some(frame) = stream.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        if body.len() + data.len() > ANSWER_MAX {
            return Ok(None);
        }
        extend(&mut body, &data);
    }
    Ok(Some(body))
}

/// Bytes that are wiped once they have been sent.
pub(super) struct Wiped(pub(super) Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Grows without leaving a copy behind.
fn extend(body: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    if body.capacity() - body.len() < data.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((body.len() + data.len()) * 2));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(data);
}

impl Ask {
    /// A question without a body. `path`: path and query, percent-encoded.
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: None }
    }

    /// With a header. A value that holds a secret is marked as such by the caller.
    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With this as its JSON body.
    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        // A first room that the small questions do not outgrow: growing leaves copies.
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        serde_json::to_writer(&mut *bytes, body).expect("a question is made of strings, numbers and maps");
        self.body = Some(bytes);
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }
}

impl Reply {
    /// The JSON of the answer. Fields that hold secrets are [`Secret`]s.
    ///
    /// Errors: [`Error::Malformed`], with nothing of the answer: serde's own words may quote what it did not expect.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|why| {
            let (kind, line, column) = (why.classify(), why.line(), why.column());
            Error::Malformed(format!(
                "the KMS's answer is not what it should be ({kind:?}, line {line}, column {column})"
            ))
        })
    }

    /// What an answer that is an error says, for a message: status, and the body's beginning as one line of text.
    ///
    /// Only for answers that are errors: those hold no key.
    pub(super) fn summary(&self) -> String {
        let text: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{} {}", self.status, text).trim_end().to_owned()
    }
}

/// True for an answer that may be another next time.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// The bytes that a text in an answer holds in standard base64.
///
/// Errors: [`Error::Malformed`].
pub(super) fn decode(text: &Secret) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = BASE64_STANDARD.decode(text.as_bytes());
    bytes.map(Zeroizing::new).map_err(|_| Error::Malformed("the KMS's answer is not base64".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("https://kes.example.com:7373/", Ok("https://kes.example.com:7373")),
            ("https://vault/prefix", Ok("https://vault/prefix")),
            ("http://127.0.0.1:8200", Ok("http://127.0.0.1:8200")),
            ("http://[::1]:8200", Ok("http://[::1]:8200")),
            ("http://vault:8200", Err("is not encrypted")),
            ("vault:8200", Err("is not https")),
            ("https://", Err("")),
            ("https://a/?b", Err("has a query")),
            ("https://user:pw@a", Err("'https://...' holds '@'")),
        ] {
            match (endpoint(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(got), Err(part)) => {
                    assert!(got.contains(part) && got.contains("https://HOST:PORT"), "{got}")
                }
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn an_answer_is_not_quoted() {
        let reply = |text: &str| Reply { status: StatusCode::OK, body: Zeroizing::new(text.into()) };
        for (text, kind) in [("{\"a\":\"DEK\"}", "Data"), ("{\"a\":DEK}", "Syntax"), ("{\"a\":\"DEK", "Eof")]
        {
            let why = reply(text).json::<std::collections::HashMap<String, u8>>().unwrap_err().to_string();
            assert!(why.contains(kind) && why.contains("line 1, column") && !why.contains("DEK"), "{why}");
        }
    }

    #[test]
    fn growing_keeps_what_is_there() {
        let mut body = Zeroizing::new(Vec::with_capacity(4));
        for piece in [&b"abc"[..], b"defgh", b"", b"i"] {
            extend(&mut body, piece);
        }
        assert_eq!(*body, b"abcdefghi");
    }
}
