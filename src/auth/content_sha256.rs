//! x-amz-content-sha256: the hash of the body, or the word that says why there is none.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header", x-amz-content-sha256.

use crate::s3::{Code, Error, Result};

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentSha256 {
    /// `UNSIGNED-PAYLOAD`
    Unsigned,
    /// The body's own.
    Hash([u8; 32]),
    /// `STREAMING-...`: the body is aws-chunked.
    Streaming {
        /// Chunks are signed.
        signed: bool,
        /// Trailers follow.
        trailers: bool,
    },
}

impl ContentSha256 {
    /// Reads the header's value.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let streaming = |signed, trailers| Ok(Self::Streaming { signed, trailers });
        match text {
            "UNSIGNED-PAYLOAD" => Ok(Self::Unsigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => streaming(true, false),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => streaming(true, true),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => streaming(false, true),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
            | "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => Err(Error::new(
                Code::NotImplemented,
                "Signature Version 4A is not implemented. Please use STREAMING-AWS4-HMAC-SHA256-PAYLOAD.",
            )),
            hash => Self::parse_hash(hash),
        }
    }

    fn parse_hash(text: &str) -> Result<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map(|()| Self::Hash(hash)).map_err(|_| {
            Error::new(
                Code::InvalidArgument,
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, \
                 STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-UNSIGNED-PAYLOAD-TRAILER or a valid sha256 value.",
            )
        })
    }
}
