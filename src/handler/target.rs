//! An object at the store, and requests for more of it than its first answer brought.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::Rooms;
use crate::auth::Who;
use crate::backend::{StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, gather};
use crate::operation::Call;
use crate::s3::encryption::CustomerKey;
use crate::s3::range::RangeSpec;
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal::{self, SealedRange};

/// What a read gets that met two objects.
pub(super) fn replaced() -> Error {
    let why = "The object was replaced while it was read. Please try again.";
    Error::new(Code::ObjectReplaced, why).retry_after(1)
}

/// An object, or a version of it, and who asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub version: Option<&'a str>,
    pub who: &'a Who,
    /// The client's own key for it (SSE-C).
    pub customer: Option<&'a CustomerKey>,
}

impl<'a> Target<'a> {
    /// The object of a call.
    pub fn of(call: &'a Call) -> Result<Self> {
        let (bucket, key) = call.object()?;
        let version = call.query().get("versionId");
        Ok(Self { bucket, key, version, who: call.who(), customer: call.customer_key() })
    }

    /// A request for it.
    pub fn request(self, method: Method) -> StoreRequest {
        let request =
            StoreRequest::new(method, Some(self.bucket), Some(self.key), StoreHeaders::default(), self.who);
        match self.version {
            Some(version) => request.query(Query::from_pairs([("versionId", version)])),
            None => request,
        }
    }

    /// Another range of the very object that was met.
    ///
    /// Errors: [`Code::ObjectReplaced`] if it is another one by now.
    pub async fn again(self, rooms: &Rooms, met: &HeaderMap, range: SealedRange) -> Result<StoreResponse> {
        let mut request = self.request(Method::GET);
        request.headers.set(header::RANGE, RangeSpec::FromTo(range.start(), range.end() - 1).to_header());
        if let Some(etag) = met.get(header::ETAG) {
            request.headers.set(header::IF_MATCH, etag.clone());
        }
        let store = rooms.backend.send(request).await?;
        if store.status() == StatusCode::PARTIAL_CONTENT || store.status() == StatusCode::OK {
            return Ok(store);
        }
        Err(replaced())
    }

    /// The bytes of a short range of the very object that was met.
    ///
    /// Errors: the same, or the integrity error for other bytes than those asked for.
    pub async fn bytes(self, rooms: &Rooms, met: &HeaderMap, range: SealedRange) -> Result<bytes::Bytes> {
        let store = self.again(rooms, met, range).await?;
        if super::open::received(store.headers())?.0 != range {
            return Err(seal::Error::Tampered.into());
        }
        let limit = usize::try_from(range.len()).map_err(|_| seal::Error::Tampered)?;
        let bytes = gather(store.into_body(), limit).await.map_err(body::Broken::Store)?;
        if bytes.len() == limit { Ok(bytes) } else { Err(seal::Error::Tampered.into()) }
    }
}
