//! The load: so many connections, each with one request after the other, signed beforehand.
//!
//! An upload by parts, and a read by ranges, are one object on all of the connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use s3veil::aws::credentials::Credentials;
use s3veil::aws::sign::{BodyHash, sign_request};
use s3veil::secret::Secret;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// As large as a socket gives and takes at once.
const BUFFER: usize = 1 << 20;

/// Where requests go, and who signs them.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
}

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
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// From the first request's start to the last answer's end.
    pub wall: Duration,
    /// Of each request, sorted.
    pub latencies: Vec<Duration>,
    pub bytes: u64,
}

impl Sample {
    /// Of so many thousandths of the requests the latency is at most this.
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let last = self.latencies.len() - 1;
        self.latencies[(self.latencies.len() * thousandths / 1000).min(last)]
    }

    /// Megabytes (10^6) of plaintext a second.
    pub fn throughput(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
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
    let mut connections = Vec::new();
    for number in 0..load.connections {
        let (sent, expected) = match load.what {
            What::Put | What::Upload => (load.body.clone(), 0),
            What::Get | What::Ranges | What::Random(_) => (Bytes::new(), load.body.len()),
        };
        let mut connection = Connection::open(target, sent, expected).await?;
        // A long body would only cost time here.
        if load.body.len() <= 1 << 20 {
            connection.timed(&heads(target, load, number, "")?[0]).await?;
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
        working.spawn(async move {
            let mut latencies = Vec::with_capacity(heads.len());
            let mut etags = Vec::new();
            for head in &heads {
                let (latency, etag) = connection.timed(head).await?;
                latencies.push(latency);
                etags.push(etag);
            }
            Ok::<_, String>((number, latencies, etags))
        });
    }
    let mut sample = Sample::default();
    let mut parts = Vec::new();
    while let Some(done) = working.join_next().await {
        let (number, latencies, etags) = done.map_err(|why| why.to_string())??;
        sample.latencies.extend(latencies);
        parts.extend(etags.into_iter().enumerate().map(|(turn, etag)| (part(load, number, turn), etag)));
    }
    if load.what == What::Upload {
        complete(target, &load.path, &upload, parts).await?;
    }
    sample.wall = begun.elapsed();
    sample.latencies.sort();
    sample.bytes = (sample.latencies.len() * load.body.len()) as u64;
    Ok(sample)
}

/// The number of a connection's part, from 1: neighbours are sent side by side.
fn part(load: &Load, connection: usize, turn: usize) -> usize {
    turn * load.connections + connection + 1
}

/// The heads of a connection's requests, signed.
fn heads(target: &Target, load: &Load, connection: usize, upload: &str) -> Result<Vec<Request<()>>, String> {
    let len = load.body.len();
    let range = |from: usize| -> Result<Request<()>, String> {
        let mut head = signed(target, Method::GET, &load.path, 0)?;
        let value = format!("bytes={from}-{}", from + len - 1);
        head.headers_mut().insert("range", value.parse().expect("a range is a header's value"));
        Ok(head)
    };
    // The same places for every peer.
    let mut somewhere = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(connection as u64 + 1);
    let head = |turn: usize| match load.what {
        What::Put => signed(target, Method::PUT, &format!("{}-{connection}", load.path), len),
        What::Get => signed(target, Method::GET, &load.path, 0),
        What::Upload => {
            let query = format!("partNumber={}&uploadId={upload}", part(load, connection, turn));
            signed(target, Method::PUT, &format!("{}?{query}", load.path), len)
        }
        What::Ranges => range((part(load, connection, turn) - 1) * len),
        What::Random(size) => {
            somewhere ^= somewhere << 13;
            somewhere ^= somewhere >> 7;
            somewhere ^= somewhere << 17;
            range((somewhere % (size - len as u64)) as usize)
        }
    };
    (0..load.requests).map(head).collect()
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

impl Connection {
    async fn open(target: &Target, body: Bytes, expected: usize) -> Result<Self, String> {
        let stream = TcpStream::connect(target.address).await.map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|why| why.to_string())?;
        // Its error is seen by the request on it.
        tokio::spawn(connection);
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
    let authority = target.address.to_string();
    let mut builder = Request::builder().method(&method).uri(format!("http://{authority}{path}"));
    builder = builder.header("host", &authority);
    if method != Method::GET {
        builder = builder.header("content-length", length).header("content-type", "application/octet-stream");
    }
    let (mut parts, ()) = builder.body(()).map_err(|why| why.to_string())?.into_parts();
    let credentials = Credentials {
        access_key: Secret::new(&target.access_key),
        secret_key: Secret::new(&target.secret_key),
        session_token: None,
    };
    sign_request(&mut parts, BodyHash::Unsigned, &credentials, ("us-east-1", "s3"), SystemTime::now())
        .map_err(|why| why.to_string())?;
    parts.uri = parts.uri.path_and_query().expect("a path was given").clone().into();
    Ok(Request::from_parts(parts, ()))
}
