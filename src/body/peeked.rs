//! The first bytes of a body, looked at before any of it is passed on.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::{BoxError, ByteBody, from_source};

/// Reads the first `len` bytes of a body, fewer if it has no more, and gives them with the whole body.
///
/// Errors: the body's own.
pub async fn peek(mut body: ByteBody, len: usize) -> Result<(Bytes, ByteBody), BoxError> {
    let mut head = BytesMut::new();
    while head.len() < len {
        match body.frame().await {
            Some(frame) => head.extend_from_slice(&frame?.into_data().unwrap_or_default()),
            None => break,
        }
    }
    let head = head.freeze();
    let first = Some(head.clone()).filter(|head| !head.is_empty());
    let whole = from_source((first, body), |(first, mut body)| async move {
        if let Some(first) = first {
            return Ok(Some((first, (None, body))));
        }
        loop {
            match body.frame().await {
                None => return Ok::<_, BoxError>(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some((data, (None, body))));
                    }
                }
            }
        }
    });
    Ok((head.slice(..len.min(head.len())), whole))
}
