//! A small S3 client that can misbehave: it signs what it is told to and sends what it is told to.
#![allow(dead_code, clippy::disallowed_methods)] // Each test file uses its own part; bodies here are small.

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use s3veil::aws::credentials::Credentials;
use s3veil::aws::sign::{BodyHash, sign_request};
use s3veil::s3::checksum::{Algorithm, Hasher};
use s3veil::secret::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::proxy::{ACCESS_KEY, SECRET_KEY};

/// A body that may fail.
pub type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// An answer. The body is an error if the connection broke within it.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Result<Bytes, String>,
    /// What came of the body, broken or not.
    pub received: Vec<u8>,
}

impl Reply {
    /// The whole body.
    pub fn bytes(&self) -> &[u8] {
        self.body.as_deref().expect("the body came whole")
    }

    /// `Code` of S3's error document.
    pub fn code(&self) -> String {
        let text = String::from_utf8_lossy(self.bytes()).into_owned();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.to_owned()).unwrap_or_else(|| format!("no error, {} bytes", text.len()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Signs the head of a request. The path as it goes over the wire.
pub fn signed(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    hash: BodyHash,
) -> Request<()> {
    signed_for(&to.to_string(), method, path, headers, hash)
}

/// An access key, its secret key and the region that go into a signature.
pub type Signer<'a> = (&'a str, &'a str, &'a str);

const CLIENT: Signer<'_> = (ACCESS_KEY, SECRET_KEY, "us-east-1");

/// The same for a host by its name.
pub fn signed_for(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    hash: BodyHash,
) -> Request<()> {
    signed_as(CLIENT, host, method, path, headers, hash)
}

fn signed_as(
    (access_key, secret_key, region): Signer<'_>,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    hash: BodyHash,
) -> Request<()> {
    let mut request =
        Request::builder().method(method).uri(format!("http://{host}{path}")).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let credentials = Credentials {
        access_key: Secret::new(access_key),
        secret_key: Secret::new(secret_key),
        session_token: None,
    };
    sign_request(&mut parts, hash, &credentials, (region, "s3"), SystemTime::now()).unwrap();
    let path = parts.uri.path_and_query().unwrap().clone();
    parts.uri = path.into();
    Request::from_parts(parts, ())
}

/// Sends a request on a connection of its own. `None` if no answer came.
pub async fn exchange(to: SocketAddr, request: Request<AnyBody>) -> Option<Reply> {
    exchange_on(TcpStream::connect(to).await.unwrap(), request).await
}

/// The same on a connection that is there.
pub async fn exchange_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<AnyBody>,
) -> Option<Reply> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Some(read(sender.send_request(request).await.ok()?).await)
}

/// The answer, whole or as far as it came.
pub async fn read(answer: Response<Incoming>) -> Reply {
    let (parts, mut body) = answer.into_parts();
    let (mut received, mut broken) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => received.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(why) => broken = Some(why.to_string()),
        }
    }
    let body = broken.map_or_else(|| Ok(received.clone().into()), Err);
    Reply { status: parts.status, headers: parts.headers, body, received }
}

/// A read; none if no answer came.
pub async fn attempt(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Option<Reply> {
    try_send(to, "GET", path, headers, b"").await
}

/// A request signed with the hash of its body.
pub async fn send(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    send_as(CLIENT, to, method, path, headers, body).await
}

/// The same; none if no answer came.
pub async fn try_send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    try_send_as(CLIENT, to, method, path, headers, body).await
}

/// The same signed by somebody: a store's own user, past s3veil.
pub async fn send_as(
    signer: Signer<'_>,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    try_send_as(signer, to, method, path, headers, body).await.expect("an answer")
}

async fn try_send_as(
    signer: Signer<'_>,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    let hash = BodyHash::Sha256(hex::encode(Hasher::digest(Algorithm::Sha256, body).value()));
    let mut request =
        signed_as(signer, &to.to_string(), method, path, headers, hash).map(|()| full(body.to_vec()));
    if method == "PUT" || method == "POST" {
        request.headers_mut().insert("content-length", body.len().into());
    }
    exchange(to, request).await
}

pub async fn put(to: SocketAddr, path: &str, body: &[u8]) -> Reply {
    send(to, "PUT", path, &[], body).await
}

pub async fn get(to: SocketAddr, path: &str) -> Reply {
    send(to, "GET", path, &[], &[]).await
}

pub async fn get_range(to: SocketAddr, path: &str, range: &str) -> Reply {
    send(to, "GET", path, &[("range", range)], &[]).await
}
