//! One connection of a client: signs each request when it is sent, for half an hour is longer than a signature holds.

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use s3veil::aws::credentials::Credentials;
use s3veil::aws::sign::{BodyHash, sign_request};
use s3veil::secret::Secret;
use tokio::net::TcpStream;

/// A body that may break off.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// As large as a socket gives and takes at once.
const BUFFER: usize = 1 << 20;

/// Where requests go, and who signs them.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
}

/// What is asked.
pub struct Ask<'a> {
    pub method: &'a str,
    /// With its query, as it goes over the wire.
    pub path: &'a str,
    pub headers: &'a [(&'a str, String)],
    pub body: Body,
    /// Bytes of the body.
    pub length: usize,
}

/// What came.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub struct Connection {
    sender: SendRequest<Body>,
}

pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        let mut builder = http1::Builder::new();
        let shaken = builder.max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|why| why.to_string())?;
        // Its error is seen by the request on it.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Waits for the end of the answer, or until `enough` bytes of it have come: then the connection is of no more use.
    pub async fn send(&mut self, target: &Target, ask: Ask<'_>, enough: usize) -> Result<Answer, String> {
        let request = signed(target, ask);
        self.sender.ready().await.map_err(|why| format!("{why:?}"))?;
        let (head, mut stream) =
            self.sender.send_request(request).await.map_err(|why| format!("{why:?}"))?.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = stream.frame().await {
            if let Ok(data) = frame.map_err(|why| format!("{why:?}"))?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() >= enough {
                break;
            }
        }
        Ok(Answer { status: head.status, headers: head.headers, body: body.freeze() })
    }

    /// False once the other side has closed it.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// One request without a body that must succeed, on a connection of its own.
pub async fn once(target: &Target, method: &str, path: &str) -> Result<(), String> {
    let mut connection = Connection::open(target.address).await?;
    let ask = Ask { method, path, headers: &[], body: whole(Bytes::new()), length: 0 };
    let answer = connection.send(target, ask, usize::MAX).await?;
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(format!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))),
    }
}

/// A page of the admin port.
#[expect(clippy::disallowed_methods, reason = "it is small, and our own")]
pub async fn plain(address: SocketAddr, path: &str) -> Result<String, String> {
    let mut connection = Connection::open(address).await?;
    let request = Request::get(path).header("host", address.to_string()).body(whole(Bytes::new()));
    let answer = connection
        .sender
        .send_request(request.expect("a request"))
        .await
        .map_err(|why| format!("{why:?}"))?;
    let body = answer.into_body().collect().await.map_err(|why| format!("{why:?}"))?.to_bytes();
    String::from_utf8(body.into()).map_err(|why| why.to_string())
}

fn signed(target: &Target, ask: Ask<'_>) -> Request<Body> {
    let authority = target.address.to_string();
    let uri = format!("http://{authority}{}", ask.path);
    let mut builder = Request::builder().method(ask.method).uri(uri).header("host", &authority);
    for (name, value) in ask.headers {
        builder = builder.header(*name, value);
    }
    if ["PUT", "POST"].contains(&ask.method) {
        builder = builder.header("content-length", ask.length);
    }
    let (mut parts, body) = builder.body(ask.body).expect("a request").into_parts();
    let credentials = Credentials {
        access_key: Secret::new(&target.access_key),
        secret_key: Secret::new(&target.secret_key),
        session_token: None,
    };
    sign_request(&mut parts, BodyHash::Unsigned, &credentials, ("us-east-1", "s3"), SystemTime::now())
        .expect("it can be signed");
    parts.uri = parts.uri.path_and_query().expect("a path was given").clone().into();
    Request::from_parts(parts, body)
}
