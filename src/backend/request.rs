//! A request to the store, and the border that a client's headers cross.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::StoreBody;
use crate::auth::Who;
use crate::kms::Context;
use crate::s3::encryption::is_encryption;
use crate::s3::headers::{CONTEXT, ENVELOPE, remove_all};
use crate::s3::query::Query;
use crate::s3::{Bucket, Code, Error, Key, Result};
use crate::seal::Envelope;

/// The beginning of the names of user-defined metadata.
const METADATA: &str = "x-amz-meta-";

/// The most bytes of user-defined metadata: of all names, without what they begin with, and values.
const METADATA_MAX: usize = 2048;

/// Ordinary headers that go on to the store. All else but `x-amz-*` stays here. A bucket policy may ask who sends a request, and
/// from where (`aws:UserAgent`, `aws:Referer`).
const ALLOWED: [HeaderName; 17] = [
    header::ACCESS_CONTROL_REQUEST_HEADERS,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::EXPIRES,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::RANGE,
    header::REFERER,
    header::USER_AGENT,
];

/// Headers for the store: an allow-list of the client's, and what s3veil adds.
#[derive(Debug, Default)]
pub struct StoreHeaders(HeaderMap);

impl StoreHeaders {
    /// The client's headers that a request passes on: the ordinary ones of S3 and all `x-amz-*`, which
    /// authentication has found signed. For bodies that go as they came, also their digests.
    ///
    /// Nothing of server-side encryption: that is s3veil's part, and a client's key not the store's to see.
    pub fn forwarded(client: &HeaderMap) -> Self {
        Self::picked(client, |name| !is_encryption(name))
    }

    /// The same with it, for an object that nothing is sealed of: there it is the store's own affair.
    pub fn with_encryption(client: &HeaderMap) -> Self {
        Self::picked(client, |_| true)
    }

    /// The same as `forwarded` for a request whose body is another one at the store: nothing that describes the client's.
    pub fn for_object(client: &HeaderMap) -> Self {
        Self::picked(client, |name| !is_encryption(name) && !describes_body(name))
    }

    /// Those of the headers that may go on at all which are `wanted`.
    fn picked(client: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Self {
        let mut headers = HeaderMap::with_capacity(client.len() + 4);
        for (name, value) in client {
            let text = name.as_str();
            let known = text.starts_with("x-amz-") || ALLOWED.contains(name) || text == "content-md5";
            if known && wanted(text) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self(headers)
    }

    /// Adds the envelope, and the client's encryption context where there is one: both are part of the object's metadata.
    ///
    /// Errors: MetadataTooLarge if that is now more than S3 takes: what one store may let pass, the next one refuses, and a
    /// client is to know before it sends a body. Source: Amazon S3 User Guide, "Working with object metadata".
    pub fn set_envelope(&mut self, envelope: &Envelope, context: Option<&Context>) -> Result<()> {
        let base64 = |text: &str| HeaderValue::from_str(text).expect("base64 is a header value");
        let context = context.map(|context| (CONTEXT, base64(&context.to_header())));
        let added: Vec<_> = [(ENVELOPE, base64(&envelope.encode()))].into_iter().chain(context).collect();
        let own: usize =
            added.iter().map(|(name, value)| name.as_str().len() - METADATA.len() + value.len()).sum();
        self.0.remove(ENVELOPE);
        self.0.remove(CONTEXT);
        let of_client: usize = self
            .0
            .iter()
            .filter_map(|(name, value)| Some(name.as_str().strip_prefix(METADATA)?.len() + value.len()))
            .sum();
        if of_client + own > METADATA_MAX {
            let room = METADATA_MAX - own.min(METADATA_MAX);
            return Err(Error::new(
                Code::MetadataTooLarge,
                format!(
                    "Your metadata headers exceed the maximum allowed metadata size: where objects are sealed there is \
                     room for {room} bytes of names and values."
                ),
            )
            .detail("Size", of_client.to_string())
            .detail("MaxSizeAllowed", room.to_string()));
        }
        added.into_iter().for_each(|(name, value)| self.set(name, value));
        Ok(())
    }

    /// Sets a header.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.insert(name, value);
    }

    /// Removes the headers whose names fit.
    pub fn remove_all(&mut self, fits: impl Fn(&str) -> bool) {
        remove_all(&mut self.0, fits);
    }

    /// Removes a header.
    pub fn remove(&mut self, name: impl header::AsHeaderName) {
        self.0.remove(name);
    }

    pub(super) fn into_map(self) -> HeaderMap {
        self.0
    }
}

fn describes_body(name: &str) -> bool {
    name == "content-md5"
        || name == "x-amz-sdk-checksum-algorithm"
        || name == "x-amz-checksum-algorithm"
        || (name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode")
}

/// A request to the store.
#[derive(Debug)]
pub struct StoreRequest {
    /// The method.
    pub method: Method,
    /// The bucket that was verified.
    pub bucket: Option<Bucket>,
    /// The key that was verified, decoded.
    pub key: Option<Key>,
    /// The query, decoded.
    pub query: Query,
    /// The headers.
    pub headers: StoreHeaders,
    /// The body.
    pub body: StoreBody,
    /// The store credentials that sign it, by name. `None`: sent unsigned.
    pub signer: Option<String>,
}

impl StoreRequest {
    /// A request without query and body.
    pub fn new(
        method: Method,
        bucket: Option<&Bucket>,
        key: Option<&Key>,
        headers: StoreHeaders,
        who: &Who,
    ) -> Self {
        let signer = match who {
            Who::Anonymous => None,
            Who::Trusted => Some("default".to_owned()),
            Who::Identity(identity) => {
                Some(identity.store_credentials.as_deref().unwrap_or("default").to_owned())
            }
        };
        Self {
            method,
            bucket: bucket.cloned(),
            key: key.cloned(),
            query: Query::default(),
            headers,
            body: StoreBody::empty(),
            signer,
        }
    }

    /// With this query.
    pub fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// With this body.
    pub fn body(mut self, body: StoreBody) -> Self {
        self.body = body;
        self
    }

    /// The same request once more, if it has no body, and may be done twice. A write under a condition, and the making and
    /// removal of a bucket, may have been done, and then be what their repetition would be refused for.
    pub(super) fn repeat(&self) -> Option<Self> {
        let conditional = |name: &HeaderName| {
            let own = [header::IF_MATCH, header::IF_NONE_MATCH].contains(name);
            own || name.as_str().starts_with("x-amz-if-match-")
        };
        let once = self.key.is_none() || self.headers.0.keys().any(conditional);
        let again = self.body.is_empty() && (self.method.is_safe() || !once);
        again.then(|| Self {
            method: self.method.clone(),
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            query: self.query.clone(),
            headers: StoreHeaders(self.headers.0.clone()),
            body: StoreBody::empty(),
            signer: self.signer.clone(),
        })
    }
}
