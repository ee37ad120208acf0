//! A connection to S3, and requests signed for it: what every load is made of.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::Request;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use s3veil::aws::credentials::Credentials;
use s3veil::aws::sign::{BodyHash, sign_request};
use s3veil::secret::Secret;
use tokio::net::TcpStream;

use super::servers::Store;

/// As large as a socket gives and takes at once.
const BUFFER: usize = 1 << 20;

/// Where requests go, and who signs them.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
}

impl Target {
    /// A store, as its owner.
    pub fn of(store: &Store) -> Self {
        let (access_key, secret_key) = (store.access_key.clone(), store.secret_key.clone());
        Self { address: store.address(), access_key, secret_key }
    }
}

/// Opens a connection.
pub async fn connect<B>(address: SocketAddr) -> Result<SendRequest<B>, String>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = TcpStream::connect(address).await.map_err(|why| why.to_string())?;
    stream.set_nodelay(true).map_err(|why| why.to_string())?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|why| why.to_string())?;
    // Its error is seen by the request on it.
    tokio::spawn(connection);
    Ok(sender)
}

/// The head of a request, signed. The path with its query, as it goes over the wire.
pub fn signed<'a>(
    target: &Target,
    method: &str,
    path: &str,
    headers: impl IntoIterator<Item = (&'a str, String)>,
) -> Result<Request<()>, String> {
    let authority = target.address.to_string();
    let mut builder = Request::builder().method(method).uri(format!("http://{authority}{path}"));
    builder = builder.header("host", &authority);
    for (name, value) in headers {
        builder = builder.header(name, value);
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
