//! The span of a request: what a trace says of it. Where no traces are configured it is none, and costs nothing.
//!
//! Names of attributes: OpenTelemetry's semantic conventions for HTTP servers and for object stores; those of s3veil's own
//! begin with its name.

use http::Request;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::body::ByteBody;

/// Begins with a request. A client that is traced itself finds it in its own trace (W3C Trace Context).
pub(super) fn of(request: &Request<ByteBody>, id: &str) -> Span {
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %request.method(),
        http.response.status_code = Empty,
        aws.s3.bucket = Empty,
        aws.s3.key = Empty,
        s3veil.request_id = id,
        s3veil.operation = Empty,
        s3veil.identity = Empty,
        s3veil.ek = Empty,
        s3veil.bytes_in = Empty,
        s3veil.bytes_out = Empty,
        error.message = Empty,
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
        // It fails where spans are kept and not exported: then there is nothing to be part of.
        span.set_parent(parent).ok();
    }
    span
}

/// Names it by what was asked for. A span that has begun has a name already, and no field changes that.
pub(super) fn name(span: &Span, operation: &'static str) {
    span.context().span().update_name(operation);
}
