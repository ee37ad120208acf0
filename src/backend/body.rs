//! Bodies for the store. Promise 1 as a type: a `StoreBody` is made of sealed bytes, or with policy's own leave.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Empty, Full};

use super::PayloadMode;
use super::framing::{Framed, framed_len};
use super::timeout::{Progress, Watched};
use crate::aws::sign::BodyHash;
use crate::body::{ByteBody, Checked, SealedBody};
use crate::policy::Forward;
use crate::s3::checksum::{Algorithm, Hasher};
use crate::s3::headers::add_aws_chunked;
use crate::seal::Block;

/// A body for the store.
#[derive(Debug)]
pub struct StoreBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Document(Bytes),
    Stream { body: ByteBody, length: u64, framing: Framing },
}

/// Whether a stream may be framed, so that a checksum can go behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// It is not what stores take framed.
    Never,
    /// Where nothing else covers it.
    Auto,
    /// Always, with the checksum that the client sends behind its body.
    Client(Algorithm),
}

/// A body ready to send: its bytes on the wire, their number, and what the signature says of them.
pub(super) struct Payload {
    pub body: ByteBody,
    pub length: u64,
    pub hash: BodyHash,
}

impl StoreBody {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A sealed body. Its length is in sealed bytes.
    pub fn sealed(body: SealedBody) -> Self {
        let length = body.length().get();
        Self(Kind::Stream { body: body.into_body(), length, framing: Framing::Auto })
    }

    /// The end of a composite object: its last part, which the store itself holds already and has just given, and the
    /// block. Lengths are in sealed bytes.
    pub fn closing(staged: Option<(ByteBody, u64)>, block: &Block) -> Self {
        let tail = crate::body::full(block.bytes().clone());
        let (body, before) = match staged {
            Some((body, length)) => (crate::body::chain(body, tail), length),
            None => (tail, 0),
        };
        Self(Kind::Stream { body, length: before + block.bytes().len() as u64, framing: Framing::Auto })
    }

    /// s3veil's own record of an upload: no byte of any object's body.
    pub fn record(record: String) -> Self {
        Self(Kind::Document(record.into()))
    }

    /// A client's body as it came, checked on its way. A checksum that the client sends behind its body goes
    /// behind the forwarded one.
    pub fn plain(body: Checked, _leave: Forward) -> Self {
        let framing = body.trailing().map_or(Framing::Auto, Framing::Client);
        Self(Kind::Stream { length: body.length(), body: body.into_body(), framing })
    }

    /// A long body that is no object's, checked on its way and sent bare.
    pub fn unframed(body: Checked, _leave: Forward) -> Self {
        Self(Kind::Stream { length: body.length(), body: body.into_body(), framing: Framing::Never })
    }

    /// A short document that has been read and checked whole.
    pub fn document(document: Bytes, _leave: Forward) -> Self {
        Self(if document.is_empty() { Kind::Empty } else { Kind::Document(document) })
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    pub(super) fn into_payload(
        self,
        mode: PayloadMode,
        headers: &mut HeaderMap,
        progress: Arc<Progress>,
    ) -> Payload {
        match self.0 {
            Kind::Empty => document(Bytes::new(), mode, progress),
            Kind::Document(bytes) => document(bytes, mode, progress),
            Kind::Stream { body, length, framing } => {
                let algorithm = match framing {
                    // Kept even where TLS covers the body.
                    Framing::Client(algorithm) => algorithm,
                    Framing::Auto if mode == PayloadMode::Trailer => Algorithm::Crc32c,
                    Framing::Auto if mode == PayloadMode::Auto && locks(headers) => Algorithm::Crc32c,
                    Framing::Auto | Framing::Never => {
                        return Payload {
                            body: Watched::boxed(body, progress),
                            length,
                            hash: BodyHash::Unsigned,
                        };
                    }
                };
                headers.insert(
                    "x-amz-trailer",
                    HeaderValue::from_str(algorithm.header().as_str()).expect("a name"),
                );
                headers.insert("x-amz-decoded-content-length", HeaderValue::from(length));
                // Not without need: SeaweedFS keeps it, where Garage wants it beside any other coding.
                add_aws_chunked(headers);
                let body = Framed::boxed(body, length, Hasher::new(algorithm));
                Payload {
                    body: Watched::boxed(body, progress),
                    length: framed_len(length, algorithm),
                    hash: BodyHash::UnsignedTrailer,
                }
            }
        }
    }
}

/// AWS takes an object under a lock with a checksum only, even over TLS.
fn locks(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-"))
}

fn document(bytes: Bytes, mode: PayloadMode, progress: Arc<Progress>) -> Payload {
    let hash = match mode {
        PayloadMode::Unsigned | PayloadMode::Auto => BodyHash::Unsigned,
        PayloadMode::Trailer => {
            BodyHash::Sha256(hex::encode(Hasher::digest(Algorithm::Sha256, &bytes).value()))
        }
    };
    let length = bytes.len() as u64;
    let body = if bytes.is_empty() {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    } else {
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    };
    Payload { body: Watched::boxed(body, progress), length, hash }
}
