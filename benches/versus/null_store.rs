//! A store that does nothing, so that a proxy before it is what a measurement shows: a PUT is read and counted, a GET
//! comes from memory. It runs in a process of its own.
//!
//! No signature is verified. Only objects whose key begins with `keep/` are stored, with their metadata.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3veil::s3::range::RangeSpec;
use tokio::net::TcpListener;

/// As large as a socket gives and takes at once.
const BUFFER: usize = 1 << 20;

struct Object {
    body: Bytes,
    metadata: Vec<(header::HeaderName, HeaderValue)>,
}

type Objects = Arc<Mutex<HashMap<String, Arc<Object>>>>;

/// Serves until the process is ended.
pub async fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let objects = Objects::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let objects = objects.clone();
        let service = service_fn(move |request| {
            let objects = objects.clone();
            async move { Ok::<_, Infallible>(answer(&objects, request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        tokio::spawn(server.max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(objects: &Objects, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    match head.method {
        Method::PUT => put(objects, path, &head.headers, body).await,
        Method::GET if path != "/" => get(objects, &path, &head.headers),
        _ => status(StatusCode::OK),
    }
}

async fn put(
    objects: &Objects,
    path: String,
    headers: &HeaderMap,
    mut body: Incoming,
) -> Response<Full<Bytes>> {
    let mut kept = path.contains("/keep/").then(Vec::new);
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(Ok(piece)) = frame.map(hyper::body::Frame::into_data) else {
            return status(StatusCode::BAD_REQUEST);
        };
        seen += piece.len() as u64;
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&piece);
        }
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length != seen) {
        return status(StatusCode::BAD_REQUEST);
    }
    if let Some(mut wire) = kept {
        if headers.contains_key("x-amz-trailer") {
            let Some(plain) = unframe(&wire) else { return status(StatusCode::BAD_REQUEST) };
            wire = plain;
        }
        let metadata = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
        let metadata = metadata.map(|(name, value)| (name.clone(), value.clone())).collect();
        let object = Arc::new(Object { body: wire.into(), metadata });
        objects.lock().expect("no panic holds it").insert(path, object);
    }
    let mut response = status(StatusCode::OK);
    response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"0123456789abcdef\""));
    response
}

/// Takes the framing off an aws-chunked body of unsigned chunks.
fn unframe(mut wire: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(wire.len());
    loop {
        let end = wire.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).ok()?, 16).ok()?;
        wire = &wire[end + 2..];
        if size == 0 {
            return Some(plain);
        }
        plain.extend_from_slice(wire.get(..size)?);
        wire = wire.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn get(objects: &Objects, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let Some(object) = objects.lock().expect("no panic holds it").get(path).cloned() else {
        return status(StatusCode::NOT_FOUND);
    };
    let total = object.body.len() as u64;
    let range = headers.get(header::RANGE).and_then(RangeSpec::parse);
    let mut response = match range {
        None => Response::new(Full::new(object.body.clone())),
        Some(range) => {
            let Some((start, end)) = range.resolve(total) else {
                return status(StatusCode::RANGE_NOT_SATISFIABLE);
            };
            let mut part = Response::new(Full::new(object.body.slice(start as usize..end as usize)));
            *part.status_mut() = StatusCode::PARTIAL_CONTENT;
            let told = format!("bytes {start}-{}/{total}", end - 1);
            let told = HeaderValue::from_str(&told).expect("digits");
            part.headers_mut().insert(header::CONTENT_RANGE, told);
            part
        }
    };
    let answer = response.headers_mut();
    answer.extend(object.metadata.iter().cloned());
    answer.insert(header::ETAG, HeaderValue::from_static("\"0123456789abcdef\""));
    answer.insert(header::LAST_MODIFIED, HeaderValue::from_static("Wed, 01 Jan 2025 00:00:00 GMT"));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
