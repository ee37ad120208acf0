//! A request that passed: the only thing that the rooms behind this one see of what the client sent.

use http::{HeaderMap, Method};

use crate::s3::{Bucket, Key, Query};

use super::identity::Who;
use super::payload::Payload;

/// A request whose sender is known. Only [`Authenticator::verify`](super::Authenticator::verify) makes one.
#[derive(Debug)]
pub struct Verified {
    parts: VerifiedParts,
}

/// The fields of a [`Verified`], for the stage that takes it apart.
#[derive(Debug)]
pub struct VerifiedParts {
    /// Who asks.
    pub who: Who,
    /// The method.
    pub method: Method,
    /// The bucket, if one is named.
    pub bucket: Option<Bucket>,
    /// The key, if one is named.
    pub key: Option<Key>,
    /// The query without the signature's parameters and without hoisted headers.
    pub query: Query,
    /// The client's headers, see [`Verified::headers`].
    pub headers: HeaderMap,
    /// How the body must be read.
    pub payload: Payload,
}

impl Verified {
    pub(super) fn new(parts: VerifiedParts) -> Self {
        Self { parts }
    }

    /// Who asks.
    pub fn who(&self) -> &Who {
        &self.parts.who
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The bucket, if one is named.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.parts.bucket.as_ref()
    }

    /// The key, if one is named.
    pub fn key(&self) -> Option<&Key> {
        self.parts.key.as_ref()
    }

    /// The query without the signature's parameters and without hoisted `x-amz-*` parameters: those are headers.
    pub fn query(&self) -> &Query {
        &self.parts.query
    }

    /// The client's headers that may be believed: every `x-amz-*` in it was signed (or nothing had to be), those that a
    /// presigner hoisted into the query are in it, and what belongs to signature, framing and connection is not.
    /// Content-MD5 and `x-amz-checksum-*` stay, beside [`Payload`].
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// How the body must be read, and what it must prove.
    pub fn payload(&self) -> &Payload {
        &self.parts.payload
    }

    /// Takes the request apart.
    pub fn into_parts(self) -> VerifiedParts {
        self.parts
    }
}
