//! A long object by parts: several at a time, each read from the store while it is written.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{self, HeaderMap, HeaderValue};

use super::bodies::{Span, Sum};
use super::migrate::Passage;
use super::{ANSWER_MAX, call, etag, refusal, retried, target};
use crate::auth::Payload;
use crate::body::{self, gather};
use crate::operation::{Call, Operation};
use crate::s3::multipart::{Completed, Initiated, complete_request, damaged_upload_id, from_store};
use crate::s3::{Bucket, Code, Error, Key, Query, Result};

/// Parts of one object at a time.
const AT_ONCE: usize = 4;

/// The most parts of an object: S3 has 10,000, and s3veil keeps one.
const MOST: u64 = 9_000;

/// Where it is written down which uploads are under way, so that whoever goes on after a crash can remove them.
pub trait Journal: Sync {
    /// An upload has begun. It goes on when this is kept.
    fn begun(&self, bucket: &Bucket, key: &Key, id: &str) -> impl Future<Output = Result<()>> + Send;

    /// It has ended.
    fn ended(&self, bucket: &Bucket, key: &Key, id: &str);
}

impl Passage<'_> {
    /// Writes the object by parts, and compares each. Gives the head of what was written.
    pub(super) async fn by_parts(&self, journal: &impl Journal) -> Result<HeaderMap> {
        let (bucket, key) = self.object;
        let kept = self.kept(self.met).await?;
        let id = self.begin(kept.clone()).await?;
        let done = match journal.begun(bucket, key, &id).await {
            Ok(()) => self.fill(&id, &kept).await,
            Err(why) => Err(why),
        };
        let (written, spans) = match done {
            Ok(done) => done,
            Err(why) => {
                if self.abort(&id).await {
                    journal.ended(bucket, key, &id);
                }
                return Err(why);
            }
        };
        journal.ended(bucket, key, &id);
        let compared = stream::iter(spans).map(|(span, sum)| {
            let written = &written;
            async move { self.compare(written, Some(span), &sum).await }
        });
        let () = compared.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(written)
    }

    async fn begin(&self, kept: HeaderMap) -> Result<String> {
        let call = call(Operation::CreateMultipartUpload, self.object, kept, 0);
        let call = call.with_query(Query::from_pairs([("uploads", "")]));
        let answer = self.estate.ask(call, body::empty()).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let text = gather(answer.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
        match from_store(&text) {
            Ok(Initiated { upload_id }) => Ok(upload_id),
            Err(why) => {
                if let Some(id) = damaged_upload_id(&text) {
                    self.abort(&id).await;
                }
                Err(why)
            }
        }
    }

    /// All parts, and the completion: its answer's head, and the parts with their checksums.
    async fn fill(&self, id: &str, kept: &HeaderMap) -> Result<(HeaderMap, Vec<(Span, Sum)>)> {
        let parts = stream::iter((1..).zip(spans(self.length, self.how.part)))
            .map(|(number, span)| async move {
                let (etag, sum) = retried(|_| self.send(id, number, span)).await?;
                Ok::<_, Error>(((number, etag, None), (span, sum)))
            })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let (list, spans): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        self.still_has(kept).await?;
        let written = self.complete(id, complete_request(&list)).await?;
        Ok((written, spans))
    }

    /// What is kept was read before the first part, and a new tag or other metadata leaves an ETag as it is.
    ///
    /// Errors: ObjectReplaced.
    async fn still_has(&self, kept: &HeaderMap) -> Result<()> {
        let (bucket, key) = self.object;
        match self.estate.head(target(bucket, key, None)).await? {
            Some(now) if self.kept(&now).await? == *kept => Ok(()),
            _ => Err(super::super::target::replaced()),
        }
    }

    async fn send(&self, id: &str, number: u32, span: Span) -> Result<(String, Sum)> {
        let (body, sum) = self.source(Some(span)).await?;
        let number = number.to_string();
        let query = Query::from_pairs([("partNumber", number.as_str()), ("uploadId", id)]);
        let payload = Payload::of_length(span.len());
        let call = Call::by_operator(Operation::UploadPart, self.object, query, HeaderMap::new(), payload);
        let answer = self.estate.ask(call, body).await.map_err(|error| sum.or(error))?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| Error::new(Code::InternalError, "The store gave a part no ETag."))?;
        Ok((etag.to_owned(), sum))
    }

    /// Errors: those that a store finds when it has already said 200 (S3's own way), too.
    async fn complete(&self, id: &str, document: String) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        if self.how.guard_complete {
            headers.insert(header::IF_MATCH, etag(self.met)?);
        }
        let query = Query::from_pairs([("uploadId", id)]);
        let payload = Payload::of_length(document.len() as u64);
        let call =
            Call::by_operator(Operation::CompleteMultipartUpload, self.object, query, headers, payload);
        let answer = self.estate.ask(call, body::full(document)).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let (mut head, document) = answer.into_parts();
        let text = gather(document, ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let completed: Completed = from_store(&text)?;
        match (completed.code, completed.etag.as_deref().map(HeaderValue::from_str)) {
            (None, Some(Ok(etag))) => {
                head.headers.insert(header::ETAG, etag);
                Ok(head.headers)
            }
            (Some(code), _) => {
                let known = Code::from_store(&code).unwrap_or(Code::InternalError);
                Err(Error::new(known, format!("The store did not complete the upload: {code}.")))
            }
            _ => Err(Error::new(Code::InternalError, "The store's answer can't be read.")),
        }
    }
}

impl super::Estate {
    /// Removes an upload that a run before this one has left.
    ///
    /// Errors: those of the store; none if it is gone.
    pub async fn give_up(&self, bucket: &Bucket, key: &Key, id: &str) -> Result<()> {
        let call = call(Operation::AbortMultipartUpload, (bucket, key), HeaderMap::new(), 0);
        let call = call.with_query(Query::from_pairs([("uploadId", id)]));
        match self.ask(call, body::empty()).await {
            Ok(answer) if answer.status().is_success() || answer.status() == http::StatusCode::NOT_FOUND => {
                Ok(())
            }
            Ok(answer) => Err(refusal(answer).await),
            Err(error) if error.code() == Code::NoSuchUpload => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The parts of an object of so many bytes: of the wanted length, or of more where there would be too many.
pub(super) fn spans(length: u64, part: u64) -> impl Iterator<Item = Span> {
    let part = part.max(length.div_ceil(MOST)).max(1);
    (0..length.div_ceil(part))
        .map(move |index| Span { start: index * part, end: ((index + 1) * part).min(length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_of_it_once() {
        for (length, part) in [(1, 1), (10, 3), (9, 3), (5 << 40, 64 << 20), (9_001, 1)] {
            let spans: Vec<Span> = spans(length, part).collect();
            assert!(spans.len() as u64 <= MOST);
            assert_eq!((spans[0].start, spans.last().unwrap().end), (0, length));
            assert!(spans.windows(2).all(|two| two[0].end == two[1].start && two[0].len() >= part));
        }
    }
}
