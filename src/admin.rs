//! The admin listener: `/healthz`, `/readyz`, `/metrics` and `/cache/flush`, apart from the S3 port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::handler::Rooms;
use crate::kms::{EkName, Health};
use crate::metrics::Metrics;
use crate::policy::EkRef;
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

/// What the admin listener shows and changes.
pub struct Admin {
    /// Its address and port.
    pub listen: SocketAddr,
    token: Option<Arc<Secret>>,
    metrics: Arc<Metrics>,
    rooms: Arc<Rooms>,
    /// The KMSs that the policy seals with, and the EKs there.
    kmss: BTreeMap<String, Vec<EkName>>,
}

impl Config {
    /// `eks`: those of the policy.
    ///
    /// Errors: a message that names the key and the remedy.
    pub fn build(self, metrics: Arc<Metrics>, rooms: Arc<Rooms>, eks: Vec<EkRef>) -> Result<Admin, String> {
        let token = self.token.map(|source| source.load()).transpose();
        let token = token.map_err(|why| format!("admin.token: {why}"))?;
        if token.as_ref().is_some_and(|token| token.as_bytes().len() < TOKEN_MIN) {
            return Err(format!(
                "admin.token: is shorter than {TOKEN_MIN} characters. Make one with 'openssl rand -hex 32'"
            ));
        }
        let token = token.map(Arc::new);
        Ok(Admin { listen: self.listen, token, metrics, rooms, kmss: by_kms(eks) })
    }
}

fn by_kms(eks: Vec<EkRef>) -> BTreeMap<String, Vec<EkName>> {
    let mut kmss = BTreeMap::<_, Vec<_>>::new();
    for EkRef { kms, ek } in eks {
        kmss.entry(kms).or_default().push(ek);
    }
    kmss
}

/// Serves until the process ends. `current`: what is shown and changed, asked for at each request.
pub async fn serve(current: impl Fn() -> Arc<Admin> + Clone + Send + 'static, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let current = current.clone();
        let service = service_fn(move |request| {
            let admin = current();
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        });
        tokio::spawn(
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service),
        );
    }
}

impl Admin {
    /// The same in front of other rooms: for a listener that goes on though the configuration has none by now. It only shows:
    /// a token that has been removed is good for nothing.
    pub fn before(&self, rooms: Arc<Rooms>, eks: Vec<EkRef>) -> Self {
        Self { listen: self.listen, token: None, metrics: self.metrics.clone(), rooms, kmss: by_kms(eks) }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => page(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready().await,
            (&Method::GET | &Method::HEAD, "/metrics") => page(StatusCode::OK, self.metrics.text()),
            (&Method::POST, "/cache/flush") => match self.refusal(request) {
                None => {
                    self.rooms.keys.flush().await;
                    tracing::info!("every cached key is forgotten");
                    page(StatusCode::OK, "every cached key is forgotten\n")
                }
                Some(refusal) => refusal,
            },
            (_, "/healthz" | "/readyz" | "/metrics" | "/cache/flush") => page(
                StatusCode::METHOD_NOT_ALLOWED,
                "GET /healthz, /readyz and /metrics, POST /cache/flush\n",
            ),
            _ => page(
                StatusCode::NOT_FOUND,
                "there is GET /healthz, GET /readyz, GET /metrics, POST /cache/flush\n",
            ),
        }
    }

    /// Whether requests can be served, each KMS named. One that is away does not count while cached keys go on: taking
    /// every replica out at once would make an outage of the KMS one of everything.
    async fn ready(&self) -> Response<Full<Bytes>> {
        let keys = &self.rooms.keys;
        let asked = self.kmss.iter().map(|(kms, eks)| async move { (kms, keys.health(kms, eks).await) });
        let (mut ready, mut text) = (true, String::new());
        for (kms, health) in futures_util::future::join_all(asked).await {
            let line = match health {
                Health::Up => format!("kms '{kms}': ok\n"),
                Health::Away { since, why, answered } => {
                    let carries = answered.is_some_and(|at| at.elapsed() < keys.ttl());
                    ready &= carries;
                    let rest = if carries { "; cached keys go on" } else { "" };
                    format!("kms '{kms}': away for {} s{rest}: {why}\n", since.elapsed().as_secs())
                }
            };
            text.push_str(&line);
        }
        page(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
    }

    /// What a caller gets who does not show `Authorization: Bearer TOKEN` (RFC 6750). Compared in constant time.
    fn refusal<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let Some(token) = &self.token else {
            return Some(page(
                StatusCode::FORBIDDEN,
                "there is no admin.token in the configuration: set one\n",
            ));
        };
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|shown| token.matches(shown)) {
            return None;
        }
        let mut refusal =
            page(StatusCode::UNAUTHORIZED, "send 'Authorization: Bearer TOKEN' with the admin.token\n");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        Some(refusal)
    }
}

fn page(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
