//! Bytes in motion: what a client sends, checked and sealed; what the store sends, opened. Nothing is gathered
//! beyond a chunk.

mod checked;
pub mod chunk_signature;
pub mod chunked;
pub mod form;
mod multipart;
mod opening;
mod peeked;
mod sealing;

pub use checked::{Checked, Outcome, Sums};
pub use opening::{Broken, Opening};
pub use peeked::peek;
pub use sealing::{SealedBody, checksum_of, sum_algorithm, sum_of};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};

/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body as it is passed from room to room.
pub type ByteBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body that has no bytes.
pub fn empty() -> ByteBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> ByteBody {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// One body after another.
pub fn chain(first: ByteBody, second: ByteBody) -> ByteBody {
    from_source((first, Some(second)), |(mut body, mut next)| async move {
        loop {
            match body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok::<_, BoxError>(Some((data, (body, next))));
                    }
                }
                None => match next.take() {
                    Some(second) => body = second,
                    None => return Ok(None),
                },
            }
        }
    })
}

/// All of a short body.
///
/// Errors: the body's own, or that it has more than `limit` bytes.
pub async fn gather(mut body: ByteBody, limit: usize) -> Result<Bytes, BoxError> {
    let mut gathered = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        gathered.extend_from_slice(&frame?.into_data().unwrap_or_default());
        if gathered.len() > limit {
            return Err(format!("a document has more than {limit} bytes").into());
        }
    }
    Ok(gathered.freeze())
}

/// A body from a source that is asked piece by piece.
pub fn from_source<S, F, E>(source: S, next: impl Fn(S) -> F + Send + 'static) -> ByteBody
where
    S: Send + 'static,
    F: Future<Output = Result<Option<(Bytes, S)>, E>> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    use futures_util::TryStreamExt as _;
    let pieces = futures_util::stream::try_unfold(source, next).map_ok(Frame::data).map_err(Into::into);
    StreamBody::new(pieces).boxed_unsync()
}
