//! The store behind s3veil: a request in, its answer out.

mod body;
mod check;
mod credentials;
mod expect;
mod framing;
mod health;
mod line;
mod pace;
mod request;
mod socket;
mod timeout;

pub use body::StoreBody;
pub use credentials::StoreCredentialsConfig;
pub use health::Health;
pub use pace::Pace;
pub use request::{StoreHeaders, StoreRequest};
pub use timeout::IdleBody;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde::Deserialize;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::aws::credentials::Credentials;
use crate::aws::sign::{BodyHash, SignError, sign_request};
use crate::body::ByteBody;
use crate::metrics::StoreMetrics;
use crate::net::{NetConfig, among, connector, root_files};
use body::Payload;
use credentials::{ForRequest, StoreCredentials};
use expect::expect_continue;
use health::Known;
use line::Lines;
use timeout::Progress;

/// The store as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub endpoint: String,
    /// The region that requests are signed for.
    #[serde(default = "default_region")]
    pub region: String,
    /// Where the bucket's name goes.
    #[serde(default)]
    pub addressing: Addressing,
    /// How a streamed body is covered on its way to the store.
    #[serde(default)]
    pub payload: PayloadMode,
    /// Roots to trust instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Seconds to wait for a connection.
    #[serde(default = "default_connect")]
    pub connect_timeout_secs: u64,
    /// Seconds without any progress after which the store counts as away.
    #[serde(default = "default_idle")]
    pub idle_timeout_secs: u64,
    /// The least plaintext bytes of a part that is not the last. Shorter ones are kept aside until the upload is
    /// completed. S3's own limit; a store that takes less may be given less.
    #[serde(default = "default_min_part")]
    pub min_part_bytes: u64,
    /// Credentials by name; `default` is used where an identity names none.
    pub credentials: HashMap<String, StoreCredentialsConfig>,
}

fn default_region() -> String {
    "us-east-1".into()
}
fn default_min_part() -> u64 {
    5 * 1024 * 1024
}
fn default_connect() -> u64 {
    5
}
fn default_idle() -> u64 {
    60
}

/// The longest part of a multipart upload (S3).
const MAX_PART: u64 = 5 * 1024 * 1024 * 1024;

/// Where the bucket's name goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// `https://host/bucket/key`.
    #[default]
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

/// How a streamed body is covered on its way to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadMode {
    /// `unsigned` over https but for objects under a lock, `trailer` over http.
    #[default]
    Auto,
    /// UNSIGNED-PAYLOAD, always: what a store understands that knows no trailers.
    Unsigned,
    /// aws-chunked with a CRC-32C of the sent bytes behind them.
    Trailer,
}

/// Why no answer of the store can be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("the store is not reachable")]
    Unreachable(#[source] crate::body::BoxError),
    /// It sends the client elsewhere, or speaks another protocol.
    #[error("the store answered with status {0}, which leads past s3veil, to '{1}'")]
    Elsewhere(StatusCode, String),
    /// No progress for the configured time.
    #[error("the store did not answer in time")]
    Timeout,
    /// The request can't be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The address can't be built.
    #[error("the request can't be addressed: {0}")]
    Address(String),
    /// The identity's store credentials are not configured.
    #[error("no store credentials named '{0}'")]
    Credentials(String),
    /// AWS's chain has none for that name.
    #[error("no credentials for the store ('{name}'): {why}")]
    NoCredentials {
        /// Their name.
        name: String,
        /// Why, and the remedy.
        why: String,
    },
}

/// An answer of the store, whatever its status.
pub type StoreResponse = Response<ByteBody>;

/// The client of the store: one pool of connections, every request signed.
pub struct Backend {
    lines: Lines,
    scheme: Scheme,
    authority: String,
    region: String,
    addressing: Addressing,
    payload: PayloadMode,
    idle: Duration,
    min_part: u64,
    credentials: HashMap<String, StoreCredentials>,
    known: Known,
    pace: OnceLock<Pace>,
}

impl Config {
    /// The files that it is made from, read once.
    pub fn files(&self) -> Vec<PathBuf> {
        let credentials = self.credentials.values().flat_map(StoreCredentialsConfig::files);
        credentials.chain(self.ca_file.iter().flat_map(|file| root_files(file))).collect()
    }

    /// Resolves the endpoint, loads roots and credentials.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self, metrics: StoreMetrics) -> Result<Backend, String> {
        let (scheme, authority) = endpoint(&self.endpoint)?;
        let net = NetConfig {
            ca_file: self.ca_file,
            identity: None,
            connect_timeout: Duration::from_secs(self.connect_timeout_secs.max(1)),
        };
        if !self.credentials.contains_key("default") {
            return Err(
                "store.credentials.default: missing. Add access_key and secret_key of the store, or chain = true for AWS's \
                 chain"
                    .into()
            );
        }
        if self.min_part_bytes > MAX_PART {
            return Err(format!(
                "store.min_part_bytes: '{}' is more than any part of S3's may have, {MAX_PART}. Write the least that the \
                 store takes for a part that is not the last one, in most of them 5242880",
                self.min_part_bytes
            ));
        }
        let mut credentials = HashMap::new();
        for (name, config) in self.credentials {
            let loaded =
                config.build(&self.region).map_err(|why| format!("store.credentials.{name}.{why}"))?;
            credentials.insert(name, loaded);
        }
        let payload = match self.payload {
            PayloadMode::Auto if scheme == Scheme::HTTP => PayloadMode::Trailer,
            chosen => chosen,
        };
        Ok(Backend {
            lines: Lines::new(connector(net).map_err(|why| format!("store.{why}"))?),
            scheme,
            authority,
            region: self.region,
            addressing: self.addressing,
            payload,
            idle: Duration::from_secs(self.idle_timeout_secs.max(1)),
            min_part: self.min_part_bytes,
            credentials,
            known: Known::new(metrics),
            pace: OnceLock::new(),
        })
    }
}

fn endpoint(text: &str) -> Result<(Scheme, String), String> {
    let wrong =
        |why: &str| format!("store.endpoint: '{text}' {why}. Write http://HOST:PORT or https://HOST:PORT");
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong("is not a URL"))?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::HTTP,
        Some("https") => Scheme::HTTPS,
        _ => return Err(wrong("has no scheme of http or https")),
    };
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("has a path; the store's S3 must be at its root"));
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok((scheme, authority.to_string())),
        _ => Err(wrong("has no plain host")),
    }
}

impl Backend {
    /// The least plaintext bytes of a part that is not the last.
    pub fn min_part(&self) -> u64 {
        self.min_part
    }

    /// Sends at most so many requests a second from now on. Only the first limit counts.
    pub fn limit(&self, per_second: NonZeroU64) {
        self.pace.set(Pace::new(per_second)).ok();
    }

    /// Whether an identity may name these credentials.
    pub fn has_credentials(&self, name: &str) -> bool {
        self.credentials.contains_key(name)
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A request without a body that met a connection which the store had just closed is sent once more; one with a
    /// body can't be, since its bytes are gone. A redirect is an error: a client that followed it would leave s3veil
    /// behind, and send its plaintext to whoever the store names.
    pub async fn send(&self, request: StoreRequest) -> Result<StoreResponse, Error> {
        let again = request.repeat();
        let result = match self.attempt(request).await {
            Err(Error::Unreachable(why)) if again.is_some() && was_closed(&why) => {
                Box::pin(self.attempt(again.expect("checked by the guard"))).await
            }
            result => result,
        };
        self.note(&result);
        result
    }

    async fn attempt(&self, request: StoreRequest) -> Result<StoreResponse, Error> {
        if let Some(pace) = self.pace.get() {
            pace.take(1).await;
        }
        let credentials = self.credentials(request.signer.as_deref()).await?;
        let progress = Arc::new(Progress::default());
        let request = self.assemble(request, progress.clone(), credentials.as_deref())?;
        let (method, begun) = (request.method().clone(), Instant::now());
        let span = tracing::info_span!(
            "store",
            otel.kind = "client",
            http.request.method = %method,
            server.address = self.authority,
            http.response.status_code = Empty,
        );
        let result = self.exchange(request, progress).instrument(span.clone()).await;
        let status = match &result {
            Ok(response) => Ok(response.status()),
            Err(Error::Elsewhere(status, _)) => Ok(*status),
            Err(Error::Timeout) => Err("timeout"),
            Err(Error::Unreachable(why)) if broken_by_body(why) => Err("client"),
            Err(_) => Err("unreachable"),
        };
        if let Ok(status) = status {
            span.record("http.response.status_code", status.as_u16());
        }
        self.known.metrics().request(&method, status, begun.elapsed());
        result
    }

    async fn exchange(
        &self,
        request: Request<ByteBody>,
        progress: Arc<Progress>,
    ) -> Result<StoreResponse, Error> {
        tokio::select! {
            response = self.lines.request(request) => match response {
                Ok(response) if leads_elsewhere(response.status()) => {
                    Err(Error::Elsewhere(response.status(), elsewhere(response.headers())))
                }
                Ok(response) => Ok(response.map(|body| IdleBody::boxed(body, self.idle))),
                Err(why) => Err(Error::Unreachable(why)),
            },
            () = progress.stalled(self.idle) => Err(Error::Timeout),
        }
    }

    /// What signs a request, if it is signed. AWS's chain may have to be asked; no time limit of the store's runs meanwhile.
    async fn credentials(&self, name: Option<&str>) -> Result<Option<ForRequest<'_>>, Error> {
        let Some(name) = name else { return Ok(None) };
        let known = self.credentials.get(name).ok_or_else(|| Error::Credentials(name.to_owned()))?;
        known.get().await.map(Some).map_err(|why| Error::NoCredentials { name: name.to_owned(), why })
    }

    fn assemble(
        &self,
        request: StoreRequest,
        progress: Arc<Progress>,
        credentials: Option<&Credentials>,
    ) -> Result<Request<ByteBody>, Error> {
        let StoreRequest { method, bucket, key, query, headers, body, signer: _ } = request;
        let uri = self.uri(bucket.as_ref().map(|b| b.as_str()), key.as_ref().map(|k| k.as_str()), &query)?;
        let authority = uri.authority().expect("the URI was built with one").as_str().to_owned();
        let mut headers = headers.into_map();
        headers.insert(
            header::HOST,
            HeaderValue::from_str(&authority).map_err(|why| Error::Address(why.to_string()))?,
        );

        let mode = if credentials.is_some() { self.payload } else { PayloadMode::Unsigned };
        let Payload { body, length, hash } = body.into_payload(mode, &mut headers, progress);
        if length > 0 || method == Method::PUT || method == Method::POST {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let (mut parts, ()) =
            Request::builder().method(method).uri(uri).body(()).expect("all parts are valid").into_parts();
        parts.headers = headers;
        match (credentials, hash) {
            (Some(credentials), hash) => {
                sign_request(&mut parts, hash, credentials, (&self.region, "s3"), SystemTime::now())?;
            }
            (None, BodyHash::Unsigned) => {}
            // Stores know by this alone that the body is framed.
            (None, BodyHash::UnsignedTrailer) => {
                let framed = HeaderValue::from_static("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
                parts.headers.insert("x-amz-content-sha256", framed);
            }
            (None, BodyHash::Sha256(_)) => {
                return Err(Error::Address("an unsigned request has no signed body".into()));
            }
        }
        Ok(expect_continue(Request::from_parts(parts, body), length))
    }

    fn uri(
        &self,
        bucket: Option<&str>,
        key: Option<&str>,
        query: &crate::s3::query::Query,
    ) -> Result<Uri, Error> {
        let mut path = String::from("/");
        let mut authority = self.authority.clone();
        if let Some(bucket) = bucket {
            match self.addressing {
                Addressing::Path => path.push_str(bucket),
                // Names of hosts know no case, and the policy does: it must not have judged another bucket.
                Addressing::Virtual if bucket.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                    return Err(Error::Address("a bucket in a host's name has no capital letters".into()));
                }
                Addressing::Virtual => authority = format!("{bucket}.{authority}"),
            }
        }
        if let Some(key) = key {
            if path.len() > 1 {
                path.push('/');
            }
            path.extend(crate::s3::query::encode_path(key));
        }
        let query = query.to_canonical();
        let path = if query.is_empty() { path } else { format!("{path}?{query}") };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|why| Error::Address(why.to_string()))
    }
}

/// A redirect, or a change of protocol. Clients follow a redirect with the plaintext in hand, straight to the store or to
/// wherever it says: none of them goes on to a client. The page after a browser's form (`success_action_redirect`) is no
/// answer of a store: forms are never sent to one.
fn leads_elsewhere(status: StatusCode) -> bool {
    status != StatusCode::NOT_MODIFIED && (status.is_informational() || status.is_redirection())
}

/// Where a redirect points, as far as its headers say: the address, or the bucket's region at AWS.
fn elsewhere(headers: &HeaderMap) -> String {
    let named = headers.get(header::LOCATION).or_else(|| headers.get("x-amz-bucket-region"));
    named.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// The store closed the connection before it answered: with keep-alive that happens when an idle connection is
/// reused in the moment in which the store gives it up. What it does not read any more the system answers with a reset, and
/// in TLS an end without a goodbye is an error of its own.
fn was_closed(why: &crate::body::BoxError) -> bool {
    use std::io::{Error, ErrorKind};

    among(why.as_ref()).any(|error: &hyper::Error| error.is_incomplete_message() || error.is_canceled())
        || among(why.as_ref()).any(|error: &Error| {
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
            )
        })
}

/// Whether the request ended because its own body did: a client that went away, or sent what it did not announce.
fn broken_by_body(why: &crate::body::BoxError) -> bool {
    among(why.as_ref()).any(hyper::Error::is_user)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_connection_that_was_closed_is_told_from_a_store_that_is_away() {
        let closed = |kind: ErrorKind| was_closed(&Error::from(kind).into());
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof] {
            assert!(closed(kind), "{kind}");
        }
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::TimedOut] {
            assert!(!closed(kind), "{kind}");
        }
    }
}
