//! The load: so many connections, each with one request after the other, signed beforehand.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
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
    pub method: Method,
    /// Each connection's path begins so, and ends with its number where objects are written.
    pub path: String,
    /// What is sent by a PUT; what a GET must bring is as long.
    pub body: Bytes,
    pub connections: usize,
    /// Requests on each connection.
    pub requests: usize,
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
    head: Request<()>,
    body: Bytes,
    expected: usize,
}

/// Sends one request and gives the answer's body. For what is done once; `Err` says what came instead of 200.
pub async fn once(target: &Target, method: Method, path: &str, body: Bytes) -> Result<Bytes, String> {
    let mut connection = Connection::open(target, method, path, body, 0).await?;
    let mut whole = Vec::new();
    connection.exchange(|piece| whole.extend_from_slice(piece)).await?;
    Ok(whole.into())
}

/// Runs the load. The connections are opened, and have each carried a request, before the clock starts.
pub async fn run(target: &Target, load: &Load) -> Result<Sample, String> {
    let mut ready = JoinSet::new();
    for number in 0..load.connections {
        let (target, load) = (target.clone(), load.clone());
        ready.spawn(async move {
            let (sent, expected, path) = match load.method {
                Method::PUT => (load.body, 0, format!("{}-{number}", load.path)),
                _ => (Bytes::new(), load.body.len(), load.path),
            };
            let mut connection = Connection::open(&target, load.method, &path, sent, expected).await?;
            // A long body would only cost time here.
            if connection.body.len().max(expected) <= 1 << 20 {
                connection.timed().await?;
            }
            Ok::<_, String>(connection)
        });
    }
    let mut connections = Vec::new();
    while let Some(connection) = ready.join_next().await {
        connections.push(connection.map_err(|why| why.to_string())??);
    }

    let begun = Instant::now();
    let mut working = JoinSet::new();
    for mut connection in connections {
        let requests = load.requests;
        working.spawn(async move {
            let mut latencies = Vec::with_capacity(requests);
            for _ in 0..requests {
                latencies.push(connection.timed().await?);
            }
            Ok::<_, String>(latencies)
        });
    }
    let mut sample = Sample::default();
    while let Some(latencies) = working.join_next().await {
        sample.latencies.extend(latencies.map_err(|why| why.to_string())??);
    }
    sample.wall = begun.elapsed();
    sample.latencies.sort();
    sample.bytes = (sample.latencies.len() * load.body.len()) as u64;
    Ok(sample)
}

impl Connection {
    async fn open(
        target: &Target,
        method: Method,
        path: &str,
        body: Bytes,
        expected: usize,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(target.address).await.map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|why| why.to_string())?;
        // Its error is seen by the request on it.
        tokio::spawn(connection);
        let head = signed(target, method, path, body.len())?;
        Ok(Self { sender, head, body, expected })
    }

    async fn timed(&mut self) -> Result<Duration, String> {
        let begun = Instant::now();
        let mut seen = 0;
        self.exchange(|piece| seen += piece.len()).await?;
        let took = begun.elapsed();
        match seen == self.expected {
            true => Ok(took),
            false => Err(format!("{seen} bytes came instead of {}", self.expected)),
        }
    }

    async fn exchange(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), String> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.head.method().clone();
        *request.uri_mut() = self.head.uri().clone();
        *request.headers_mut() = self.head.headers().clone();
        self.sender.ready().await.map_err(|why| why.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|why| format!("{why:?}"))?;
        let (head, mut body) = response.into_parts();
        let mut error = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|why| format!("{why:?}"))?.into_data() else { continue };
            match head.status == StatusCode::OK {
                true => take(&piece),
                false => error.extend_from_slice(&piece[..piece.len().min(4096)]),
            }
        }
        match head.status {
            StatusCode::OK => Ok(()),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&error))),
        }
    }
}

/// Signed once, for the signature holds for minutes: the client's own work is then small.
fn signed(target: &Target, method: Method, path: &str, length: usize) -> Result<Request<()>, String> {
    let authority = target.address.to_string();
    let mut builder = Request::builder().method(&method).uri(format!("http://{authority}{path}"));
    builder = builder.header("host", &authority);
    if method == Method::PUT {
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
