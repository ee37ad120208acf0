//! A long file, as a multipart upload: begun, sent part by part, and completed once all that was said of the file is true.
//! Whatever goes wrong, the upload is removed.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::super::{Answer, Rooms, forward, multipart};
use super::Leave;
use super::file::File;
use crate::auth::Payload;
use crate::body::{self, gather};
use crate::operation::{Call, Operation};
use crate::policy::Forward;
use crate::s3::checksum::{Algorithm, Checksum, Hasher};
use crate::s3::headers::remove_all;
use crate::s3::multipart::{Completed, Initiated, complete_request, damaged_upload_id, from_store};
use crate::s3::{Code, Error, Query, Result};

const ANSWER_MAX: usize = 64 * 1024;

/// Writes a file of which `first` is the first part. Gives the answer to the completion, with the object's ETag for a header,
/// or what the store refused.
pub(super) async fn write(
    rooms: &Arc<Rooms>,
    call: &Call,
    leave: Leave,
    mut file: File,
    first: Bytes,
    payload: Payload,
) -> Result<Answer> {
    let claims = Claims::of(payload);
    let (algorithm, plain) = match &leave {
        Leave::Sealed(_) => (Some(claims.combinable()), None),
        // What the store knows of checksums is not known here.
        Leave::Plain(leave) => (None, Some(*leave)),
    };
    let begun = create(rooms, call, leave, algorithm).await?;
    if !begun.status().is_success() {
        return Ok(begun);
    }
    let text = gather(begun.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
    let (id, damage) = match from_store(&text) {
        Ok(Initiated { upload_id }) => (upload_id, None),
        Err(why) => match damaged_upload_id(&text) {
            Some(id) => (id, Some(why)),
            None => return Err(why),
        },
    };
    let upload = Upload { rooms, call, id: &id, plain, algorithm };
    let done = match damage {
        None => upload.fill(&mut file, first, claims).await,
        Some(why) => Err(why),
    };
    if !done.as_ref().is_ok_and(|answer| answer.status().is_success()) {
        upload.abort().await;
    }
    done
}

async fn create(
    rooms: &Arc<Rooms>,
    call: &Call,
    leave: Leave,
    algorithm: Option<Algorithm>,
) -> Result<Answer> {
    let mut headers = call.headers().clone();
    // They speak of a body, and this one has none.
    remove_all(&mut headers, |name| {
        name == "content-md5" || name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm"
    });
    if let Some(algorithm) = algorithm {
        let name = algorithm.header().as_str().trim_start_matches("x-amz-checksum-").to_ascii_uppercase();
        let name = HeaderValue::from_str(&name).expect("names of algorithms are header values");
        headers.insert("x-amz-checksum-algorithm", name);
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("FULL_OBJECT"));
    }
    let query = Query::from_pairs([("uploads", "")]);
    let create = call.writing(Operation::CreateMultipartUpload, query, headers, Payload::of_length(0));
    match leave {
        Leave::Sealed(write) => multipart::create(rooms, &create, write).await,
        Leave::Plain(leave) => forward::forward(rooms, create, leave, body::empty()).await,
    }
}

/// The upload under way.
struct Upload<'a> {
    rooms: &'a Arc<Rooms>,
    call: &'a Call,
    id: &'a str,
    /// Leave to write it as it is; none where it is sealed.
    plain: Option<Forward>,
    /// The checksum of the parts that gives that of the whole.
    algorithm: Option<Algorithm>,
}

impl Upload<'_> {
    /// Sends all parts and completes.
    async fn fill(&self, file: &mut File, first: Bytes, mut claims: Claims) -> Result<Answer> {
        let (mut part, mut parts) = (first, Vec::new());
        loop {
            claims.update(&part);
            if file.ended() {
                claims.hold()?;
            }
            let number = u32::try_from(parts.len() + 1).expect("parts are long and files are not endless");
            let sum = self.algorithm.map(|algorithm| Hasher::digest(algorithm, &part));
            let answer = self.send_part(number, part, sum.clone()).await?;
            let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
            match etag.filter(|_| answer.status().is_success()) {
                Some(etag) => parts.push((number, etag.to_owned(), sum)),
                None if answer.status().is_success() => {
                    return Err(Error::new(Code::InternalError, "The store gave a part no ETag."));
                }
                None => return Ok(answer),
            }
            if file.ended() {
                return self.complete(&parts).await;
            }
            part = file.part().await?;
        }
    }

    async fn send_part(&self, number: u32, part: Bytes, sum: Option<Checksum>) -> Result<Answer> {
        let number = number.to_string();
        let query = Query::from_pairs([("partNumber", number.as_str()), ("uploadId", self.id)]);
        let payload = Payload { checksum: sum, ..Payload::of_length(part.len() as u64) };
        self.send(Operation::UploadPart, query, payload, part).await
    }

    /// Errors: those that a store finds when it has already said 200 (S3's own way), too.
    async fn complete(&self, parts: &[(u32, String, Option<Checksum>)]) -> Result<Answer> {
        let document = Bytes::from(complete_request(parts));
        let payload = Payload::of_length(document.len() as u64);
        let answer = self.send(Operation::CompleteMultipartUpload, self.query(), payload, document).await?;
        if !answer.status().is_success() {
            return Ok(answer);
        }
        let (mut head, document) = answer.into_parts();
        let text = gather(document, ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let completed: Completed = from_store(&text)?;
        let unreadable = || Error::new(Code::InternalError, "The store's answer can't be read.");
        let etag = match (completed.code, completed.etag) {
            (Some(code), _) => return Err(not_completed(&code)),
            (None, Some(etag)) => HeaderValue::from_str(&etag).map_err(|why| unreadable().caused_by(why))?,
            (None, None) => return Err(unreadable()),
        };
        head.headers.insert(header::ETAG, etag);
        Ok(Answer::from_parts(head, body::empty()))
    }

    async fn abort(&self) {
        let payload = Payload::of_length(0);
        match self.send(Operation::AbortMultipartUpload, self.query(), payload, Bytes::new()).await {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => {
                tracing::warn!(status = answer.status().as_u16(), "an upload that failed can't be removed");
            }
            Err(why) => tracing::warn!(%why, "an upload that failed can't be removed"),
        }
    }

    fn query(&self) -> Query {
        Query::from_pairs([("uploadId", self.id)])
    }

    async fn send(
        &self,
        operation: Operation,
        query: Query,
        payload: Payload,
        body: Bytes,
    ) -> Result<Answer> {
        // Of the headers of the write only the client's own key, which each part needs, and where its page is from.
        let each = |name: &HeaderName| {
            name == header::ORIGIN || name.as_str().starts_with("x-amz-server-side-encryption-customer-")
        };
        let headers = self.call.headers().iter().filter(|(name, _)| each(name));
        let headers: HeaderMap = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
        let call = self.call.writing(operation, query, headers, payload);
        match self.plain {
            Some(leave) => forward::forward(self.rooms, call, leave, body::full(body)).await,
            None => multipart::run(self.rooms, call, body::full(body)).await,
        }
    }
}

/// The error that a store had behind its 200: its own, where S3's client can be told that by s3veil.
fn not_completed(code: &str) -> Error {
    let known = Code::from_store(code).unwrap_or(Code::InternalError);
    let message = "The store did not complete the upload, and nothing is stored. Please try again.";
    Error::new(known, message).caused_by(format!("the store answered 200, and {code:?} in its document"))
}

/// What the form says of the whole file, which no part shows.
struct Claims(Vec<(Hasher, Checksum, HeaderName)>);

impl Claims {
    fn of(payload: Payload) -> Self {
        let md5 = payload.md5.and_then(|value| Checksum::new(Algorithm::Md5, &value));
        let md5 = md5.map(|sum| (sum, HeaderName::from_static("content-md5")));
        let checksum = payload.checksum.map(|sum| (sum.clone(), sum.algorithm().header()));
        let all = md5.into_iter().chain(checksum);
        Self(all.map(|(sum, name)| (Hasher::new(sum.algorithm()), sum, name)).collect())
    }

    /// The algorithm of the object's checksum: the client's if those of parts make one of the whole, or else S3's default.
    fn combinable(&self) -> Algorithm {
        let crc = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Crc32 | Algorithm::Crc32c);
        let mut algorithms = self.0.iter().map(|(hasher, ..)| hasher.algorithm());
        algorithms.find(crc).unwrap_or(Algorithm::Crc64Nvme)
    }

    fn update(&mut self, part: &[u8]) {
        self.0.iter_mut().for_each(|(hasher, ..)| hasher.update(part));
    }

    /// Errors: BadDigest.
    fn hold(&mut self) -> Result<()> {
        match self
            .0
            .drain(..)
            .find_map(|(hasher, claimed, name)| (hasher.finish() != claimed).then_some(name))
        {
            None => Ok(()),
            Some(name) => Err(Error::new(
                Code::BadDigest,
                format!("The {name} you specified did not match what we received."),
            )),
        }
    }
}
