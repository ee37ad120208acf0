//! The admin listener, apart from the S3 port: health, metrics, the status page, and what takes a token.

mod health;
mod page;
mod policy;
mod status;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::handler::Rooms;
use crate::kms::EkName;
use crate::metrics::Metrics;
use crate::policy::{EkRef, Policy};
use crate::secret::{Secret, SecretSource};

/// A token that can be guessed is none.
const TOKEN_MIN: usize = 16;

/// The admin listener as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its address and port.
    pub listen: SocketAddr,
    /// What a caller shows to change something; none: nothing can be changed here.
    #[serde(default)]
    pub token: Option<SecretSource>,
}

/// An answer of this listener.
type Page = Response<Full<Bytes>>;

/// What of the configuration is shown: nothing secret.
pub struct Shown {
    /// The rules in force.
    pub policy: Policy,
    /// The clients.
    pub identities: Vec<ShownIdentity>,
}

/// A client, without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct ShownIdentity {
    /// Its name.
    pub name: String,
    /// The access key that it sends.
    pub access_key: String,
    /// The store credentials that its requests go on with.
    pub store: String,
}

/// What the admin listener shows and changes.
pub struct Admin {
    /// Its address and port.
    pub listen: SocketAddr,
    token: Option<Arc<Secret>>,
    metrics: Arc<Metrics>,
    rooms: Arc<Rooms>,
    /// The KMSs that the policy seals with, and the EKs there.
    kmss: BTreeMap<String, Vec<EkName>>,
    shown: Shown,
}

impl Config {
    /// Errors: a message that names the key and the remedy.
    pub fn build(self, metrics: Arc<Metrics>, rooms: Arc<Rooms>, shown: Shown) -> Result<Admin, String> {
        let token = self.token.map(|source| source.load()).transpose();
        let token = token.map_err(|why| format!("admin.token: {why}"))?;
        if token.as_ref().is_some_and(|token| token.as_bytes().len() < TOKEN_MIN) {
            return Err(format!(
                "admin.token: is shorter than {TOKEN_MIN} characters. Make one with 'openssl rand -hex 32'"
            ));
        }
        let token = token.map(Arc::new);
        Ok(Admin { listen: self.listen, token, metrics, rooms, kmss: by_kms(&shown), shown })
    }
}

fn by_kms(shown: &Shown) -> BTreeMap<String, Vec<EkName>> {
    let mut kmss = BTreeMap::<_, Vec<_>>::new();
    for EkRef { kms, ek } in shown.policy.eks() {
        kmss.entry(kms).or_default().push(ek);
    }
    kmss
}

/// Connections at once: probes, Prometheus and some pages. Whoever comes beyond them waits.
const CONNECTIONS: usize = 64;

/// How long a connection may last. Everybody here asks briefly, and who takes nothing of an answer must not hold a place.
const LASTS: Duration = Duration::from_secs(60);

/// Serves until the process ends. `current`: what is shown and changed, asked for at each request.
pub async fn serve(current: impl Fn() -> Arc<Admin> + Clone + Send + 'static, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let local = stream.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let current = current.clone();
        let service = service_fn(move |request| {
            let admin = current();
            async move { Ok::<_, Infallible>(admin.answer(&request, local).await) }
        });
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            timeout(LASTS, connection).await.ok();
            drop(place);
        });
    }
}

/// Whether a request is to this machine by a name that is nobody else's. A web page of a stranger may have its own name lead
/// here, and would then read what only this machine is shown (DNS rebinding).
fn is_local_name<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or("?");
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// What there is, and how it is asked for.
const PATHS: &str = "GET / (the status page), /healthz, /readyz, /metrics, /status.json; with the token GET /policy and \
                     POST /cache/flush\n";

impl Admin {
    /// The same in front of other rooms: for a listener that goes on though the configuration has none by now. It only shows:
    /// a token that has been removed is good for nothing.
    pub fn before(&self, rooms: Arc<Rooms>, shown: Shown) -> Self {
        Self {
            listen: self.listen,
            token: None,
            metrics: self.metrics.clone(),
            rooms,
            kmss: by_kms(&shown),
            shown,
        }
    }

    /// `local`: it came by loopback.
    async fn answer<B>(&self, request: &Request<B>, local: bool) -> Page {
        let mut page = match (request.method(), request.uri().path()) {
            _ if local && !is_local_name(request) => text(
                StatusCode::FORBIDDEN,
                "ask by an IP address or as localhost: this is for this machine\n",
            ),
            (&Method::GET | &Method::HEAD, "/") => page::html(),
            (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.health().await.page(),
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let mut page = text(StatusCode::OK, self.metrics.text());
                set(&mut page, header::CONTENT_TYPE, prometheus::TEXT_FORMAT);
                page
            }
            (&Method::GET | &Method::HEAD, "/status.json") => json(&self.status().await),
            (&Method::GET | &Method::HEAD, "/policy") => match self.refusal(request) {
                None => json(&self.policy().await),
                Some(refusal) => refusal,
            },
            (&Method::POST, "/cache/flush") => match self.refusal(request) {
                None => {
                    self.rooms.keys.flush().await;
                    tracing::info!("every cached key is forgotten");
                    text(StatusCode::OK, "every cached key is forgotten\n")
                }
                Some(refusal) => refusal,
            },
            (_, "/" | "/healthz" | "/readyz" | "/metrics" | "/status.json" | "/policy" | "/cache/flush") => {
                text(StatusCode::METHOD_NOT_ALLOWED, format!("there is {PATHS}"))
            }
            _ => text(StatusCode::NOT_FOUND, format!("there is {PATHS}")),
        };
        // Whatever it is, it is of this moment, and is no other type than it says.
        set(&mut page, header::CACHE_CONTROL, "no-store");
        set(&mut page, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        page
    }

    /// What a caller gets who does not show `Authorization: Bearer TOKEN` (RFC 6750). Compared in constant time.
    fn refusal<B>(&self, request: &Request<B>) -> Option<Page> {
        let Some(token) = &self.token else {
            return Some(text(
                StatusCode::FORBIDDEN,
                "there is no admin.token in the configuration: set one\n",
            ));
        };
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|shown| token.matches(shown)) {
            return None;
        }
        let mut refusal =
            text(StatusCode::UNAUTHORIZED, "send 'Authorization: Bearer TOKEN' with the admin.token\n");
        set(&mut refusal, header::WWW_AUTHENTICATE, "Bearer");
        Some(refusal)
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(text.into()));
    *page.status_mut() = status;
    set(&mut page, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    page
}

fn json(value: &impl serde::Serialize) -> Page {
    let mut page = text(StatusCode::OK, serde_json::to_vec(value).expect("names and numbers are JSON"));
    set(&mut page, header::CONTENT_TYPE, "application/json");
    page
}

fn set(page: &mut Page, name: HeaderName, value: &'static str) {
    page.headers_mut().insert(name, HeaderValue::from_static(value));
}
