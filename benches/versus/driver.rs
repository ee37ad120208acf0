//! The load: so many connections, each with one request after the other, signed beforehand.
//!
//! An upload by parts, and a read by ranges, are one object on all of the connections. Of a listing only the first page can
//! be signed beforehand.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinSet;

use super::chance;
use super::wire::{self, Target, connect};

/// What is done, how often, how many at once.
#[derive(Clone, Debug)]
pub struct Load {
    pub what: What,
    /// Where objects are written, each connection's path ends with its number.
    pub path: String,
    /// What is sent, in each request; what is read is as long.
    pub body: Bytes,
    pub connections: usize,
    /// Requests on each connection.
    pub requests: usize,
}

/// What the requests of a load are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Put,
    Get,
    /// All requests together are one multipart upload, begun and completed within the time that is taken.
    Upload,
    /// All requests together read one object, once.
    Ranges,
    /// Each reads somewhere in an object of so many bytes.
    Random(u64),
    /// Each lists so many keys under the path, page after page.
    List(usize),
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// From the first request's start to the last answer's end.
    pub wall: Duration,
    /// Of each request, sorted. A listing counts as one.
    pub latencies: Vec<Duration>,
    pub bytes: u64,
    /// All requests that were sent, also before the clock started, and a listing's every page.
    pub sent: usize,
}

impl Sample {
    /// Of so many thousandths of the requests the latency is at most this.
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let last = self.latencies.len() - 1;
        self.latencies[(self.latencies.len() * thousandths / 1000).min(last)]
    }
}

/// One connection of a client.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    body: Bytes,
    expected: usize,
}

/// Sends one request and gives the answer's body. For what is done once; `Err` says what came instead of 200.
pub async fn once(target: &Target, method: Method, path: &str, body: Bytes) -> Result<Bytes, String> {
    let head = signed(target, method, path, body.len())?;
    let mut connection = Connection::open(target, body, 0).await?;
    let mut whole = Vec::new();
    connection.exchange(&head, |piece| whole.extend_from_slice(piece)).await?;
    Ok(whole.into())
}

/// Runs the load. The connections are opened, and those for short bodies have each carried a request, before the clock
/// starts.
pub async fn run(target: &Target, load: &Load) -> Result<Sample, String> {
    run_within(target, load, Duration::MAX).await
}

/// The same, but after this time no request is begun, unless it is an upload's.
pub async fn run_within(target: &Target, load: &Load, limit: Duration) -> Result<Sample, String> {
    let mut connections = Vec::new();
    let mut sample = Sample::default();
    for number in 0..load.connections {
        let (sent, expected) = match load.what {
            What::Put | What::Upload => (load.body.clone(), 0),
            What::Get | What::Ranges | What::Random(_) => (Bytes::new(), load.body.len()),
            What::List(_) => (Bytes::new(), 0),
        };
        let mut connection = Connection::open(target, sent, expected).await?;
        // A long body, or a listing, would only cost time here.
        if load.body.len() <= 1 << 20 && !matches!(load.what, What::Upload | What::List(_)) {
            connection.timed(&heads(target, load, number, "")?[0]).await?;
            sample.sent += 1;
        }
        connections.push(connection);
    }

    let begun = Instant::now();
    let upload = match load.what {
        What::Upload => begin(target, &load.path).await?,
        _ => String::new(),
    };
    let mut working = JoinSet::new();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let heads = heads(target, load, number, &upload)?;
        let (target, what, length) = (target.clone(), load.what, load.body.len());
        working.spawn(async move {
            let mut latencies = Vec::with_capacity(heads.len());
            let mut etags = Vec::new();
            let (mut bytes, mut sent) = (0, 0);
            for head in &heads {
                if let What::List(count) = what {
                    let listed = connection.listing(&target, head, count).await?;
                    latencies.push(listed.took);
                    bytes += listed.bytes;
                    sent += listed.pages;
                } else {
                    let (latency, etag) = connection.timed(head).await?;
                    latencies.push(latency);
                    etags.push(etag);
                    bytes += length;
                    sent += 1;
                }
                if what != What::Upload && begun.elapsed() > limit {
                    break;
                }
            }
            Ok::<_, String>((number, latencies, etags, bytes, sent))
        });
    }
    let mut parts = Vec::new();
    while let Some(done) = working.join_next().await {
        let (number, latencies, etags, bytes, sent) = done.map_err(|why| why.to_string())??;
        sample.latencies.extend(latencies);
        sample.bytes += bytes as u64;
        sample.sent += sent;
        parts.extend(etags.into_iter().enumerate().map(|(turn, etag)| (part(load, number, turn), etag)));
    }
    if load.what == What::Upload {
        complete(target, &load.path, &upload, parts).await?;
        sample.sent += 2;
    }
    sample.wall = begun.elapsed();
    sample.latencies.sort();
    Ok(sample)
}

/// Puts the body under so many keys, `PATH` and a number of five digits, on some connections at once. No request is begun
/// after the time.
pub async fn fill(
    target: &Target,
    path: &str,
    body: &Bytes,
    count: usize,
    limit: Duration,
) -> Result<(), String> {
    const CONNECTIONS: usize = 16;
    let begun = Instant::now();
    // The first one alone: who keeps directories has to make one, and not everyone makes it for many at once.
    once(target, Method::PUT, &format!("{path}{:05}", 0), body.clone()).await?;
    let mut working = JoinSet::new();
    for first in 1..=CONNECTIONS {
        let (target, path, body) = (target.clone(), path.to_owned(), body.clone());
        working.spawn(async move {
            let mut connection = Connection::open(&target, body.clone(), 0).await?;
            for number in (first..count).step_by(CONNECTIONS) {
                if begun.elapsed() > limit {
                    let seconds = limit.as_secs();
                    return Err(format!("only {number} of {count} objects were written in {seconds} s"));
                }
                let path = format!("{path}{number:05}");
                connection.timed(&signed(&target, Method::PUT, &path, body.len())?).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = working.join_next().await {
        done.map_err(|why| why.to_string())??;
    }
    Ok(())
}

/// Reads the bytes of an object from one place to before another.
pub async fn range(target: &Target, path: &str, from: usize, to: usize) -> Result<Bytes, String> {
    let head = ranged(target, path, from, to)?;
    let mut connection = Connection::open(target, Bytes::new(), 0).await?;
    let mut whole = Vec::new();
    connection.exchange(&head, |piece| whole.extend_from_slice(piece)).await?;
    Ok(whole.into())
}

/// The number of a connection's part, from 1: neighbours are sent side by side.
fn part(load: &Load, connection: usize, turn: usize) -> usize {
    turn * load.connections + connection + 1
}

/// The heads of a connection's requests, signed.
fn heads(target: &Target, load: &Load, connection: usize, upload: &str) -> Result<Vec<Request<()>>, String> {
    let len = load.body.len();
    let range = |from: usize| ranged(target, &load.path, from, from + len);
    // The same places for every peer.
    let mut somewhere = chance::SEED.wrapping_mul(connection as u64 + 1);
    let head = |turn: usize| match load.what {
        What::Put => signed(target, Method::PUT, &format!("{}-{connection}", load.path), len),
        What::Get => signed(target, Method::GET, &load.path, 0),
        What::List(_) => signed(target, Method::GET, &page(&load.path, None), 0),
        What::Upload => {
            let query = format!("partNumber={}&uploadId={upload}", part(load, connection, turn));
            signed(target, Method::PUT, &format!("{}?{query}", load.path), len)
        }
        What::Ranges => range((part(load, connection, turn) - 1) * len),
        What::Random(size) => range((chance::next(&mut somewhere) % (size - len as u64)) as usize),
    };
    (0..load.requests).map(head).collect()
}

fn ranged(target: &Target, path: &str, from: usize, to: usize) -> Result<Request<()>, String> {
    let mut head = signed(target, Method::GET, path, 0)?;
    let value = format!("bytes={from}-{}", to - 1);
    head.headers_mut().insert("range", value.parse().expect("a range is a header's value"));
    Ok(head)
}

/// Where a page of the keys under a bucket's prefix, `/BUCKET/PREFIX`, is asked for.
fn page(path: &str, token: Option<&str>) -> String {
    let (bucket, prefix) = path[1..].split_once('/').expect("a bucket and a prefix");
    let token = token.map(|token| format!("continuation-token={}&", escaped(token))).unwrap_or_default();
    format!("/{bucket}?{token}list-type=2&prefix={}", escaped(prefix))
}

/// A value of a query, for a signature too: all is escaped but letters, digits and `-._~`.
fn escaped(value: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    value.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

async fn begin(target: &Target, path: &str) -> Result<String, String> {
    let answer = once(target, Method::POST, &format!("{path}?uploads="), Bytes::new()).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let id = answer.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once('<'));
    id.map(|(id, _)| id.to_owned()).ok_or(answer)
}

async fn complete(
    target: &Target,
    path: &str,
    upload: &str,
    mut parts: Vec<(usize, String)>,
) -> Result<(), String> {
    parts.sort();
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let answer =
        once(target, Method::POST, &format!("{path}?uploadId={upload}"), document.into_bytes().into())
            .await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer.contains("<ETag>") { Ok(()) } else { Err(answer) }
}

/// One listing, all of its pages.
struct Listed {
    took: Duration,
    pages: usize,
    bytes: usize,
}

impl Connection {
    async fn open(target: &Target, body: Bytes, expected: usize) -> Result<Self, String> {
        let sender = connect(target.address).await?;
        Ok(Self { sender, body, expected })
    }

    /// How long it took, and the answer's ETag.
    async fn timed(&mut self, head: &Request<()>) -> Result<(Duration, String), String> {
        let begun = Instant::now();
        let mut seen = 0;
        let etag = self.exchange(head, |piece| seen += piece.len()).await?;
        let took = begun.elapsed();
        match seen == self.expected {
            true => Ok((took, etag)),
            false => Err(format!("{seen} bytes came instead of {}", self.expected)),
        }
    }

    /// Lists all keys, from the first page's head on, and counts them.
    async fn listing(
        &mut self,
        target: &Target,
        first: &Request<()>,
        count: usize,
    ) -> Result<Listed, String> {
        let begun = Instant::now();
        let path = first.uri().path().to_owned();
        let prefix =
            first.uri().query().and_then(|query| query.rsplit_once("prefix=")).map_or("", |(_, p)| p);
        let path = format!("{path}/{}", prefix.replace("%2F", "/"));
        let (mut keys, mut bytes, mut pages) = (0, 0, 0);
        let mut next = None;
        loop {
            let mut answer = Vec::new();
            self.exchange(next.as_ref().unwrap_or(first), |piece| answer.extend_from_slice(piece)).await?;
            let answer = String::from_utf8_lossy(&answer);
            bytes += answer.len();
            pages += 1;
            keys += answer.matches("<Key>").count();
            let token =
                answer.split_once("<NextContinuationToken>").and_then(|(_, rest)| rest.split_once('<'));
            match token.filter(|_| answer.contains("<IsTruncated>true<")) {
                Some((token, _)) if keys < count => {
                    let token = token.replace("&quot;", "\"").replace("&amp;", "&");
                    next = Some(signed(target, Method::GET, &page(&path, Some(&token)), 0)?);
                }
                _ => break,
            }
        }
        match keys == count {
            true => Ok(Listed { took: begun.elapsed(), pages, bytes }),
            false => Err(format!("{keys} keys were listed instead of {count}")),
        }
    }

    async fn exchange(&mut self, asked: &Request<()>, mut take: impl FnMut(&[u8])) -> Result<String, String> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = asked.method().clone();
        *request.uri_mut() = asked.uri().clone();
        *request.headers_mut() = asked.headers().clone();
        self.sender.ready().await.map_err(|why| why.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|why| format!("{why:?}"))?;
        let (head, mut body) = response.into_parts();
        let mut error = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|why| format!("{why:?}"))?.into_data() else { continue };
            match head.status.is_success() {
                true => take(&piece),
                false => error.extend_from_slice(&piece[..piece.len().min(4096)]),
            }
        }
        match head.status {
            status if status.is_success() => {
                let etag = head.headers.get("etag").and_then(|etag| etag.to_str().ok());
                Ok(etag.unwrap_or_default().to_owned())
            }
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&error))),
        }
    }
}

/// Signed once, for the signature holds for minutes: the client's own work is then small.
fn signed(target: &Target, method: Method, path: &str, length: usize) -> Result<Request<()>, String> {
    let mut headers = Vec::new();
    if method != Method::GET {
        headers.push(("content-length", length.to_string()));
        headers.push(("content-type", "application/octet-stream".to_owned()));
    }
    wire::signed(target, method.as_str(), path, headers)
}
