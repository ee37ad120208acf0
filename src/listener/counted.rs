//! Bodies that are counted as they pass.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use prometheus::IntCounter;

use super::log::Log;
use crate::body::{BoxError, ByteBody};

/// The bytes of one body.
#[derive(Clone, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: &Bytes, all: &IntCounter) {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        all.inc_by(bytes.len() as u64);
    }
}

/// What a client sends.
pub(super) struct Received {
    inner: ByteBody,
    count: Count,
    all: IntCounter,
}

impl Received {
    pub(super) fn boxed(inner: ByteBody, count: Count, all: IntCounter) -> ByteBody {
        Self { inner, count, all }.boxed_unsync()
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.count.add(bytes, &self.all);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a client is sent. The request ends with it: told whole, broken off, or left by its client.
pub(super) struct Sent {
    inner: ByteBody,
    count: Count,
    all: IntCounter,
    /// Bytes that the answer has announced and the client has not had; none where it does not say.
    left: Option<u64>,
    /// Why it breaks off, once that is known.
    broken: Option<BoxError>,
    /// Gone once the request has ended.
    log: Option<Log>,
}

/// How an answer's body has ended.
pub(super) enum End<'a> {
    Whole,
    Broken(&'a BoxError),
    Left,
}

impl Sent {
    /// `length`: what the answer announces, in bytes.
    pub(super) fn boxed(inner: ByteBody, length: Option<u64>, all: IntCounter, log: Log) -> ByteBody {
        Self { inner, count: Count::default(), all, left: length, broken: None, log: Some(log) }
            .boxed_unsync()
    }

    fn end(&mut self, end: End<'_>) {
        if let Some(log) = self.log.take() {
            log.end(self.count.get(), end);
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(why) = self.broken.take() {
            self.end(End::Broken(&why));
            return Poll::Ready(Some(Err(why)));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Err(why))) => {
                // What came before it is not sent yet, the head perhaps neither: an error would take them along.
                self.broken = Some(why);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => {
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Some(bytes) = frame.data_ref() {
                            self.count.add(bytes, &self.all);
                            let passed = bytes.len() as u64;
                            self.left = self.left.map(|left| left.saturating_sub(passed));
                        }
                    }
                    Poll::Ready(None) => self.end(End::Whole),
                    _ => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // Whoever sends a body with a length does not ask for more once it has passed, nor for one that has none.
        let whole = self.left == Some(0) || self.inner.is_end_stream();
        if let Some(why) = self.broken.take() {
            return self.end(End::Broken(&why));
        }
        self.end(if whole { End::Whole } else { End::Left });
    }
}
