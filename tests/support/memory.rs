//! A store in this process that an attacker owns: it keeps what it is given, shows it, changes it, and fails on demand.
//!
//! It does as much of S3 as the tests ask for, verifies no signature, and counts every request.
#![allow(dead_code, clippy::disallowed_methods)] // Each test file uses its own part; bodies here are small.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use s3veil::s3::checksum::{Algorithm, Checksum, Hasher};
use s3veil::s3::range::{ContentRange, RangeSpec};
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A stored object.
#[derive(Clone, Debug)]
pub struct Object {
    pub body: Vec<u8>,
    pub headers: HeaderMap,
}

/// What the store does with the next request instead of what it should.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Answer with this status.
    Status(u16),
    /// Refuse with this code of S3.
    Refuse(&'static str),
    /// Point elsewhere, with this status.
    Redirect(u16, &'static str),
    /// Close the connection before an answer.
    Close,
    /// Send so many bytes of a body and close.
    CloseAfter(usize),
    /// Send so many bytes of a body and then nothing more.
    StallAfter(usize),
    /// Send the body without saying how long it is.
    NoLength,
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
}

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Object>>,
    faults: Mutex<VecDeque<Fault>>,
    seen: Mutex<Vec<Seen>>,
}

/// A running store.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<State>,
    pub endpoint: String,
}

impl MemoryStore {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let served = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let state = served.clone();
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move { serve(&state, request).await }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { state, endpoint }
    }

    /// The object at `/bucket/key`, as stored. The key as it stands in the path.
    pub fn get(&self, path: &str) -> Option<Object> {
        self.state.objects.lock().unwrap().get(path).cloned()
    }

    pub fn put(&self, path: &str, object: Object) {
        self.state.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    pub fn change(&self, path: &str, change: impl FnOnce(&mut Object)) {
        change(self.state.objects.lock().unwrap().get_mut(path).expect(path));
    }

    /// The paths of all objects.
    pub fn paths(&self) -> Vec<String> {
        self.state.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn fail_next(&self, fault: Fault) {
        self.state.faults.lock().unwrap().push_back(fault);
    }

    /// The requests since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.seen.lock().unwrap())
    }
}

async fn serve(state: &State, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    state.seen.lock().unwrap().push(Seen {
        method: parts.method.clone(),
        path: path.clone(),
        query: query.clone(),
        headers: parts.headers.clone(),
    });
    let fault = state.faults.lock().unwrap().pop_front();
    match fault {
        Some(Fault::Status(status)) => return Ok(error(status, "Injected")),
        Some(Fault::Refuse(code)) => return Ok(error(403, code)),
        Some(Fault::Redirect(status, location)) => {
            let mut answer = error(status, "TemporaryRedirect");
            answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(location));
            return Ok(answer);
        }
        Some(Fault::Close) => return Err(std::io::Error::other("closed on demand")),
        _ => {}
    }
    let is_object = path.trim_start_matches('/').contains('/');
    let mut response = match (parts.method.as_str(), is_object) {
        ("PUT", true) => put(state, &path, &parts.headers, body).await,
        ("GET", true) => get(state, &path, &parts.headers, true),
        ("HEAD", true) => get(state, &path, &parts.headers, false),
        ("DELETE", true) => {
            state.objects.lock().unwrap().remove(&path);
            answer(204, Bytes::new())
        }
        ("GET", false) => answer(200, list(state, &path, &query)),
        _ => {
            body.collect().await.ok();
            answer(200, Bytes::new())
        }
    };
    if let Some(kind) = query.split('&').find_map(|pair| pair.strip_prefix("response-content-type=")) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
    }
    response.headers_mut().insert("x-amz-request-id", HeaderValue::from_static("THESTORE"));
    Ok(match fault {
        Some(Fault::CloseAfter(len)) => cut(response, len, false).await,
        Some(Fault::StallAfter(len)) => cut(response, len, true).await,
        Some(Fault::NoLength) => no_length(response).await,
        _ => response,
    })
}

async fn put(state: &State, path: &str, headers: &HeaderMap, body: Incoming) -> Response<Body> {
    let Ok(body) = body.collect().await else { return error(400, "IncompleteBody") };
    let mut body = body.to_bytes().to_vec();
    let sha256 = headers.get("x-amz-content-sha256").map(HeaderValue::as_bytes);
    if sha256 == Some(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER") {
        match unframe(&body, headers) {
            Some(plain) => body = plain,
            None => return error(400, "BadDigest"),
        }
    }
    let old = state.objects.lock().unwrap().get(path).map(|object| object.headers.clone());
    let exists = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") && old.is_some();
    let other = headers
        .get(header::IF_MATCH)
        .is_some_and(|want| old.as_ref().and_then(|old| old.get(header::ETAG)) != Some(want));
    if exists || other {
        return error(412, "PreconditionFailed");
    }
    let kept = |name: &HeaderName| {
        name.as_str().starts_with("x-amz-meta-")
            || [
                "content-type",
                "cache-control",
                "content-disposition",
                "content-encoding",
                "x-amz-storage-class",
            ]
            .contains(&name.as_str())
    };
    let mut stored: HeaderMap = headers
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let etag = format!("\"{}\"", hex::encode(Md5::digest(&body)));
    stored.insert(header::ETAG, etag.parse().unwrap());
    stored.insert(header::LAST_MODIFIED, HeaderValue::from_static("Mon, 23 Nov 2026 00:00:00 GMT"));
    state.objects.lock().unwrap().insert(path.to_owned(), Object { body, headers: stored });
    let mut response = answer(200, Bytes::new());
    response.headers_mut().insert(header::ETAG, etag.parse().unwrap());
    response
}

/// aws-chunked with a trailing checksum, verified.
fn unframe(mut wire: &[u8], headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = wire.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).ok()?, 16).ok()?;
        wire = &wire[end + 2..];
        if size == 0 {
            break;
        }
        out.extend_from_slice(wire.get(..size)?);
        wire = wire.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let (name, value) = std::str::from_utf8(wire.strip_suffix(b"\r\n\r\n")?).ok()?.split_once(':')?;
    let algorithm = Algorithm::from_header(name)?;
    let announced = headers.get("x-amz-trailer")? == name;
    let length = headers.get("x-amz-decoded-content-length")?.to_str().ok()?.parse() == Ok(out.len());
    let right = Checksum::parse(algorithm, value) == Some(Hasher::digest(algorithm, &out));
    (announced && length && right).then_some(out)
}

fn get(state: &State, path: &str, headers: &HeaderMap, with_body: bool) -> Response<Body> {
    let Some(object) = state.objects.lock().unwrap().get(path).cloned() else {
        return error(404, "NoSuchKey");
    };
    let etag = object.headers.get(header::ETAG);
    let condition = |name: HeaderName| headers.get(name).map(|want| Some(want) == etag || want == "*");
    if condition(header::IF_MATCH) == Some(false) {
        return error(412, "PreconditionFailed");
    }
    if condition(header::IF_NONE_MATCH) == Some(true) {
        let mut response = answer(304, Bytes::new());
        response.headers_mut().extend(object.headers.clone());
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(object.body.len()));
        return response;
    }
    let total = object.body.len() as u64;
    let ranged = condition(header::IF_RANGE) != Some(false);
    let spec = headers.get(header::RANGE).filter(|_| ranged).and_then(RangeSpec::parse);
    let (status, start, end) = match spec.map(|spec| spec.resolve(total)) {
        None => (200, 0, total),
        Some(Some((start, end))) => (206, start, end),
        Some(None) => return error(416, "InvalidRange"),
    };
    let body = Bytes::from(object.body[start as usize..end as usize].to_vec());
    let mut response = answer(status, if with_body { body } else { Bytes::new() });
    response.headers_mut().extend(object.headers);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if status == 206 {
        response.headers_mut().insert(header::CONTENT_RANGE, ContentRange { start, end, total }.to_header());
    }
    response
}

fn list(state: &State, bucket: &str, query: &str) -> Bytes {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
    for (path, object) in state.objects.lock().unwrap().iter() {
        let Some(key) = path.strip_prefix(&format!("{}/", bucket.trim_end_matches('/'))) else { continue };
        if key.starts_with(prefix) {
            let etag =
                object.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
            let key = quick_xml::escape::escape(key);
            let size = object.body.len();
            xml.push_str(&format!(
                "<Contents><Key>{key}</Key><ETag>{etag}</ETag><Size>{size}</Size></Contents>"
            ));
        }
    }
    xml.push_str("</ListBucketResult>");
    xml.into()
}

/// The response's head with its Content-Length, and less of the body than that.
async fn cut(response: Response<Body>, len: usize, stall: bool) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let first = futures_util::stream::iter([Ok(Frame::data(body.slice(..len.min(body.len()))))]);
    let then = futures_util::stream::once(async move {
        if stall {
            std::future::pending::<()>().await;
        }
        Err(std::io::Error::other("cut on demand"))
    });
    Response::from_parts(parts, StreamBody::new(futures_util::StreamExt::chain(first, then)).boxed_unsync())
}

/// The same body in HTTP's chunks.
async fn no_length(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = body.collect().await.unwrap().to_bytes();
    let frames = futures_util::stream::iter([Ok(Frame::data(bytes))]);
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

fn answer(status: u16, body: Bytes) -> Response<Body> {
    let full = Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(full);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn error(status: u16, code: &str) -> Response<Body> {
    answer(
        status,
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>").into(),
    )
}
