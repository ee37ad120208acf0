//! An answer's body, and what it holds until it has ended or been dropped: its place among the requests at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::pulse::Beat;
use super::streams::Taking;
use crate::body::{BoxError, ByteBody};

/// The places for requests at once.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One of them. It is free again with the end of the value.
pub(super) struct Place(Places);

impl Places {
    /// One of so many; none if they are all taken.
    pub(super) fn take(&self, of: usize) -> Option<Place> {
        let more = |taken: usize| (taken < of).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place(self.clone()))
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body.
pub(super) struct Held {
    body: ByteBody,
    taking: Option<Taking>,
    _beat: Beat,
    _place: Option<Place>,
}

impl Held {
    /// `place`: none for an answer that says that there was none.
    pub(super) fn new(body: ByteBody, beat: Beat, place: Option<Place>) -> Self {
        Self { body, taking: Taking::current(), _beat: beat, _place: place }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(taking) = &self.taking {
            taking.taken();
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(taking) = &self.taking {
            taking.given();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_at_its_end() {
        let places = Places::default();
        let one = places.take(2);
        let two = places.take(2);
        assert!(one.is_some() && two.is_some() && places.take(2).is_none());
        assert!(places.take(3).is_some(), "a limit that has been raised");
        drop(one);
        assert!(places.take(2).is_some() && places.taken() == 1);
    }
}
