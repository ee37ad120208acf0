//! A store in this process that an attacker owns: it keeps what it is given, shows it, changes it, and fails on demand.
//!
//! It does as much of S3 as the tests ask for, verifies no signature, and counts every request.
#![allow(dead_code, clippy::disallowed_methods)] // Each test file uses its own part; bodies here are small.

mod list;
mod multipart;
mod objects;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3veil::s3::Query;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use multipart::Upload;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A stored object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub body: Vec<u8>,
    pub headers: HeaderMap,
}

/// All that a store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
}

/// What the store does with the next request instead of what it should.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Do what it should.
    Pass,
    /// Answer with this status.
    Status(u16),
    /// Refuse with this code of S3.
    Refuse(&'static str),
    /// Say 200, and this code of S3 in the document.
    ErrorIn200(&'static str),
    /// Do what it should, and leave the end of the document out.
    Damaged,
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

/// A request that waits at the store until it is let go.
#[derive(Clone)]
pub struct Held {
    met: Arc<Notify>,
    released: Arc<Notify>,
}

impl Held {
    /// Waits until the request is there.
    pub async fn met(&self) {
        self.met.notified().await;
    }

    /// Lets it go.
    pub fn release(&self) {
        self.released.notify_one();
    }
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
    uploads: Mutex<BTreeMap<String, Upload>>,
    /// Uploads so far.
    created: Mutex<usize>,
    held: Mutex<Option<(Method, Held)>>,
    /// With the method of the request that meets it; none: the next one.
    faults: Mutex<VecDeque<(Option<Method>, Fault)>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
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
                let connected = served.clone();
                connected.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    connection.serve_connection(TokioIo::new(stream), service).await.ok();
                    connected.connections.fetch_sub(1, Ordering::SeqCst);
                });
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
        self.state.faults.lock().unwrap().push_back((None, fault));
    }

    /// The same for the next request of a method.
    pub fn fail_next_of(&self, method: Method, fault: Fault) {
        self.state.faults.lock().unwrap().push_back((Some(method), fault));
    }

    /// A fault that no request has met.
    pub fn take_fault(&self) -> Option<Fault> {
        self.state.faults.lock().unwrap().pop_front().map(|(_, fault)| fault)
    }

    /// Holds the next request of a method.
    pub fn hold_next_of(&self, method: Method) -> Held {
        let held = Held { met: Arc::default(), released: Arc::default() };
        *self.state.held.lock().unwrap() = Some((method, held.clone()));
        held
    }

    /// The uploads under way, by their ids.
    pub fn uploads(&self) -> BTreeMap<String, Upload> {
        self.state.uploads.lock().unwrap().clone()
    }

    pub fn change_upload(&self, id: &str, change: impl FnOnce(&mut Upload)) {
        change(self.state.uploads.lock().unwrap().get_mut(id).expect(id));
    }

    /// Connections that it serves.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn contents(&self) -> Contents {
        Contents { objects: self.state.objects.lock().unwrap().clone(), uploads: self.uploads() }
    }

    /// Holds this from now on, and nothing else.
    pub fn restore(&self, contents: Contents) {
        *self.state.objects.lock().unwrap() = contents.objects;
        *self.state.uploads.lock().unwrap() = contents.uploads;
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
    let held = state.held.lock().unwrap().take_if(|(method, _)| *method == parts.method);
    if let Some((_, held)) = held {
        held.met.notify_one();
        held.released.notified().await;
    }
    let fault = fault(state, &parts.method);
    match fault {
        Some(Fault::Status(status)) => return Ok(error(status, "Injected")),
        Some(Fault::Refuse(code)) => return Ok(error(403, code)),
        Some(Fault::ErrorIn200(code)) => return Ok(error(200, code)),
        Some(Fault::Redirect(status, location)) => {
            let mut answer = error(status, "TemporaryRedirect");
            answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(location));
            return Ok(answer);
        }
        Some(Fault::Close) => return Err(std::io::Error::other("closed on demand")),
        _ => {}
    }
    let mut response = match route(state, &parts, &query, body).await {
        Ok(response) | Err(response) => response,
    };
    if let Some(kind) = query.split('&').find_map(|pair| pair.strip_prefix("response-content-type=")) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
    }
    response.headers_mut().insert("x-amz-request-id", HeaderValue::from_static("THESTORE"));
    Ok(match fault {
        Some(Fault::CloseAfter(len)) => cut(response, len, false).await,
        Some(Fault::StallAfter(len)) => cut(response, len, true).await,
        Some(Fault::NoLength) => no_length(response).await,
        Some(Fault::Damaged) => damaged(response).await,
        _ => response,
    })
}

fn fault(state: &State, method: &Method) -> Option<Fault> {
    let mut faults = state.faults.lock().unwrap();
    let meets = |(of, _): &mut (Option<Method>, Fault)| of.as_ref().is_none_or(|of| of == method);
    faults.pop_front_if(meets).map(|(_, fault)| fault)
}

async fn route(
    state: &State,
    parts: &http::request::Parts,
    query: &str,
    body: Incoming,
) -> Result<Response<Body>, Response<Body>> {
    let (path, headers) = (parts.uri.path(), &parts.headers);
    let query = Query::parse(query).unwrap();
    let is_object = path.trim_start_matches('/').contains('/');
    let body = objects::received(headers, body).await?;
    Ok(match (parts.method.as_str(), is_object, query.get("uploadId")) {
        ("POST", true, None) if query.has("uploads") => multipart::create(state, path, headers),
        (method, true, Some(id)) => multipart::run(state, (method, path), id, &query, headers, body),
        ("PUT", true, _) if headers.contains_key("x-amz-copy-source") => objects::copy(state, path, headers),
        ("PUT", true, _) => objects::put(state, path, headers, body),
        ("GET", true, _) => objects::get(state, path, headers, true),
        ("HEAD", true, _) => objects::get(state, path, headers, false),
        ("DELETE", true, _) => {
            state.objects.lock().unwrap().remove(path);
            answer(204, Bytes::new())
        }
        ("GET", false, _) if query.has("uploads") => multipart::list_uploads(state, path),
        ("GET", false, _) => answer(200, list::list(state, path, &query).into()),
        ("DELETE", false, _) if query.is_empty() => list::delete_bucket(state, path),
        _ => answer(200, Bytes::new()),
    })
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

/// A document without its last tag, whole as far as HTTP is concerned.
async fn damaged(response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let end = bytes.windows(2).rposition(|two| two == b"</").expect("a document");
    let mut cut = answer(200, bytes.slice(..end));
    *cut.headers_mut() = parts.headers;
    cut
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
