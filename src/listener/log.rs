//! The only place where a request ends: error to XML, metric, access log.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Request, StatusCode, header};

use crate::auth::Who;
use crate::body::{self, ByteBody};
use crate::handler::Answer;
use crate::metrics::Metrics;
use crate::operation::Call;
use crate::s3::error::chain;
use crate::s3::{Blame, Error, Result};

/// What is known of a request on its way.
pub(super) struct Log {
    metrics: Arc<Metrics>,
    start: Instant,
    id: String,
    method: http::Method,
    path: String,
    operation: &'static str,
    identity: Option<String>,
}

impl Log {
    /// A request has come.
    pub(super) fn start(metrics: &Arc<Metrics>, start: Instant, request: &Request<ByteBody>) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics: metrics.clone(),
            start,
            id: request_id(),
            method: request.method().clone(),
            // Never the query: it may hold a presigned signature.
            path: request.uri().path().to_owned(),
            operation: "Unknown",
            identity: None,
        }
    }

    /// It is known who asks.
    pub(super) fn who(&mut self, who: &Who) {
        self.identity = Some(who.name().to_owned());
    }

    /// It is known for what.
    pub(super) fn call(&mut self, call: &Call) {
        self.operation = call.operation().name();
    }

    /// The head of the answer is ready. `head`: the client wants no body.
    pub(super) fn end(self, result: Result<Answer>, head: bool) -> Answer {
        let mut answer = match result {
            Ok(answer) => {
                // The id that the client sees, and the store's log has.
                let store_id = answer.headers().get("x-amz-request-id").and_then(|id| id.to_str().ok());
                self.access(answer.status(), store_id, None);
                answer
            }
            Err(error) => {
                self.access(error.code().status(), None, Some(&error));
                self.error(&error, head)
            }
        };
        let headers = answer.headers_mut();
        if !headers.contains_key("x-amz-request-id") {
            headers
                .insert("x-amz-request-id", HeaderValue::from_str(&self.id).expect("hex is a header value"));
        }
        answer
    }

    fn error(&self, error: &Error, head: bool) -> Answer {
        let body = match head {
            true => body::empty(),
            false => body::full(error.to_xml(&self.path, &self.id)),
        };
        let mut answer = Answer::new(body);
        *answer.status_mut() = error.code().status();
        *answer.headers_mut() = error.headers().clone();
        if !head {
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        answer
    }

    fn access(&self, status: StatusCode, store_id: Option<&str>, error: Option<&Error>) {
        let took = self.start.elapsed();
        self.metrics.end(self.operation, status, error.map(Error::blame), took);
        let micros = took.as_micros() as u64;
        let identity = self.identity.as_deref().unwrap_or("-");
        let (id, method, path, operation, status) =
            (&self.id, &self.method, &self.path, self.operation, status.as_u16());
        let Some(error) = error else {
            tracing::info!(target: "access", id, store_id, %method, path, operation, identity, status, micros);
            return;
        };
        let why = chain(error);
        match error.blame() {
            Blame::Client => {
                tracing::info!(target: "access", id, %method, path, operation, identity, status, micros, why)
            }
            Blame::Kms | Blame::Store => {
                tracing::warn!(target: "access", id, %method, path, operation, identity, status, micros, why);
            }
            Blame::Proxy => {
                tracing::error!(target: "access", id, %method, path, operation, identity, status, micros, why);
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

/// 16 hex digits, as S3 writes them.
fn request_id() -> String {
    let mut bytes = [0; 8];
    // An id that is not random is no reason to refuse a request.
    getrandom::fill(&mut bytes).unwrap_or_default();
    hex::encode_upper(bytes)
}
