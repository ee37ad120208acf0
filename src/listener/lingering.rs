//! A client's body that is read on for a while when nobody wants the rest of it.
//!
//! An answer that comes before the body has been sent (a refused signature, a failed condition) gets lost if the
//! connection closes with bytes unread: the system then resets it, and many clients look for the answer only after they
//! have sent everything. RFC 9112, section 9.6.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::pulse::Beat;
use crate::body::{BoxError, ByteBody};

/// How long, and how many bytes, are read on.
const TIME: Duration = Duration::from_secs(5);
const BYTES: usize = 256 * 1024 * 1024;

/// A body that lingers when it is dropped.
pub(super) struct Lingering {
    inner: Option<Incoming>,
    waiting: Waiting,
    /// The connection is at work as long as this is read.
    beat: Option<Beat>,
}

/// Whether the client waits for a sign before it sends, and has had none: then there is nothing to read, and reading would
/// ask for it.
///
/// Such a client may send its next request instead of the body: an answer ends the connection, lest the one be taken for the
/// other. RFC 9110, section 10.1.1.
///
/// For no body there is no sign, as hyper sends it. That ends the connection too: after an answer without one the AWS CLI (as
/// of 1.46) reads the next answer of the same connection wrongly, and waits for its end for a minute.
#[derive(Clone)]
pub(super) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    pub(super) fn still(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Lingering {
    pub(super) fn boxed(inner: Incoming, headers: &HeaderMap, beat: Beat) -> (ByteBody, Waiting) {
        let waiting = Waiting(Arc::new(headers.contains_key(header::EXPECT).into()));
        let body = Self { inner: Some(inner), waiting: waiting.clone(), beat: Some(beat) };
        (body.boxed_unsync(), waiting)
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.is_end_stream() {
            self.waiting.0.store(false, Ordering::Relaxed);
        }
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut inner) =
            self.inner.take().filter(|inner| !self.waiting.still() && !inner.is_end_stream())
        else {
            return;
        };
        // Without a runtime the process is ending, and the connection with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let beat = self.beat.take();
        runtime.spawn(timeout(TIME, async move {
            let _beat = beat;
            let mut read = 0;
            while let Some(Ok(frame)) = inner.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > BYTES {
                    return;
                }
            }
        }));
    }
}
