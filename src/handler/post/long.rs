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
use crate::s3::multipart::{Initiated, complete_request, from_store};
use crate::s3::{Code, Error, Query, Result};

const ANSWER_MAX: usize = 64 * 1024;

/// Writes a file of which `first` is the first part. Gives the answer to the completion, or what the store refused.
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
    let Initiated { upload_id } = from_store(&text)?;
    let upload = Upload { rooms, call, id: &upload_id, plain, algorithm };
    let done = upload.fill(&mut file, first, claims).await;
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

    async fn complete(&self, parts: &[(u32, String, Option<Checksum>)]) -> Result<Answer> {
        let document = Bytes::from(complete_request(parts));
        let payload = Payload::of_length(document.len() as u64);
        self.send(Operation::CompleteMultipartUpload, self.query(), payload, document).await
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
