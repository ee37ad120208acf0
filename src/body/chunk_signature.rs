//! The chain of signatures in an aws-chunked body, each over the one before it.
//!
//! ```text
//! chunk   = HMAC(signing key, "AWS4-HMAC-SHA256-PAYLOAD" \n time \n scope \n previous \n hex(SHA-256("")) \n hash)
//! trailer = HMAC(signing key, "AWS4-HMAC-SHA256-TRAILER" \n time \n scope \n previous \n hash)
//! ```
//!
//! Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in
//! Multiple Chunks" and "... Including Trailing Headers".

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use crate::s3::{Code, Error, Result};

/// SHA-256 of nothing, part of every chunk's string to sign.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Computes the chain of chunk signatures, each over the one before it.
pub struct ChunkSigner {
    key: hmac::Key,
    date_and_scope: String,
    previous: String,
}

impl ChunkSigner {
    /// A chain that begins at the request's own signature (the seed, in hex). `date` and `scope` as in its string to
    /// sign.
    pub fn new(key: hmac::Key, date: &str, scope: &str, seed: String) -> Self {
        Self { key, date_and_scope: format!("{date}\n{scope}"), previous: seed }
    }

    /// Checks the signature of a chunk with this hash, and goes on from it.
    pub(super) fn chunk(&mut self, given: &[u8], sha256: &str) -> Result<()> {
        self.link("AWS4-HMAC-SHA256-PAYLOAD", given, &[EMPTY_SHA256, sha256])
    }

    /// Checks the signature of the trailers: a string to sign of its own, without the empty hash.
    pub(super) fn trailers(&mut self, given: &[u8], sha256: &str) -> Result<()> {
        self.link("AWS4-HMAC-SHA256-TRAILER", given, &[sha256])
    }

    fn link(&mut self, algorithm: &str, given: &[u8], hashes: &[&str]) -> Result<()> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(algorithm.as_bytes());
        for line in [self.date_and_scope.as_str(), &self.previous].iter().chain(hashes) {
            context.update(b"\n");
            context.update(line.as_bytes());
        }
        let expected = hex::encode(context.sign());
        if !bool::from(expected.as_bytes().ct_eq(given)) {
            return Err(Error::new(
                Code::SignatureDoesNotMatch,
                "The signature of a chunk or of the trailers does not match. Check your key and signing method.",
            ));
        }
        self.previous = expected;
        Ok(())
    }
}

impl fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkSigner(***)")
    }
}
