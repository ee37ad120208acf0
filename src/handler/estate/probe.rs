//! Which conditions the store keeps under which an object may be replaced: found out at a place of s3veil's own, before anything
//! of a client's is touched.
//!
//! Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::super::own::{Own, written};
use super::jobs::FOLDER;
use super::{ANSWER_MAX, Estate, etag};
use crate::backend::{StoreBody, StoreRequest, StoreResponse};
use crate::body::{self, gather};
use crate::s3::copy::Source;
use crate::s3::multipart::{Complete, Initiated, from_store, to_xml};
use crate::s3::{Bucket, Error, Key, Query, Result};

/// The ETag of no object.
const NO_ETAG: HeaderValue = HeaderValue::from_static("\"00000000000000000000000000000000\"");

/// Which writes keep the condition that the object is the one that was met, and only that one. A store must refuse where there
/// is another object and where there is none, and must not refuse where it is.
#[derive(Debug)]
pub struct Guards {
    /// PutObject, by If-Match.
    pub put: bool,
    /// CompleteMultipartUpload, by If-Match.
    pub complete: bool,
    /// CopyObject onto itself, by both If-Match and x-amz-copy-source-if-match.
    pub copy: bool,
    /// Whether an object's head says of its tags.
    pub tag_count: bool,
    /// Why what was tried with stays behind, if it does.
    pub litter: Option<Error>,
}

/// ListMultipartUploads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UnderWay {
    #[serde(rename = "Upload")]
    uploads: Vec<OneUnderWay>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneUnderWay {
    key: String,
    upload_id: String,
}

/// Two keys of s3veil's own: at one there is an object.
struct Probe<'a> {
    estate: &'a Estate,
    own: Own<'a>,
    present: Key,
    absent: Key,
}

impl Estate {
    /// Tries them on objects of s3veil's own, in the name of a job, and removes those; also what an earlier try of the same job
    /// has left.
    ///
    /// Errors: AccessDenied, ServiceUnavailable if nothing can be written there.
    pub async fn guards(&self, bucket: &Bucket, job: &str) -> Result<Guards> {
        let name = format!("{FOLDER}{job}-probe");
        let key = |suffix: &str| Key::parse(&format!("{name}{suffix}")).expect("names of jobs are short");
        let own = self.own(self.rooms.uploads.place().unwrap_or(bucket));
        let probe = Probe { estate: self, own, present: key("-1"), absent: key("-2") };
        probe.clear(&name).await.ok();
        let guards = probe.run().await;
        let litter = probe.clear(&name).await.err();
        guards.map(|guards| Guards { litter, ..guards })
    }
}

impl Probe<'_> {
    async fn run(&self) -> Result<Guards> {
        written(self.send(self.put(&self.present, None)).await?)?;
        let put =
            self.keeps(async |key, condition| Ok(self.send(self.put(key, Some(condition))).await?.status()));
        let put = put.await?;
        let (copy, tag_count) = (self.keeps_copies().await?, self.counts_tags().await?);
        let complete = self.keeps(async |key, condition| self.complete(key, condition).await).await?;
        Ok(Guards { put, complete, copy, tag_count, litter: None })
    }

    /// Removes objects and uploads of this name. Keys that begin so are nobody else's.
    async fn clear(&self, name: &str) -> Result<()> {
        // MinIO lists uploads by their whole key only.
        for key in [&self.present, &self.absent] {
            let query = Query::from_pairs([("uploads", ""), ("prefix", key.as_str())]);
            let listed = written(self.send(self.own.request(Method::GET, None).query(query)).await?)?;
            let text = gather(listed.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
            let listed: UnderWay = from_store(&text)?;
            for upload in listed.uploads.iter().filter(|upload| upload.key == key.as_str()) {
                let query = Query::from_pairs([("uploadId", upload.upload_id.as_str())]);
                self.send(self.own.request(Method::DELETE, Some(key)).query(query)).await?;
            }
        }
        let kind = self.own.kind().await;
        self.own.remove(kind, name).await.map(drop)
    }

    async fn send(&self, request: StoreRequest) -> Result<StoreResponse> {
        Ok(self.estate.rooms.backend.send(request).await?)
    }

    fn put(&self, key: &Key, condition: Option<HeaderValue>) -> StoreRequest {
        let mut request = self.own.request(Method::PUT, Some(key)).body(StoreBody::record("probe".into()));
        if let Some(condition) = condition {
            request.headers.set(header::IF_MATCH, condition);
        }
        request
    }

    async fn there(&self) -> Result<HeaderValue> {
        let head = self.send(self.own.request(Method::HEAD, Some(&self.present))).await?;
        etag(written(head)?.headers())
    }

    async fn keeps(&self, write: impl AsyncFn(&Key, HeaderValue) -> Result<StatusCode>) -> Result<bool> {
        let there = self.there().await?;
        let another = write(&self.present, NO_ETAG).await? == StatusCode::PRECONDITION_FAILED;
        let none = write(&self.absent, there.clone()).await?;
        let none = [StatusCode::PRECONDITION_FAILED, StatusCode::NOT_FOUND].contains(&none);
        // Where that was let through, it is another one by now.
        Ok(another && none && write(&self.present, there).await?.is_success())
    }

    async fn complete(&self, key: &Key, condition: HeaderValue) -> Result<StatusCode> {
        let request = |method, query| self.own.request(method, Some(key)).query(query);
        let begin = request(Method::POST, Query::from_pairs([("uploads", "")]));
        let begun = written(self.send(begin).await?)?;
        let text = gather(begun.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let Initiated { upload_id } = from_store(&text)?;
        let of_upload = || Query::from_pairs([("uploadId", upload_id.as_str())]);
        let tried = async {
            let query = Query::from_pairs([("partNumber", "1"), ("uploadId", upload_id.as_str())]);
            let part = request(Method::PUT, query).body(StoreBody::record("probe".into()));
            let part = written(self.send(part).await?)?;
            let part = etag(part.headers())?;
            let document = to_xml(&Complete::new([(1, part.to_str().unwrap_or_default())]));
            let mut complete = request(Method::POST, of_upload()).body(StoreBody::record(document));
            complete.headers.set(header::IF_MATCH, condition);
            let done = self.send(complete).await?;
            let status = done.status();
            // A store may find an error when it has already said 200 (S3's own way).
            let text = gather(done.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
            let refused = memchr::memmem::find(&text, b"<Code>PreconditionFailed<").is_some();
            Ok(if refused { StatusCode::PRECONDITION_FAILED } else { status })
        };
        let tried = tried.await;
        // Where it was completed there is none any more.
        self.send(request(Method::DELETE, of_upload())).await?;
        tried
    }

    async fn keeps_copies(&self) -> Result<bool> {
        let there = self.there().await?;
        let copy = async |target: HeaderValue, source: HeaderValue| {
            let mut request = self.own.request(Method::PUT, Some(&self.present));
            let from = Source { bucket: self.own.bucket.clone(), key: self.present.clone(), version: None };
            for (name, value) in [
                ("x-amz-copy-source", from.to_header()),
                ("x-amz-copy-source-if-match", source),
                ("x-amz-metadata-directive", HeaderValue::from_static("REPLACE")),
                ("if-match", target),
            ] {
                request.headers.set(HeaderName::from_static(name), value);
            }
            Ok::<_, Error>(self.send(request).await?.status())
        };
        Ok(copy(NO_ETAG, there.clone()).await? == StatusCode::PRECONDITION_FAILED
            && copy(there.clone(), NO_ETAG).await? == StatusCode::PRECONDITION_FAILED
            && copy(there.clone(), there).await?.is_success())
    }

    async fn counts_tags(&self) -> Result<bool> {
        let mut request = self.put(&self.present, None);
        request
            .headers
            .set(HeaderName::from_static("x-amz-tagging"), HeaderValue::from_static("s3veil=probe"));
        if !self.send(request).await?.status().is_success() {
            // It has none.
            return Ok(true);
        }
        let head = self.send(self.own.request(Method::HEAD, Some(&self.present))).await?;
        Ok(head.headers().contains_key("x-amz-tagging-count"))
    }
}
