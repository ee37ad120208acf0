//! CompleteMultipartUpload: the list is checked against what the store holds, the manifest becomes the last part.
//!
//! Source: Amazon S3 API Reference, CompleteMultipartUpload.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::super::own::unwell;
use super::super::target::Target;
use super::super::{Answer, Rooms, forward, get, open, sealing};
use super::list::stored_parts;
use super::state::Record;
use super::sums::{ObjectChecksum, of_manifest};
use super::{MANIFEST, no_such_upload, upload_id};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, ByteBody, Checked, gather};
use crate::operation::Call;
use crate::response;
use crate::s3::checksum::Algorithm;
use crate::s3::headers::remove_all;
use crate::s3::multipart::{
    self, Complete, CompleteRequest, Completed, CompletedPart, ListedPart, MAX_PARTS, bare, error_code,
    from_client, from_store, to_xml,
};
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal::{self, Block, Manifest, Part, PartNumber, PlainLen, SealedLen};

/// The largest document: 10,000 parts of some 400 bytes.
const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;
const ANSWER_MAX: usize = 64 * 1024;

/// How often, and how long after each other, parts are looked for that are not there.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(100);

/// Why an upload can't be completed.
enum Refusal {
    /// Whatever else happens.
    Final(Error),
    /// Upload or parts are not there: not yet, not any more, or another request is completing it at this moment.
    Missing(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let error = error.into();
        if error.code() == Code::NoSuchUpload { Self::Missing(error) } else { Self::Final(error) }
    }
}

type Attempt<T> = std::result::Result<T, Refusal>;

pub(super) async fn complete(rooms: &Arc<Rooms>, mut call: Call, body: ByteBody) -> Result<Answer> {
    let mut payload = call.take_payload();
    // Here x-amz-checksum-* speaks of the object, not of the document.
    payload.checksum = None;
    let document = Checked::new(body, payload, rooms.client_idle)?.document(MAX_DOCUMENT).await?;
    let list: CompleteRequest = from_client(&document)?;
    let wanted = wanted(list)?;
    let (rooms, detached) = (rooms.clone(), rooms.detached.clone());
    let done = detached.spawn(async move { Completion { rooms: &rooms, call: &call }.run(&wanted).await });
    done.await
        .map_err(|why| Error::new(Code::InternalError, "The upload was not completed.").caused_by(why))?
}

/// The client's list, checked for itself.
fn wanted(list: CompleteRequest) -> Result<Vec<(PartNumber, CompletedPart)>> {
    let malformed = || {
        Error::new(
            Code::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema: 1 to 9,999 \
             Parts, each with a PartNumber of 1 to 9,999 and its ETag.",
        )
    };
    if list.parts.is_empty() || list.parts.len() >= MAX_PARTS {
        return Err(malformed());
    }
    let number = |part: &CompletedPart| u16::try_from(part.part_number).ok().and_then(PartNumber::new);
    let wanted: Option<Vec<_>> = list
        .parts
        .into_iter()
        .map(|part| Some((number(&part).filter(|_| !part.etag.is_empty())?, part)))
        .collect();
    let wanted = wanted.ok_or_else(malformed)?;
    match wanted.windows(2).all(|two| two[0].0 < two[1].0) {
        true => Ok(wanted),
        false => Err(Error::new(
            Code::InvalidPartOrder,
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
        )),
    }
}

/// A part that is kept aside: its sealed bytes as the store gives them.
struct Staged {
    body: ByteBody,
    length: SealedLen,
}

struct Completion<'a> {
    rooms: &'a Rooms,
    call: &'a Call,
}

impl Completion<'_> {
    /// A replica that was killed, or that a client did not wait for, may be completing the same upload. MinIO empties
    /// its list of parts before the object is there, under a lock that listing it does not wait for. So what is missing
    /// is looked for until the object is there, or nothing can be moving any more.
    async fn run(&self, wanted: &[(PartNumber, CompletedPart)]) -> Result<Answer> {
        for look in 1.. {
            let missing = match self.once(wanted).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Missing(error)) => error,
            };
            match self.before(wanted).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) if look == LOOKS || missing.code() == Code::NoSuchUpload => return Err(missing),
                // The object that was there is just being replaced.
                Err(error) if look == LOOKS || error.code() != Code::ServiceUnavailable => return Err(error),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        unreachable!("the last look returns")
    }

    async fn once(&self, wanted: &[(PartNumber, CompletedPart)]) -> Attempt<Answer> {
        let (rooms, call) = (self.rooms, self.call);
        let (bucket, key) = call.object()?;
        let id = upload_id(call)?;
        let record = rooms.uploads.find(rooms, call.who(), (bucket, key), id, true).await?;
        let opened = record.open(rooms, Target::of(call)?).await?;
        let etags: HashMap<u32, &str> =
            wanted.iter().map(|(_, part)| (part.part_number, part.etag.as_str())).collect();
        let named =
            |listed: &ListedPart| etags.get(&listed.part_number).is_some_and(|etag| is_named(listed, etag));
        let stored = stored_parts(rooms, call, named).await?;
        let (parts, staged) = self.parts(wanted, &stored, (bucket, key), id).await?;
        let checksum = ObjectChecksum::of(&record, call.headers(), wanted, &parts)?;
        let parts = parts.iter().zip(wanted).map(|((number, length), (_, part))| {
            let checksum = checksum.as_ref().and_then(|sum| sum.of_part(part));
            Part { number: *number, length: *length, checksum }
        });
        let manifest =
            Manifest::new(parts.collect(), checksum.as_ref().and_then(ObjectChecksum::kept), digest(id))
                .map_err(|why| {
                    Error::new(
                        Code::EntityTooLarge,
                        "Your proposed upload exceeds the maximum allowed size, 5 TiB.",
                    )
                    .caused_by(why)
                })?;
        self.check_size(&manifest)?;
        let block = opened.seal_manifest(&manifest)?;

        let whole = match staged {
            Some(_) => &wanted[..wanted.len() - 1],
            None => wanted,
        };
        let closing = match self.close(staged, &block).await? {
            Ok(etag) => etag,
            Err(store) => return refused(call, store, wanted).await,
        };
        let listed = whole.iter().map(|(number, part)| (u32::from(number.get()), part.etag.as_str()));
        let document = to_xml(&Complete::new(listed.chain([(MANIFEST, closing.as_str())])));
        let mut headers = StoreHeaders::for_object(call.headers());
        // The sealed object has another size.
        headers.remove("x-amz-mp-object-size");
        let request = StoreRequest::new(Method::POST, Some(bucket), Some(key), headers, call.who())
            .query(call.query().pick(&["uploadId"]))
            .body(StoreBody::record(document));
        let store = rooms.backend.send(request).await?;
        if !store.status().is_success() {
            return refused(call, store, wanted).await;
        }
        let answer = match self.answer(store, &record, checksum.as_ref()).await? {
            Ok(answer) => answer,
            // Not completed: the client may try again.
            Err(refused) => return Ok(refused),
        };
        rooms.uploads.remove(rooms, call.who(), bucket, key, id).await;
        Ok(answer)
    }

    /// Number and plaintext length of each part, and the last one if it is kept aside.
    async fn parts(
        &self,
        wanted: &[(PartNumber, CompletedPart)],
        stored: &HashMap<u32, ListedPart>,
        place: (&Bucket, &Key),
        id: &str,
    ) -> Attempt<(Vec<(PartNumber, PlainLen)>, Option<Staged>)> {
        let (mut parts, mut last) = (Vec::with_capacity(wanted.len()), None);
        for (index, (number, part)) in wanted.iter().enumerate() {
            let is_last = index + 1 == wanted.len();
            let listed = stored.get(&part.part_number);
            let length = match listed.filter(|listed| is_named(listed, &part.etag)) {
                Some(listed) => SealedLen::new(listed.size),
                None => {
                    let staged = self.staged(*number, part, place, id, is_last).await?;
                    let staged = staged.ok_or_else(|| match listed {
                        Some(_) => Refusal::Final(invalid_part(part)),
                        None => Refusal::Missing(invalid_part(part)),
                    })?;
                    let length = staged.length;
                    last = Some(staged);
                    length
                }
            };
            let length = length.part().ok_or(seal::Error::Tampered)?;
            if !is_last && length.get() < self.rooms.backend.min_part() {
                return Err(too_small(part, length, self.rooms.backend.min_part()).into());
            }
            parts.push((*number, length));
        }
        Ok((parts, last))
    }

    /// A part that is kept aside; `None` if there is none.
    ///
    /// Errors: InvalidPart if its ETag is another.
    async fn staged(
        &self,
        number: PartNumber,
        part: &CompletedPart,
        place: (&Bucket, &Key),
        id: &str,
        with_body: bool,
    ) -> Result<Option<Staged>> {
        let method = if with_body { Method::GET } else { Method::HEAD };
        let request = self.rooms.uploads.staged(method, place, id, number, self.call.who());
        let store = self.rooms.backend.send(request).await?;
        match store.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(unwell(status)),
        }
        let text = |name| store.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if text(header::ETAG).is_none_or(|etag| bare(etag) != bare(&part.etag)) {
            return Err(invalid_part(part));
        }
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let length = SealedLen::new(length.ok_or(seal::Error::Tampered)?);
        Ok(Some(Staged { length, body: store.into_body() }))
    }

    /// Sends what comes behind the whole parts, and gives its ETag, or the store's refusal.
    async fn close(
        &self,
        staged: Option<Staged>,
        block: &Block,
    ) -> Result<std::result::Result<String, StoreResponse>> {
        let (bucket, key) = self.call.object()?;
        let staged = staged.map(|staged| (staged.body, staged.length.get()));
        let number = MANIFEST.to_string();
        let query = Query::from_pairs([("partNumber", number.as_str()), ("uploadId", upload_id(self.call)?)]);
        let request =
            StoreRequest::new(Method::PUT, Some(bucket), Some(key), StoreHeaders::default(), self.call.who())
                .query(query)
                .body(StoreBody::closing(staged, block));
        let store = self.rooms.backend.send(request).await?;
        if !store.status().is_success() {
            return Ok(Err(store));
        }
        let etag = store.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| Error::new(Code::InternalError, "The store gave a part no ETag."))?;
        Ok(Ok(etag.to_owned()))
    }

    /// `x-amz-mp-object-size`: what the client believes the object's size to be.
    fn check_size(&self, manifest: &Manifest) -> Result<()> {
        let Some(value) = self.call.headers().get("x-amz-mp-object-size") else { return Ok(()) };
        match value.to_str().ok().and_then(|value| value.parse().ok()) == Some(manifest.length().get()) {
            true => Ok(()),
            false => Err(Error::new(
                Code::InvalidRequest,
                format!("The parts have {} bytes, which is not x-amz-mp-object-size.", manifest.length()),
            )),
        }
    }

    /// The answer to a completion; the store's, if that has no object in it.
    async fn answer(
        &self,
        store: StoreResponse,
        record: &Record,
        checksum: Option<&ObjectChecksum>,
    ) -> Result<std::result::Result<Answer, Answer>> {
        let (parts, store_body) = store.into_parts();
        let text = gather(store_body, ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let completed: Completed = from_store(&text)?;
        let envelope = record.envelope()?;
        let encryption = sealing::shown(envelope.header(), self.call.customer_key());
        let headers = response::for_sealed(&parts.headers, &encryption);
        match (completed.code, completed.etag) {
            (None, Some(etag)) => {
                let shown = checksum.map(ObjectChecksum::shown);
                self.result(headers, &etag, shown).map(Ok)
            }
            // A store may find an error when it has already said 200 (S3's own way).
            (Some(_), _) => Ok(Err(get::document(headers, text))),
            (None, None) => Err(Error::new(Code::InternalError, "The store's answer can't be read.")),
        }
    }

    fn result(&self, headers: HeaderMap, etag: &str, checksum: Option<Shown>) -> Result<Answer> {
        let (bucket, key) = self.call.object()?;
        let shown = checksum.as_ref().map(|(algorithm, value, kind)| (*algorithm, value.as_str(), *kind));
        let xml = multipart::complete_result((bucket.as_str(), key.as_str()), etag, shown);
        Ok(get::document(headers, xml))
    }

    /// The answer to a completion that is repeated, as clients do that did not hear the first: the object is there, and
    /// its manifest names this upload and these parts.
    async fn before(&self, wanted: &[(PartNumber, CompletedPart)]) -> Result<Option<Answer>> {
        let (rooms, call) = (self.rooms, self.call);
        let (bucket, key) = call.object()?;
        let target = Target { bucket, key, version: None, who: call.who(), customer: call.customer_key() };
        let store = rooms.backend.send(target.request(Method::HEAD)).await?;
        if !store.status().is_success() {
            return Ok(None);
        }
        let sealed = match open::sealed(rooms, target, store.headers()).await {
            // Under a client's key that this request does not bring along: another object, for all that can be told.
            Err(why) if matches!(why.code(), Code::InvalidRequest | Code::AccessDenied) => None,
            other => other?,
        };
        let Some(sealed) = sealed else { return Ok(None) };
        let Some(known) = &sealed.composite else { return Ok(None) };
        let listed = known.manifest.parts().iter().map(|part| part.number);
        let same = listed.eq(wanted.iter().map(|(number, _)| *number));
        if *known.manifest.upload() != digest(upload_id(call)?) || !same {
            return Ok(None);
        }
        rooms.uploads.remove(rooms, call.who(), bucket, key, upload_id(call)?).await;
        let etag = store.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let parts = known.manifest.parts().len();
        let checksum = known.manifest.checksum().and_then(|sum| of_manifest(sum, parts));
        // Of the object's headers only those that a completion has.
        let mut headers = store.headers().clone();
        let of_answer = ["x-amz-version-id", "x-amz-expiration", "x-amz-request-id", "x-amz-id-2", "server"];
        remove_all(&mut headers, |name| !of_answer.contains(&name));
        self.result(response::for_sealed(&headers, &sealed.encryption), etag, checksum).map(Some)
    }
}

/// Whether this is the part that the client names. A store that lists no ETags checks them itself.
fn is_named(listed: &ListedPart, etag: &str) -> bool {
    listed.etag.is_empty() || bare(&listed.etag) == bare(etag)
}

/// A checksum as S3 shows it.
type Shown = (Algorithm, String, &'static str);

/// The name under which a manifest keeps an upload's id.
fn digest(upload_id: &str) -> [u8; 32] {
    Sha256::digest(upload_id).into()
}

/// What the store refuses, in its own words, unless it lacks what was there before. An If-Match asks for the object: then it is
/// that which may lack.
async fn refused(
    call: &Call,
    store: StoreResponse,
    wanted: &[(PartNumber, CompletedPart)],
) -> Attempt<Answer> {
    if ![StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&store.status()) {
        return Ok(forward::answer(store));
    }
    let (parts, store_body) = store.into_parts();
    let text = gather(store_body, ANSWER_MAX).await.map_err(body::Broken::Store)?;
    let code = error_code(&text).unwrap_or_default();
    let object_lacks = code == Code::NoSuchKey.as_str() && call.headers().contains_key(header::IF_MATCH);
    match parts.status {
        StatusCode::NOT_FOUND if !object_lacks => Err(Refusal::Missing(no_such_upload())),
        StatusCode::BAD_REQUEST if code == Code::InvalidPart.as_str() => {
            Err(Refusal::Missing(invalid_part(&wanted[0].1)))
        }
        status => match forward::lost(&code).filter(|_| status == StatusCode::BAD_REQUEST) {
            Some(error) => Err(error.into()),
            None => Ok(forward::answer(http::Response::from_parts(parts, body::full(text)))),
        },
    }
}

fn invalid_part(part: &CompletedPart) -> Error {
    Error::new(
        Code::InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified \
         entity tag may not match the part's entity tag.",
    )
    .detail("PartNumber", part.part_number.to_string())
    .detail("ETag", &part.etag)
}

fn too_small(part: &CompletedPart, length: PlainLen, least: u64) -> Error {
    Error::new(Code::EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size.")
        .detail("ProposedSize", length.to_string())
        .detail("MinSizeAllowed", least.to_string())
        .detail("PartNumber", part.part_number.to_string())
        .detail("ETag", &part.etag)
}
