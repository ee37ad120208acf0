//! An object's key sealed under another EK: the envelope is made anew, and the store copies the body onto itself.
//!
//! Source: Amazon S3 API Reference, CopyObject, UploadPartCopy.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::super::copy::CopyResult;
use super::super::own::written;
use super::super::target::Target;
use super::super::{open, sealing};
use super::bodies::Span;
use super::kept::{Keeping, stored_length};
use super::overtaken::Step;
use super::parts::{Journal, spans};
use super::{ANSWER_MAX, Estate, Rule, etag, found, key_of, retried, target, was_changed};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{self, gather};
use crate::kms::Context;
use crate::policy::{EkRef, Write};
use crate::s3::copy::Source;
use crate::s3::listing::Listed;
use crate::s3::multipart::{Complete, Initiated, from_store, to_xml};
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal::{self, Envelope, Header, Layout, SealedLen, Sse};

/// The longest object that a store copies in one request, and the length of a part of longer ones, in sealed bytes.
const MAX_COPY: u64 = 5 * 1024 * 1024 * 1024;
const PART: u64 = 1024 * 1024 * 1024;

/// Parts of one object at a time: the store copies each.
const AT_ONCE: usize = 4;

/// Which objects, and under which EK.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The EK for them.
    pub to: EkRef,
    /// Only those under this EK of any KMS; all others if there is none.
    pub from: Option<String>,
    /// What is asked for to be kept.
    pub keeping: Keeping,
    /// How the store copies.
    pub by: CopyBy,
    /// Whether objects over 5 GiB may be copied, which goes by parts in any case.
    pub long: bool,
}

/// How the store copies an object onto itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyBy {
    /// In one request, under conditions that it keeps, or that nobody needs. Objects over 5 GiB by parts.
    Copy,
    /// As a multipart upload, whose completion keeps the condition: for stores that don't for a copy. Its ETag is another one.
    Parts,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// Its key is under the EK now. The versions, where the store keeps them.
    Done(Option<Step>),
    /// It was already, under the EK's newest version.
    Already,
    /// It is under an EK that was not asked for.
    Other,
    /// It has no key.
    Plain,
    /// Its client's own key sealed it.
    Customer,
    /// The rule denies its key.
    ByRule,
    /// It was deleted meanwhile.
    Gone,
}

impl Rotation {
    /// What there is to say of an object before anything is done, if that is all.
    fn settled(&self, header: &Header) -> Option<Rotated> {
        let other = self.from.as_ref().is_some_and(|from| *from != header.ek);
        match header.sse {
            Sse::Customer => Some(Rotated::Customer),
            _ if other => Some(Rotated::Other),
            _ => None,
        }
    }

    fn is_under(&self, header: &Header) -> bool {
        header.kms == self.to.kms && header.ek == self.to.ek.as_str()
    }
}

impl Estate {
    /// What would become of an object. Newer versions of the EK are not looked for.
    pub async fn would_rotate(
        &self,
        bucket: &Bucket,
        listed: &Listed,
        rotation: &Rotation,
    ) -> Result<Rotated> {
        let key = key_of(listed)?;
        let Some(met) = self.head(target(bucket, &key, None)).await? else { return Ok(Rotated::Gone) };
        let Some(envelope) = open::parsed(&met)? else { return Ok(Rotated::Plain) };
        let header = envelope.header();
        let under = rotation.is_under(header).then_some(Rotated::Already);
        Ok(rotation.settled(header).or(under).unwrap_or(Rotated::Done(None)))
    }

    /// Seals an object's key under the EK.
    ///
    /// Errors: those of store and KMS, the integrity error; ObjectReplaced for an object that is replaced meanwhile.
    pub async fn rotate(
        &self,
        bucket: &Bucket,
        listed: &Listed,
        rotation: &Rotation,
        journal: &impl Journal,
    ) -> Result<Rotated> {
        let key = key_of(listed)?;
        if self.rule((bucket, &key)).await? == Rule::Denies {
            return Ok(Rotated::ByRule);
        }
        match self.rotate_once((bucket, &key), rotation, journal).await {
            Err(error) if was_changed(&error) => Err(super::super::target::replaced().caused_by(error)),
            result => result,
        }
    }

    async fn rotate_once(
        &self,
        (bucket, key): (&Bucket, &Key),
        rotation: &Rotation,
        journal: &impl Journal,
    ) -> Result<Rotated> {
        let place = target(bucket, key, None);
        let Some(met) = self.head(place).await? else { return Ok(Rotated::Gone) };
        let Some(before) = open::parsed(&met)? else { return Ok(Rotated::Plain) };
        if let Some(settled) = rotation.settled(before.header()) {
            return Ok(settled);
        }
        let opened = open::opened(&self.rooms.keys, &before, self.given(place, &met)).await?;
        let size = stored_length(&met).ok_or(seal::Error::Tampered)?;
        // What is damaged is not made to look well.
        let bytes = match opened.layout(SealedLen::new(size))? {
            Layout::Stream(length) => length.get(),
            Layout::Composite => size,
        };
        let client = open::context(&met)
            .map(Context::of_client)
            .transpose()
            .map_err(|_| seal::Error::Tampered)?
            .flatten();
        let context = client.filter(|_| before.header().context.is_some());
        let write = Write::by_operator(rotation.to.clone(), before.header().sse, context);
        let envelope = sealing::rewrapped(&self.rooms, &write, (bucket, key), &opened, bytes).await?;
        if rotation.is_under(before.header()) && envelope.header().ek_version == before.header().ek_version {
            return Ok(Rotated::Already);
        }
        let kept = self.kept(place, &met, rotation.keeping).await?;
        let mut headers = StoreHeaders::default();
        for (name, value) in &kept {
            headers.set(name.clone(), value.clone());
        }
        headers.set_envelope(&envelope, write.context())?;
        let copy = Copy { estate: self, object: (bucket, key), met: &met, size };
        if size > MAX_COPY && !rotation.long {
            return Err(Error::new(
                Code::NotImplemented,
                "The store keeps no If-Match on CompleteMultipartUpload, which an object over 5 GiB needs. Stop all writers \
                 to it, and run it with --unguarded.",
            ));
        }
        let written = match size > MAX_COPY || rotation.by == CopyBy::Parts {
            true => copy.by_parts(headers, journal).await?,
            false => copy.whole(headers, kept.contains_key("x-amz-tagging")).await?,
        };
        self.check(place, &before).await?;
        Ok(Rotated::Done(Step::of(key, &met, &written)))
    }

    fn given<'a>(&self, place: Target<'a>, met: &'a HeaderMap) -> open::Given<'a> {
        open::Given { bucket: place.bucket, key: place.key, customer: None, context: open::context(met) }
    }

    /// Looks whether what is there now opens, up to its first byte: a store that copied another body has an envelope that is not
    /// for it. If a client has written another object, that is not ours.
    async fn check(&self, place: Target<'_>, before: &Envelope) -> Result<()> {
        let Some(met) = self.head(place).await? else { return Ok(()) };
        if open::parsed(&met)?.is_none_or(|envelope| envelope.commitment() != before.commitment()) {
            return Ok(());
        }
        let sealed = open::sealed(&self.rooms, place, &met).await?.ok_or(seal::Error::Tampered)?;
        let first = (sealed.length.get() > 0).then_some(Span { start: 0, end: 1 });
        match self.client_bytes((place.bucket, place.key), &met, first).await {
            Ok(answer) => self.read(answer.into_body()).await.map(drop),
            Err(error) if was_changed(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A copy of an object onto itself.
struct Copy<'a> {
    estate: &'a Estate,
    object: (&'a Bucket, &'a Key),
    met: &'a HeaderMap,
    /// Sealed bytes.
    size: u64,
}

impl Copy<'_> {
    fn request(&self, method: Method, headers: StoreHeaders) -> StoreRequest {
        let (bucket, key) = self.object;
        StoreRequest { headers, ..target(bucket, key, None).request(method) }
    }

    /// The very object that was met.
    fn name_itself(&self, headers: &mut StoreHeaders) -> Result<()> {
        let (bucket, key) = self.object;
        let source = Source { bucket: bucket.clone(), key: key.clone(), version: None };
        headers.set(HeaderName::from_static("x-amz-copy-source"), source.to_header());
        headers.set(HeaderName::from_static("x-amz-copy-source-if-match"), etag(self.met)?);
        Ok(())
    }

    /// The head of what was written.
    async fn whole(&self, mut headers: StoreHeaders, tags: bool) -> Result<HeaderMap> {
        self.name_itself(&mut headers)?;
        let replace = HeaderValue::from_static("REPLACE");
        headers.set(HeaderName::from_static("x-amz-metadata-directive"), replace.clone());
        // Where metadata is replaced, RGW forgets the source's tags.
        if tags {
            headers.set(HeaderName::from_static("x-amz-tagging-directive"), replace);
        }
        // A client may write between the look at the source and the end of the copy.
        headers.set(header::IF_MATCH, etag(self.met)?);
        Ok(copied(self.estate.rooms.backend.send(self.request(Method::PUT, headers)).await?).await?.0)
    }

    /// The head of what was written.
    async fn by_parts(&self, headers: StoreHeaders, journal: &impl Journal) -> Result<HeaderMap> {
        let (bucket, key) = self.object;
        let backend = &self.estate.rooms.backend;
        let begin = self.request(Method::POST, headers).query(Query::from_pairs([("uploads", "")]));
        let begun = written(backend.send(begin).await?)?;
        let text = gather(begun.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let Initiated { upload_id } = from_store(&text)?;
        let done = match journal.begun(bucket, key, &upload_id).await {
            Ok(()) => self.fill(&upload_id).await,
            Err(why) => Err(why),
        };
        if done.is_ok() || self.estate.give_up(bucket, key, &upload_id).await.is_ok() {
            journal.ended(bucket, key, &upload_id);
        }
        done
    }

    async fn fill(&self, id: &str) -> Result<HeaderMap> {
        let parts: Vec<(u32, String)> = stream::iter((1..).zip(spans(self.size, PART)))
            .map(|(number, span)| async move {
                Ok::<_, Error>((number, retried(|_| self.part(id, number, span)).await?))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let document = to_xml(&Complete::new(parts.iter().map(|(number, etag)| (*number, etag.as_str()))));
        let mut headers = StoreHeaders::default();
        headers.set(header::IF_MATCH, etag(self.met)?);
        let request = self.request(Method::POST, headers).query(Query::from_pairs([("uploadId", id)]));
        Ok(copied(self.estate.rooms.backend.send(request.body(StoreBody::record(document))).await?).await?.0)
    }

    async fn part(&self, id: &str, number: u32, Span { start, end }: Span) -> Result<String> {
        let mut headers = StoreHeaders::default();
        self.name_itself(&mut headers)?;
        let range = HeaderValue::from_str(&format!("bytes={start}-{}", end - 1)).expect("digits");
        headers.set(HeaderName::from_static("x-amz-copy-source-range"), range);
        let number = number.to_string();
        let query = Query::from_pairs([("partNumber", number.as_str()), ("uploadId", id)]);
        let request = self.request(Method::PUT, headers).query(query);
        Ok(copied(self.estate.rooms.backend.send(request).await?).await?.1)
    }
}

/// The head of the answer to a copy, or the completion of one, and the ETag in its document.
///
/// Errors: those that a store finds when it has already said 200 (S3's own way), too.
async fn copied(store: crate::backend::StoreResponse) -> Result<(HeaderMap, String)> {
    let gone = || Error::new(Code::NoSuchKey, "The object is gone.");
    let store = found(store).await?.ok_or_else(gone)?;
    let (head, document) = store.into_parts();
    let text = gather(document, ANSWER_MAX).await.map_err(body::Broken::Store)?;
    let CopyResult { etag, code, .. } = from_store(&text)?;
    match (code, etag) {
        (None, Some(etag)) => Ok((head.headers, etag)),
        (Some(code), _) => {
            let known = Code::from_store(&code).unwrap_or(Code::InternalError);
            Err(Error::new(known, format!("The store did not copy the object: {code}.")))
        }
        (None, None) => Err(Error::new(Code::InternalError, "The store's answer can't be read.")),
    }
}
