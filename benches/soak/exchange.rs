//! One connection of a client: signs each request when it is sent, for half an hour is longer than a signature holds.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;

use super::wire::{self, Target, connect};

/// A body that may break off.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

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
        let sender = connect(address).await?;
        Ok(Self { sender })
    }

    /// Waits for the end of the answer, or until `enough` bytes of it have come: then the connection is of no more use.
    pub async fn send(&mut self, target: &Target, ask: Ask<'_>, enough: usize) -> Result<Answer, String> {
        let request = signed(target, ask)?;
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

fn signed(target: &Target, ask: Ask<'_>) -> Result<Request<Body>, String> {
    let length = ["PUT", "POST"].contains(&ask.method).then(|| ("content-length", ask.length.to_string()));
    let head = wire::signed(target, ask.method, ask.path, ask.headers.iter().cloned().chain(length))?;
    Ok(head.map(|()| ask.body))
}
