//! `Expect: 100-continue` for long bodies: a store that refuses says so before the body is sent, and is heard.
//!
//! Without it a store that answers early closes the connection under the body, and its answer may be lost.
//! Source: RFC 9110, section 10.1.1.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HeaderValue};
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::body::{BoxError, ByteBody};

/// Bodies from this length on wait. Shorter ones are sent before an answer could come.
const FROM: u64 = 1024 * 1024;

/// How long a store may keep silent: one that does not know the header never says anything.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that waits for the store's sign.
struct Patient {
    inner: ByteBody,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Makes the request wait with its body, if that has so many bytes on the wire.
pub(super) fn expect_continue(request: Request<ByteBody>, length: u64) -> Request<ByteBody> {
    if length < FROM {
        return request;
    }
    let (go, gone) = oneshot::channel();
    let wait: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // Whoever could give the sign goes with the answer. After that nobody wants the body: to read it now would ask a
        // client for it that is being refused.
        if let Ok(Err(_)) = timeout(PATIENCE, gone).await {
            pending::<()>().await;
        }
    });
    let mut request = request.map(|inner| Patient { inner, wait: Some(wait) }.boxed_unsync());
    request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
    let go = Mutex::new(Some(go));
    hyper::ext::on_informational(&mut request, move |answer| {
        if answer.status() == StatusCode::CONTINUE
            && let Some(go) = go.lock().expect("no code panics while it holds this lock").take()
        {
            go.send(()).ok();
        }
    });
    request
}

impl Body for Patient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(wait) = &mut self.wait {
            std::task::ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    /// How long a body waits before it is read; none if it is not within a minute.
    async fn waits(sign: impl FnOnce(&mut Request<ByteBody>)) -> Option<Duration> {
        let piece =
            futures_util::stream::once(async { Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))) });
        let mut request = expect_continue(Request::new(StreamBody::new(piece).boxed_unsync()), FROM);
        assert_eq!(request.headers()[EXPECT], "100-continue");
        sign(&mut request);
        let begun = Instant::now();
        timeout(Duration::from_secs(60), request.body_mut().frame()).await.ok().map(|_| begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_is_not_waited_for_long() {
        let waited = waits(|_| {}).await.unwrap();
        assert!((PATIENCE..2 * PATIENCE).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn once_an_answer_is_there_the_body_is_left_alone() {
        // The callback goes with the answer's head.
        assert_eq!(waits(|request| request.extensions_mut().clear()).await, None);
    }
}
