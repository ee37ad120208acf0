//! ListObjects, ListObjectsV2, ListObjectVersions: sizes rewritten while the XML streams by. ListMultipartUploads: the same
//! without sizes.
//!
//! Where every object is sealed a size is arithmetic. Where plain objects may stand beside sealed ones, an entry whose
//! size could be a sealed one is looked at (HEAD), a few at a time, and the answer kept by ETag.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use moka::sync::Cache;

use super::target::Target;
use super::{Answer, Rooms, open};
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::{self, BoxError, ByteBody};
use crate::operation::Call;
use crate::policy::{Listed, View};
use crate::response;
use crate::s3::rewrite::{Encoding, Entry, Kind, Segment, Splitter};
use crate::s3::{Bucket, Code, Error, Key, Result, headers};
use crate::seal::{Envelope, Layout, SealedLen};

/// How many entries of one listing are looked at side by side.
const LOOKS: usize = 32;

/// The longest version id and ETag, together, of an entry whose size is kept: the store writes them, and what the cache
/// holds is counted in entries.
const MAX_NAME: usize = 1024;

/// Parameters of the four operations. Others are not passed on: a store's extensions could show the envelope.
const PARAMETERS: [&str; 16] = [
    "list-type",
    "versions",
    "uploads",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "max-uploads",
    "encoding-type",
    "continuation-token",
    "fetch-owner",
    "start-after",
    "key-marker",
    "version-id-marker",
    "upload-id-marker",
    "allow-unordered",
];

/// Sizes found by a look: bucket, key, version → ETag, and plaintext bytes, or `None` for a plain object. What has been replaced
/// is not kept: its ETag is never listed again.
pub struct Sizes(Cache<Place, (String, Option<u64>)>);

type Place = (Bucket, String, Option<String>);

impl Sizes {
    /// A cache of so many entries.
    pub fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }
}

pub(super) async fn list(rooms: &std::sync::Arc<Rooms>, call: &Call, view: View) -> Result<Answer> {
    let encoding = encoding(call)?;
    let request = StoreRequest::new(
        Method::GET,
        call.bucket(),
        None,
        StoreHeaders::forwarded(call.headers()),
        call.who(),
    )
    .query(call.query().pick(&PARAMETERS));
    let store = rooms.backend.send(request).await?;
    if !store.status().is_success() {
        return Ok(super::forward::answer(store));
    }
    let (parts, body) = store.into_parts();
    let mut headers = response::forwarded(&parts.headers);
    headers.remove(header::CONTENT_LENGTH);
    let look = Look {
        rooms: rooms.clone(),
        view,
        bucket: call.bucket().expect("a listing names a bucket").clone(),
        who: call.who().clone(),
    };
    let mut reader = Reader::new(body, encoding);
    // What is no listing from its beginning on is a clear error, not a cut stream.
    reader.begin().await?;
    let mut answer = Answer::new(rewritten(reader, look));
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// How the keys of the listing will be written. In one reading only: a key that is read in another way than the store
/// wrote it would be judged by the wrong rule.
///
/// Errors: InvalidArgument for a method that S3 does not have.
fn encoding(call: &Call) -> Result<Encoding> {
    match call.query().only("encoding-type")? {
        None | Some("") => Ok(Encoding::None),
        // Some stores take it in capitals too.
        Some(method) if method.eq_ignore_ascii_case("url") => Ok(Encoding::Url),
        Some(_) => Err(Error::new(
            Code::InvalidArgument,
            "Invalid Encoding Method specified in Request. The only one is url.",
        )),
    }
}

/// The listing with its entries seen to, in order.
fn rewritten(reader: Reader, look: Look) -> ByteBody {
    let look = std::sync::Arc::new(look);
    let segments = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, BoxError>(reader.next().await?.map(|segment| (segment, reader)))
    });
    let pieces = segments
        .map_ok(move |segment| {
            let look = look.clone();
            async move {
                match segment {
                    Segment::Raw(bytes) => Ok(bytes),
                    Segment::Entry(entry) => look.entry(entry).await,
                }
            }
        })
        .try_buffered(LOOKS)
        .try_filter(|piece| std::future::ready(!piece.is_empty()))
        .map(|piece| piece.map(Frame::data));
    StreamBody::new(pieces).boxed_unsync()
}

/// Reads the store's XML as segments.
struct Reader {
    body: ByteBody,
    splitter: Option<Splitter>,
    ready: VecDeque<Segment>,
}

impl Reader {
    fn new(body: ByteBody, encoding: Encoding) -> Self {
        Self { body, splitter: Some(Splitter::new(encoding)), ready: VecDeque::new() }
    }

    /// Waits for the first segment, before which it is clear that this is a listing.
    ///
    /// Errors: ServiceUnavailable if the store broke off before it, InternalError if it sends something else.
    async fn begin(&mut self) -> Result<()> {
        let first = self.next().await.map_err(|why| match why.downcast::<Error>() {
            Ok(unreadable) => *unreadable,
            Err(why) => body::Broken::Store(why).into(),
        })?;
        if let Some(first) = first {
            self.ready.push_front(first);
        }
        Ok(())
    }

    async fn next(&mut self) -> std::result::Result<Option<Segment>, BoxError> {
        loop {
            if let Some(segment) = self.ready.pop_front() {
                return Ok(Some(segment));
            }
            let Some(splitter) = &mut self.splitter else { return Ok(None) };
            match self.body.frame().await {
                Some(frame) => self.ready.extend(splitter.push(&frame?.into_data().unwrap_or_default())?),
                None => self.ready.extend(self.splitter.take().expect("seen above").finish()?),
            }
        }
    }
}

/// What it takes to see to an entry.
struct Look {
    rooms: std::sync::Arc<Rooms>,
    view: View,
    bucket: Bucket,
    who: crate::auth::Who,
}

impl Look {
    /// The entry as the client gets it: hidden, with another size, or as it is.
    async fn entry(&self, entry: Entry) -> std::result::Result<Bytes, BoxError> {
        let listed = self.view.object(&entry.key);
        let size = match (listed, entry.kind, entry.size) {
            (_, Kind::CommonPrefix, _) if Key::parse(&entry.key).is_some_and(|key| key.is_reserved()) => {
                return Ok(Bytes::new());
            }
            (_, Kind::CommonPrefix, _) => None,
            (Listed::Hidden, ..) => return Ok(Bytes::new()),
            (_, Kind::DeleteMarker, _) | (Listed::Plain, ..) | (.., None) => None,
            (Listed::Sealed, _, Some(size)) => match SealedLen::new(size).layout() {
                Some(Layout::Composite) => self.by_look(&entry).await?,
                _ => by_arithmetic(size),
            },
            (Listed::Mixed, _, Some(size)) if SealedLen::new(size).layout().is_some() => {
                self.by_look(&entry).await?
            }
            (Listed::Mixed, ..) => None,
        };
        Ok(match size {
            Some(size) => entry.with_size(size),
            None => entry.into_bytes(),
        })
    }

    async fn by_look(&self, entry: &Entry) -> std::result::Result<Option<u64>, BoxError> {
        let etag = entry.etag.clone().unwrap_or_default();
        let place = (self.bucket.clone(), entry.key.clone(), entry.version_id.clone());
        if let Some((_, size)) = self.rooms.sizes.0.get(&place).filter(|(seen, _)| *seen == etag) {
            return Ok(size);
        }
        let Some(key) = Key::parse(&entry.key) else { return Ok(None) };
        let mut request = StoreRequest::new(
            Method::HEAD,
            Some(&self.bucket),
            Some(&key),
            StoreHeaders::default(),
            &self.who,
        );
        if let Some(version) = entry.version_id.as_deref() {
            request = request.query(crate::s3::query::Query::from_pairs([("versionId", version)]));
        }
        let store = self.rooms.backend.send(request).await?;
        if !store.status().is_success() {
            // Deleted meanwhile, or not readable: one odd object must not break a listing.
            return Ok(None);
        }
        let version = entry.version_id.as_deref();
        let target = Target { bucket: &self.bucket, key: &key, version, who: &self.who, customer: None };
        let size = self.length(target, store.headers()).await;
        let name = etag.len() + version.map_or(0, str::len);
        // The look may have met a newer object than the listing; then it says nothing of this ETag.
        if name <= MAX_NAME
            && store.headers().get(header::ETAG).map(HeaderValue::as_bytes).map(trimmed)
                == Some(trimmed(etag.as_bytes()))
        {
            self.rooms.sizes.0.insert(place, (etag, size));
        }
        Ok(size)
    }
}

impl Look {
    /// The plaintext length of a sealed object. What can't be opened (a locked EK, damage) is shown as the store has
    /// it: one odd object must not break a listing.
    async fn length(&self, target: Target<'_>, stored: &HeaderMap) -> Option<u64> {
        let envelope = Envelope::parse(stored.get(headers::ENVELOPE)?.to_str().ok()?).ok()?;
        match envelope.header().layout {
            // A listing is not authenticated in any way: a read is.
            Layout::Stream(length) => Some(length.get()),
            Layout::Composite => {
                let sealed = open::sealed(&self.rooms, target, stored).await;
                sealed.ok().flatten().map(|sealed| sealed.length.get())
            }
        }
    }
}

/// The plaintext length of a sealed stream of this size.
fn by_arithmetic(size: u64) -> Option<u64> {
    match SealedLen::new(size).layout() {
        Some(Layout::Stream(length)) => Some(length.get()),
        Some(Layout::Composite) | None => None,
    }
}

fn trimmed(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"\"").and_then(|etag| etag.strip_suffix(b"\"")).unwrap_or(etag)
}
