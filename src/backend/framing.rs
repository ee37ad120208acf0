//! aws-chunked towards the store: unsigned chunks and a trailing checksum of the bytes sent.
//!
//! Source: Amazon S3 API Reference, "Signature calculations for trailing headers", STREAMING-UNSIGNED-PAYLOAD-TRAILER.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use crate::body::{BoxError, ByteBody};
use crate::s3::checksum::{Algorithm, Hasher};

/// Bytes in a chunk of the framing. Its size is known before its bytes are, so nothing is gathered.
const CHUNK: u64 = 65_536;

/// Length on the wire of a body of `length` bytes.
pub(super) fn framed_len(length: u64, algorithm: Algorithm) -> u64 {
    let chunk = |size: u64| head(size).len() as u64 + size + 2;
    let whole = length / CHUNK * chunk(CHUNK);
    let rest = match length % CHUNK {
        0 => 0,
        rest => chunk(rest),
    };
    let value = algorithm.len().div_ceil(3) * 4;
    let trailer = 3 + algorithm.header().as_str().len() + 1 + value + 2 + 2;
    whole + rest + trailer as u64
}

fn head(size: u64) -> String {
    format!("{size:x}\r\n")
}

/// A body in the framing.
pub(super) struct Framed {
    inner: ByteBody,
    hasher: Option<Hasher>,
    /// Bytes of the body not yet framed.
    left: u64,
    /// Bytes that the current chunk still wants.
    chunk: u64,
    /// Read, but not yet passed on.
    piece: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Data,
    Tail,
    Trailer,
    End,
}

impl Framed {
    pub(super) fn boxed(inner: ByteBody, length: u64, hasher: Hasher) -> ByteBody {
        let state = if length == 0 { State::Trailer } else { State::Head };
        Self { inner, hasher: Some(hasher), left: length, chunk: 0, piece: Bytes::new(), state }
            .boxed_unsync()
    }

    /// Waits for bytes of the inner body; at its end `None`.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
                Some(Err(why)) => return Poll::Ready(Some(Err(why))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.piece))))
    }
}

impl Body for Framed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let out = match this.state {
            State::Head => {
                this.chunk = this.left.min(CHUNK);
                this.state = State::Data;
                Bytes::from(head(this.chunk))
            }
            State::Data => match ready!(this.poll_piece(cx)) {
                Some(Ok(mut piece)) => {
                    let taken = piece.split_to(piece.len().min(this.chunk as usize));
                    this.piece = piece;
                    this.chunk -= taken.len() as u64;
                    this.left -= taken.len() as u64;
                    if let Some(hasher) = &mut this.hasher {
                        hasher.update(&taken);
                    }
                    if this.chunk == 0 {
                        this.state = State::Tail;
                    }
                    taken
                }
                Some(Err(why)) => return Poll::Ready(Some(Err(why))),
                None => return Poll::Ready(Some(Err("the body ended before its length".into()))),
            },
            State::Tail => {
                this.state = if this.left == 0 { State::Trailer } else { State::Head };
                Bytes::from_static(b"\r\n")
            }
            State::Trailer => {
                // The inner body's end is where its checks are made: without it no trailer, and nothing is stored.
                match ready!(this.poll_piece(cx)) {
                    None => {}
                    Some(Ok(_)) => {
                        return Poll::Ready(Some(Err("the body is longer than its length".into())));
                    }
                    Some(Err(why)) => return Poll::Ready(Some(Err(why))),
                }
                this.state = State::End;
                let sum = this.hasher.take().expect("the trailer is written once").finish();
                Bytes::from(format!("0\r\n{}:{}\r\n\r\n", sum.algorithm().header(), sum.to_base64()))
            }
            State::End => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(Frame::data(out))))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "bodies in these tests are short")]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::s3::checksum::Algorithm::Crc32c;

    async fn framed(pieces: Vec<Bytes>) -> (Bytes, u64) {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let stream =
            futures_util::stream::iter(pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
        let body = Framed::boxed(StreamBody::new(stream).boxed_unsync(), length, Hasher::new(Crc32c));
        (body.collect().await.unwrap().to_bytes(), framed_len(length, Crc32c))
    }

    #[tokio::test]
    async fn the_length_is_known_before() {
        for sizes in [vec![], vec![1], vec![65_536], vec![65_537], vec![10, 65_536, 3], vec![200_000, 1]] {
            let pieces = sizes.into_iter().map(|size| Bytes::from(vec![7; size])).collect();
            let (wire, length) = framed(pieces).await;
            assert_eq!(wire.len() as u64, length);
        }
    }

    #[tokio::test]
    async fn the_form_on_the_wire() {
        let (wire, _) = framed(vec![Bytes::from_static(b"1234"), Bytes::from_static(b"56789")]).await;
        assert_eq!(wire, "9\r\n123456789\r\n0\r\nx-amz-checksum-crc32c:4waSgw==\r\n\r\n");
    }

    #[tokio::test]
    async fn a_body_of_another_length_is_an_error() {
        for length in [4, 6] {
            let body = Full::new(Bytes::from_static(b"12345")).map_err(|never| match never {}).boxed_unsync();
            assert!(Framed::boxed(body, length, Hasher::new(Crc32c)).collect().await.is_err());
        }
    }
}
