//! The whole way of one request. Start reading here.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, Request};
use tracing::Instrument as _;

use super::log::Log;
use crate::app::App;
use crate::body::ByteBody;
use crate::handler::{self, Answer};
use crate::operation;
use crate::s3::Result;

/// Answers a request: always with a response, whatever went wrong.
pub async fn answer(app: Arc<App>, request: Request<ByteBody>) -> Answer {
    let (mut log, request) = Log::start(&app.metrics, request);
    let head = request.method() == Method::HEAD;
    let span = log.span();
    let result = serve(&app, request, &mut log).instrument(span).await;
    log.answer(result, head)
}

/// Who asks, for what, with which key or not at all: then it is done.
async fn serve(app: &App, request: Request<ByteBody>, log: &mut Log) -> Result<Answer> {
    let (parts, body) = request.into_parts();
    let verified = app.authenticator.verify(parts, SystemTime::now())?;
    log.who(verified.who());
    let call = operation::classify(verified)?;
    log.call(&call);
    let (call, body) = operation::read_form(&app.authenticator, call, body, app.rooms.client_idle).await?;
    log.who(call.who());
    let permit = app.policy.decide(&call, &app.rooms).await?;
    log.permit(&permit);
    // Boxed, for the future of a request is moved as a whole more than once before it begins.
    Box::pin(handler::run(&app.rooms, call, permit, body)).await
}
