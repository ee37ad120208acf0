//! Traces, sent to a collector by OTLP over HTTP: a span for each request, and within it for what it asks of store and KMS.
//!
//! Source: OpenTelemetry Protocol Specification 1.x, "OTLP/HTTP"; W3C Trace Context.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::body::{self, ByteBody};
use crate::net::{Connector, NetConfig, root_files};
use crate::secret::SecretSource;

/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read of the collector's answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// Where traces go, as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector: `http://HOST:4318`, to which `/v1/traces` is added.
    pub endpoint: String,
    /// The share of requests that begin a trace, 0 to 1. A request that comes with a trace of its own goes by that.
    #[serde(default = "all")]
    pub sample: f64,
    /// What s3veil is called there.
    #[serde(default = "own_name")]
    pub service_name: String,
    /// Headers of each request to the collector: a login, for instance.
    #[serde(default)]
    pub headers: HashMap<String, SecretSource>,
    /// Roots to trust instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
}

fn all() -> f64 {
    1.0
}
fn own_name() -> String {
    "s3veil".into()
}

/// Traces on their way to the collector.
pub struct Traces(SdkTracerProvider);

impl TracesConfig {
    /// The files that it is made from, read once.
    pub fn files(&self) -> Vec<PathBuf> {
        let headers = self.headers.values().flat_map(SecretSource::files);
        headers.chain(self.ca_file.iter().flat_map(|file| root_files(file))).collect()
    }

    /// Whether it can be used. Nothing is read.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn check(&self) -> Result<(), String> {
        let scheme =
            self.endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(format!(
                "traces.endpoint: '{}' is no address of a collector. Write http://HOST:4318 or https://HOST",
                self.endpoint
            ));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(format!("traces.sample: '{}' is no share. Write a number from 0 to 1", self.sample));
        }
        Ok(())
    }

    /// Within a runtime, whose threads then talk to the collector.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn build(self) -> Result<Traces, String> {
        self.check()?;
        let mut headers = http::HeaderMap::new();
        for (name, source) in self.headers {
            let wrong = |why: &dyn std::fmt::Display| format!("traces.headers.{name}: {why}");
            let value = source.load().map_err(|why| wrong(&why))?;
            let mut value = HeaderValue::from_str(value.as_str())
                .map_err(|_| wrong(&"the value (not shown) is no header's. Correct it"))?;
            value.set_sensitive(true);
            let name = http::HeaderName::try_from(name.as_str())
                .map_err(|_| wrong(&"is no name of a header. Correct it"))?;
            headers.insert(name, value);
        }
        let net = NetConfig { ca_file: self.ca_file, identity: None, connect_timeout: PATIENCE };
        let client = crate::net::client(net).map_err(|why| format!("traces.{why}"))?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Collector { client, headers, runtime: Handle::current() })
            .with_endpoint(format!("{}/v1/traces", self.endpoint.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()
            .map_err(|why| format!("traces.endpoint: '{}': {why}. Correct the address", self.endpoint))?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(self.sample))))
            .with_resource(
                Resource::builder()
                    .with_service_name(self.service_name)
                    .with_attribute(opentelemetry::KeyValue::new(
                        "service.version",
                        env!("CARGO_PKG_VERSION"),
                    ))
                    .build(),
            )
            .with_batch_exporter(exporter)
            .build();
        Ok(Traces(provider))
    }
}

impl Traces {
    /// Takes s3veil's own spans, and no events: those are the log's.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let own = filter_fn(|what| what.is_span() && what.target().split("::").next() == Some("s3veil"));
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("s3veil"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(own)
    }

    /// Sends what is left. Blocks until it has gone, or its time is over.
    pub fn end(self) {
        if let Err(why) = self.0.shutdown() {
            tracing::warn!(%why, "the last traces may be lost");
        }
    }
}

/// The collector, over the client that store and KMS are asked with.
struct Collector {
    client: Client<Connector, ByteBody>,
    headers: http::HeaderMap,
    /// The exporter has a thread of its own, and no runtime there.
    runtime: Handle,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(body::full);
        request.headers_mut().extend(self.headers.clone());
        let client = self.client.clone();
        let exchange = async move {
            let (head, body) = client.request(request).await?.into_parts();
            let bytes = body::gather(body.map_err(Into::into).boxed_unsync(), ANSWER).await?;
            Ok::<_, HttpError>(Response::from_parts(head, bytes))
        };
        // Its timer is the runtime's too.
        self.runtime.spawn(async move { timeout(PATIENCE, exchange).await? }).await?
    }
}
