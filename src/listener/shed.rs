//! What is turned away because there is enough at work: at once, and at next to no cost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, header};
use tokio::time::Instant;

use super::log::request_id;
use crate::body;
use crate::handler::Answer;
use crate::s3::{Code, Error};

/// How often the log tells of it. The metric counts each.
const TOLD: Duration = Duration::from_secs(60);

/// When a client may try again, in seconds.
const AGAIN: u32 = 1;

/// The answer to a request that is one too many. Nothing of it has been read or verified.
pub(super) fn slow_down(method: &Method, path: &str) -> Answer {
    let error = Error::new(
        Code::SlowDown,
        "s3veil has as many requests at work as it takes. Reduce your request rate.",
    )
    .retry_after(AGAIN);
    let id = request_id();
    let mut answer = match *method {
        Method::HEAD => Answer::new(body::empty()),
        _ => {
            let mut answer = Answer::new(body::full(error.to_xml(path, &id)));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            answer
        }
    };
    *answer.status_mut() = error.code().status();
    answer.headers_mut().extend(error.headers().clone());
    answer
        .headers_mut()
        .insert("x-amz-request-id", HeaderValue::from_str(&id).expect("hex is a header value"));
    answer
}

/// Tells the log once in a while.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is time.
    pub(super) fn due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= TOLD);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
