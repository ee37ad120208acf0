//! A store that stops moving is away. Progress is what counts, not duration: a long stream is never cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::body::{BoxError, ByteBody};

/// When a request's body last moved, and whether it waits for the client rather than for the store.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Moved>);

#[derive(Clone, Copy, Debug)]
struct Moved {
    at: Instant,
    waits_for_source: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new(Moved { at: Instant::now(), waits_for_source: false }))
    }
}

impl Progress {
    fn moved(&self, waits_for_source: bool) {
        *self.lock() = Moved { at: Instant::now(), waits_for_source };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Moved> {
        self.0.lock().expect("no code panics while it holds this lock")
    }

    /// Returns when the store has taken nothing for `idle`. Time in which the body waited for its source does not
    /// count: that has a limit of its own.
    pub(super) async fn stalled(&self, idle: Duration) {
        loop {
            let moved = *self.lock();
            let now = Instant::now();
            if !moved.waits_for_source && now >= moved.at + idle {
                return;
            }
            let wake = if moved.waits_for_source { now + idle } else { moved.at + idle };
            sleep_until(wake).await;
        }
    }
}

/// A request body that reports its progress.
pub(super) struct Watched {
    inner: ByteBody,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) fn boxed(inner: ByteBody, progress: Arc<Progress>) -> ByteBody {
        Self { inner, progress }.boxed_unsync()
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.progress.moved(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body of the store that errs when nothing comes for a while.
pub struct IdleBody<B> {
    inner: B,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    armed: bool,
}

impl<B> IdleBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Wraps a body.
    pub fn boxed(inner: B, idle: Duration) -> ByteBody {
        Self { inner, idle, timer: Box::pin(sleep(idle)), armed: false }.boxed_unsync()
    }
}

impl<B> Body for IdleBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.armed = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.armed {
            this.timer.as_mut().reset(Instant::now() + this.idle);
            this.armed = true;
        }
        match this.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("nothing came for the idle time".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
