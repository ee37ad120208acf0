//! The only place where a request ends: error to XML, metric, access log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, StatusCode, header};
use tracing::Span;

use super::counted::{Count, End, Received, Sent};
use super::span;
use crate::auth::Who;
use crate::body::{self, Broken, ByteBody};
use crate::handler::Answer;
use crate::metrics::Metrics;
use crate::operation::Call;
use crate::policy::Permit;
use crate::response;
use crate::s3::error::chain;
use crate::s3::{Blame, Code, Error, Result};

/// What is known of a request on its way.
pub(super) struct Log {
    metrics: Arc<Metrics>,
    start: Instant,
    id: String,
    method: Method,
    path: String,
    operation: &'static str,
    bucket: Option<String>,
    key: Option<String>,
    identity: Option<String>,
    anonymous: bool,
    ek: Option<String>,
    received: Count,
    span: Span,
    answered: Option<Answered>,
    /// Its line has been written.
    ended: bool,
}

const REQUEST_ID: &str = "x-amz-request-id";

/// What is known once the head of the answer is ready.
struct Answered {
    status: StatusCode,
    took: Duration,
    /// The id that the client sees, and the store's log has.
    store_id: Option<String>,
    /// Whose fault the answer is, and why, if it is an error of s3veil's own.
    error: Option<(Blame, String)>,
}

impl Log {
    /// A request has come.
    pub(super) fn start(metrics: &Arc<Metrics>, request: Request<ByteBody>) -> (Self, Request<ByteBody>) {
        metrics.in_flight.inc();
        let id = request_id();
        let log = Self {
            metrics: metrics.clone(),
            start: Instant::now(),
            span: span::of(&request, &id),
            id,
            method: request.method().clone(),
            // Never the query: it may hold a presigned signature.
            path: request.uri().path().to_owned(),
            operation: "Unknown",
            bucket: None,
            key: None,
            identity: None,
            anonymous: false,
            ek: None,
            received: Count::default(),
            answered: None,
            ended: false,
        };
        let count = log.received.clone();
        (log, request.map(|body| Received::boxed(body, count, metrics.bytes_in())))
    }

    /// What is done for the request belongs to this.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// It is known who asks.
    pub(super) fn who(&mut self, who: &Who) {
        self.identity = Some(who.name().to_owned());
        self.anonymous = matches!(who, Who::Anonymous);
    }

    /// It is known for what.
    pub(super) fn call(&mut self, call: &Call) {
        self.operation = call.operation().name();
        self.bucket = call.bucket().map(|bucket| bucket.as_str().to_owned());
        self.key = call.key().map(|key| key.as_str().to_owned());
    }

    /// It is known with which key, if it writes.
    pub(super) fn permit(&mut self, permit: &Permit) {
        self.ek = permit.ek().map(|ek| ek.ek.as_str().to_owned());
    }

    /// The head of the answer is ready. `head`: the client wants no body.
    pub(super) fn answer(mut self, result: Result<Answer>, head: bool) -> Answer {
        let (mut answer, error) = match result {
            Ok(answer) => (answer, None),
            Err(error) => (self.refusal(&error, head), Some((error.blame(), chain(&error)))),
        };
        let status = answer.status();
        let took = self.start.elapsed();
        self.metrics.head(self.operation, status, took);
        let headers = answer.headers_mut();
        if let Some(ek) = response::take_ek(headers) {
            self.ek = Some(ek);
        }
        let store_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        if store_id.is_none() {
            headers.insert(REQUEST_ID, HeaderValue::from_str(&self.id).expect("hex is a header value"));
        }
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = if head { Some(0) } else { length };
        self.answered = Some(Answered { status, took, store_id, error });
        let all = self.metrics.bytes_out();
        answer.map(|body| Sent::boxed(body, length, all, self))
    }

    fn refusal(&self, error: &Error, head: bool) -> Answer {
        let code = error.code();
        self.metrics.error(self.operation, code);
        // Nobody is known yet, or anybody may ask and not for this, or the body's own signature is wrong.
        if self.identity.is_none()
            || (self.anonymous && code == Code::AccessDenied)
            || code == Code::SignatureDoesNotMatch
        {
            self.metrics.auth_failure(code);
        }
        let body = match head {
            true => body::empty(),
            false => body::full(error.to_xml(&self.path, &self.id)),
        };
        let mut answer = Answer::new(body);
        *answer.status_mut() = code.status();
        *answer.headers_mut() = error.headers().clone();
        if !head {
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        answer
    }

    /// The request has ended, after so many bytes of an answer's body.
    pub(super) fn end(mut self, bytes_out: u64, end: End<'_>) {
        let Some(answered) = self.answered.take() else { return };
        self.ended = true;
        let (blame, why) = match (end, &answered.error) {
            (End::Broken(why), _) => {
                self.metrics.cut(self.operation);
                if matches!(why.downcast_ref(), Some(Broken::Seal(_))) {
                    self.metrics.tampered(self.operation);
                }
                (Some(Blame::Store), Some(format!("the answer was broken off: {}", chain(why.as_ref()))))
            }
            (_, Some((blame, why))) => (Some(*blame), Some(why.clone())),
            (End::Left, None) => (Some(Blame::Client), Some("the client went away".to_owned())),
            (End::Whole, None) => (None, None),
        };
        self.line(&answered, bytes_out, blame, why.as_deref());
    }

    fn line(&self, answered: &Answered, bytes_out: u64, blame: Option<Blame>, why: Option<&str>) {
        let Self { id, method, path, operation, .. } = self;
        let [bucket, key, ek] = [&self.bucket, &self.key, &self.ek].map(Option::as_deref);
        let identity = self.identity.as_deref().unwrap_or("-");
        let Answered { status, took, store_id, .. } = answered;
        let (store_id, status, bytes_in) = (store_id.as_deref(), status.as_u16(), self.received.get());
        let (head_micros, micros) = (took.as_micros() as u64, self.start.elapsed().as_micros() as u64);
        self.trace(status, bytes_out, blame.is_some_and(|blame| blame != Blame::Client), why);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "access", id, store_id, %method, path, operation, bucket, key, identity, ek, status,
                    bytes_in, bytes_out, head_micros, micros, blame = blame.map(Blame::as_str), why
                )
            };
        }
        match blame {
            None | Some(Blame::Client) => line!(info),
            Some(Blame::Kms | Blame::Store) => line!(warn),
            Some(Blame::Proxy) => line!(error),
        }
    }

    /// The same for a trace. A client's mistake is no failure of the server (semantic conventions for HTTP).
    fn trace(&self, status: u16, bytes_out: u64, failed: bool, why: Option<&str>) {
        let span = &self.span;
        if span.is_disabled() {
            return;
        }
        span::name(span, self.operation);
        span.record("s3veil.operation", self.operation);
        span.record("http.response.status_code", status);
        span.record("s3veil.bytes_in", self.received.get()).record("s3veil.bytes_out", bytes_out);
        let texts = [
            ("aws.s3.bucket", self.bucket.as_deref()),
            ("aws.s3.key", self.key.as_deref()),
            ("s3veil.identity", self.identity.as_deref()),
            ("s3veil.ek", self.ek.as_deref()),
            ("otel.status_code", failed.then_some("ERROR")),
            ("error.message", why),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                span.record(name, text);
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if self.ended {
            return;
        }
        // Dropped on its way: its client went away before the answer, or s3veil failed.
        let (status, blame, why) = match std::thread::panicking() {
            true => (StatusCode::INTERNAL_SERVER_ERROR, Blame::Proxy, "s3veil failed: see the panic"),
            false => (client_closed(), Blame::Client, "the client went away before the answer"),
        };
        let took = self.start.elapsed();
        self.metrics.head(self.operation, status, took);
        let answered = Answered { status, took, store_id: None, error: None };
        self.line(&answered, 0, Some(blame), Some(why));
    }
}

/// No answer was sent, so it has no status of HTTP's. nginx has made this one known.
fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).expect("three digits")
}

/// 16 hex digits, as S3 writes them.
pub(super) fn request_id() -> String {
    let mut bytes = [0; 8];
    // An id that is not random is no reason to refuse a request.
    getrandom::fill(&mut bytes).unwrap_or_default();
    hex::encode_upper(bytes)
}
