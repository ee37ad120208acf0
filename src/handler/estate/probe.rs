//! Whether the store keeps the condition under which an object may be replaced: found out at a place of s3veil's own, before
//! anything of a client's is touched.
//!
//! Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

use super::super::own::written;
use super::jobs::FOLDER;
use super::{ANSWER_MAX, Estate, etag};
use crate::backend::{StoreBody, StoreRequest};
use crate::body::{self, gather};
use crate::s3::multipart::{Complete, Initiated, from_store, to_xml};
use crate::s3::{Bucket, Key, Query, Result};

/// The ETag of no object.
const NO_ETAG: HeaderValue = HeaderValue::from_static("\"00000000000000000000000000000000\"");

/// Which writes keep `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// PutObject.
    pub put: bool,
    /// CompleteMultipartUpload.
    pub complete: bool,
}

impl Estate {
    /// Tries both on an object of s3veil's own, and removes it.
    ///
    /// Errors: AccessDenied, ServiceUnavailable if nothing can be written there.
    pub async fn guards(&self, bucket: &Bucket) -> Result<Guards> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| crate::seal::Error::Random)?;
        let name = format!("{FOLDER}probe-{}", hex::encode(random));
        let key = Key::parse(&name).expect("it is short");
        let own = self.own(bucket);
        let guards = self.try_both(bucket, &key).await;
        let kind = own.kind().await;
        own.remove(kind, &name).await?;
        guards
    }

    async fn try_both(&self, bucket: &Bucket, key: &Key) -> Result<Guards> {
        let put = || self.own(bucket).request(Method::PUT, Some(key)).body(StoreBody::record("probe".into()));
        written(self.rooms.backend.send(put()).await?)?;
        Ok(Guards { put: self.refuses(put()).await?, complete: self.complete(bucket, key).await? })
    }

    /// Whether a write under a condition that does not hold is refused for that.
    async fn refuses(&self, mut request: StoreRequest) -> Result<bool> {
        request.headers.set(header::IF_MATCH, NO_ETAG);
        Ok(self.rooms.backend.send(request).await?.status() == StatusCode::PRECONDITION_FAILED)
    }

    async fn complete(&self, bucket: &Bucket, key: &Key) -> Result<bool> {
        let request = |method, query| self.own(bucket).request(method, Some(key)).query(query);
        let begin = request(Method::POST, Query::from_pairs([("uploads", "")]));
        let begun = written(self.rooms.backend.send(begin).await?)?;
        let text = gather(begun.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let Initiated { upload_id } = from_store(&text)?;
        let tried = async {
            let query = Query::from_pairs([("partNumber", "1"), ("uploadId", upload_id.as_str())]);
            let part = request(Method::PUT, query).body(StoreBody::record("probe".into()));
            let part = written(self.rooms.backend.send(part).await?)?;
            let etag = etag(part.headers())?;
            let document = to_xml(&Complete::new([(1, etag.to_str().unwrap_or_default())]));
            let query = Query::from_pairs([("uploadId", upload_id.as_str())]);
            self.refuses(request(Method::POST, query).body(StoreBody::record(document))).await
        };
        let tried = tried.await;
        let query = Query::from_pairs([("uploadId", upload_id.as_str())]);
        // Where the condition was not kept there is none any more.
        self.rooms.backend.send(request(Method::DELETE, query)).await?;
        tried
    }
}
