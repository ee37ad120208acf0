//! CopyObject: a sealed body never travels. Its key is sealed for the new place, and the store copies the body.
//!
//! Between a place that seals and one that does not, the plaintext streams through s3veil: a GET, and a PUT of what it
//! gives. Source: Amazon S3 API Reference, CopyObject.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::open::Sealed;
use super::target::{self, Target as Place};
use super::{Answer, Rooms, forward, get, open, put, sealing};
use crate::auth::Payload;
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, ByteBody, Checked, SealedBody, gather};
use crate::operation::{Call, Operation};
use crate::policy::{Copied, Target, Write};
use crate::response;
use crate::s3::encryption;
use crate::s3::{Code, Error, Result, copy, headers, xml};
use crate::seal::{Layout, PlainLen};

/// Metadata of an object that a copy keeps, beside `x-amz-meta-*`.
pub(super) const KEPT: [HeaderName; 6] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::EXPIRES,
];

const ANSWER_MAX: usize = 64 * 1024;

pub(super) async fn copy_object(rooms: &Rooms, call: Call, copied: Copied) -> Result<Answer> {
    let replaced = Replaced::of(call.headers())?;
    illegal_on_itself(&call, &copied, replaced)?;
    let source = call.reading(copied.source(), Operation::HeadObject, reading_headers(&call, &copied))?;
    let store = rooms.backend.send(get::request(&source, Method::HEAD, super::wish::Wish::Whole)).await?;
    match store.status() {
        StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED => return Err(failed()),
        status if !status.is_success() => return get::refusal(rooms, &source).await,
        _ => {}
    }
    let stored = store.headers();
    let sealed = open::envelope(rooms, &source, stored).await?;
    match (sealed, copied.target()) {
        (Some(sealed), Target::Sealed(write)) => {
            in_the_store(rooms, &call, &copied, replaced, sealed, write, stored).await
        }
        (None, Target::Plain(_)) => {
            open::plain(copied.read(), &source)?;
            // As it came, with the source written as it was understood.
            let mut headers = StoreHeaders::with_encryption(call.headers());
            from_source(&mut headers, &copied, stored);
            let request = StoreRequest::new(Method::PUT, call.bucket(), call.key(), headers, call.who());
            Ok(forward::answer(send(rooms, &call, request).await?))
        }
        (_, target) => through(rooms, &call, &copied, replaced, target, stored).await,
    }
}

/// Names the very object that was looked at: what the look found is true of no other.
fn from_source(headers: &mut StoreHeaders, copied: &Copied, stored: &HeaderMap) {
    strip_conditions(headers);
    headers.set(HeaderName::from_static("x-amz-copy-source"), copied.source().to_header());
    if let Some(etag) = stored.get(header::ETAG) {
        headers.set(HeaderName::from_static("x-amz-copy-source-if-match"), etag.clone());
    }
}

/// Has the store copy.
///
/// Errors: ServiceUnavailable if the source is another object by now.
async fn send(rooms: &Rooms, call: &Call, request: StoreRequest) -> Result<StoreResponse> {
    let store = rooms.backend.send(request).await?;
    let of_target =
        [header::IF_MATCH, header::IF_NONE_MATCH].iter().any(|name| call.headers().contains_key(name));
    match store.status() == StatusCode::PRECONDITION_FAILED && !of_target {
        true => Err(target::replaced()),
        false => Ok(store),
    }
}

/// A copy within the store, with an envelope for the new place.
async fn in_the_store(
    rooms: &Rooms,
    call: &Call,
    copied: &Copied,
    replaced: Replaced,
    sealed: Sealed,
    write: &Write,
    stored: &HeaderMap,
) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    let envelope =
        sealing::rewrapped(rooms, write, (bucket, key), &sealed.opened, sealed.length.get()).await?;

    let mut store_headers = StoreHeaders::for_object(call.headers());
    describe(&mut store_headers, call.headers(), replaced, &response::forwarded(stored));
    from_source(&mut store_headers, copied, stored);
    let replace = HeaderValue::from_static("REPLACE");
    store_headers.set(HeaderName::from_static("x-amz-metadata-directive"), replace.clone());
    // Where metadata is replaced, RGW forgets the source's tags, and MinIO takes those of a client that did not ask for it.
    if tags(rooms, call, copied, replaced, stored, &mut store_headers).await? {
        store_headers.set(HeaderName::from_static("x-amz-tagging-directive"), replace);
    }
    store_headers.set_envelope(&envelope, write.context())?;
    let request = StoreRequest::new(Method::PUT, Some(bucket), Some(key), store_headers, call.who());
    let store = send(rooms, call, request).await?;
    if !store.status().is_success() {
        return Ok(forward::answer(store));
    }
    let (parts, store_body) = store.into_parts();
    let text = gather(store_body, ANSWER_MAX).await.map_err(body::Broken::Store)?;
    let result: CopyResult = crate::s3::multipart::from_store(&text)?;
    let headers = response::for_sealed(&parts.headers, &sealing::written(write));
    Ok(match (result.code, result.etag) {
        // A store may find an error when it has already said 200 (S3's own way).
        (Some(_), _) => get::document(headers, text),
        (None, Some(etag)) => {
            get::document(headers, xml::copy_result("CopyObjectResult", &etag, &result.last_modified))
        }
        (None, None) => return Err(Error::new(Code::InternalError, "The store's answer can't be read.")),
    })
}

/// A copy whose plaintext streams through.
async fn through(
    rooms: &Rooms,
    call: &Call,
    copied: &Copied,
    replaced: Replaced,
    target: &Target,
    stored: &HeaderMap,
) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    let mut conditions = reading_headers(call, copied);
    if let Some(etag) = stored.get(header::ETAG) {
        conditions.insert(header::IF_MATCH, etag.clone());
    }
    let reading = call.reading(copied.source(), Operation::GetObject, conditions)?;
    let answer = get::get_object(rooms, &reading, copied.read()).await?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::PRECONDITION_FAILED => return Err(target::replaced()),
        _ => return Ok(answer),
    }
    let (parts, plain) = answer.into_parts();
    let length = length(&parts.headers)?;
    let mut store_headers = StoreHeaders::for_object(call.headers());
    describe(&mut store_headers, call.headers(), replaced, &parts.headers);
    tags(rooms, call, copied, replaced, stored, &mut store_headers).await?;
    strip_source(&mut store_headers);
    let checked = checked(rooms, plain, length)?;
    let outcome = checked.outcome();
    let put = |headers, body| {
        StoreRequest::new(Method::PUT, Some(bucket), Some(key), headers, call.who()).body(body)
    };
    let answer = match target {
        Target::Plain(leave) => {
            keep_encryption(&mut store_headers, call);
            let store = rooms.backend.send(put(store_headers, StoreBody::plain(checked, *leave))).await;
            if outcome.take_failure().is_some() {
                return Err(broke_off());
            }
            forward::refusal(store?).await?
        }
        Target::Part => return Err(Error::new(Code::InternalError, "A part is no copy of an object.")),
        Target::Sealed(write) => {
            let length = PlainLen::new(length).filter(|length| length.sealed().get() <= put::MAX_PUT);
            let length = length.ok_or_else(too_large)?;
            let (envelope, fresh) =
                sealing::fresh_envelope(rooms, write, (bucket, key), Layout::Stream(length), length.get())
                    .await?;
            store_headers.set_envelope(&envelope, write.context())?;
            let body =
                StoreBody::sealed(SealedBody::new(checked, fresh.into_sealer()?, rooms.metrics.sealing()));
            put::send_sealed(rooms, put(store_headers, body), outcome, &sealing::written(write))
                .await
                .map_err(source)?
        }
    };
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    let xml = xml::copy_result("CopyObjectResult", etag, &xml::now());
    let mut headers = answer.headers().clone();
    headers.remove(header::ETAG);
    Ok(get::document(headers, xml))
}

/// The source as a body that is checked for its length.
pub(super) fn checked(rooms: &Rooms, plain: ByteBody, length: u64) -> Result<Checked> {
    Checked::new(plain, Payload::of_length(length), rooms.client_idle)
}

/// The length of an answer that has been opened.
pub(super) fn length(headers: &HeaderMap) -> Result<u64> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.ok_or_else(|| Error::new(Code::InternalError, "The source has no length."))
}

/// The copy's metadata: the source's, or the client's where it says so.
fn describe(headers: &mut StoreHeaders, client: &HeaderMap, replaced: Replaced, source: &HeaderMap) {
    if replaced.metadata {
        return;
    }
    let described = |name: &HeaderName| KEPT.contains(name) || name.as_str().starts_with("x-amz-meta-");
    for name in client.keys().filter(|name| described(name)) {
        headers.remove(name);
    }
    for (name, value) in source
        .iter()
        .filter(|(name, _)| described(name) && ![headers::ENVELOPE, headers::CONTEXT].contains(name))
    {
        headers.set(name.clone(), value.clone());
    }
}

/// The source's tags, unless the client has others. True if there are any.
async fn tags(
    rooms: &Rooms,
    call: &Call,
    copied: &Copied,
    replaced: Replaced,
    stored: &HeaderMap,
    headers: &mut StoreHeaders,
) -> Result<bool> {
    if replaced.tags {
        return Ok(false);
    }
    headers.remove("x-amz-tagging");
    if stored.get("x-amz-tagging-count").is_none_or(|count| count == "0") {
        return Ok(false);
    }
    let source = copied.source();
    let place = Place {
        bucket: &source.bucket,
        key: &source.key,
        version: source.version.as_deref(),
        who: call.who(),
        customer: None,
    };
    let mut request = place.request(Method::GET);
    request.query.push("tagging", "");
    let store = rooms.backend.send(request).await?;
    let found = store.status() == StatusCode::OK;
    let text = gather(store.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
    if !found {
        return Err(Error::new(Code::ServiceUnavailable, "The source's tags can't be read.").retry_after(1));
    }
    let value = xml::tags_as_query(&text)?;
    let value = HeaderValue::from_str(&value).expect("what is percent-encoded is a header value");
    headers.set(HeaderName::from_static("x-amz-tagging"), value);
    Ok(true)
}

/// The headers of a read of the source: the copy's conditions, and the client's key where it is the store that seals with
/// it.
pub(super) fn reading_headers(call: &Call, copied: &Copied) -> HeaderMap {
    let mut headers = copy::conditions(call.headers());
    if copied.read().expects_sealed() {
        headers::remove_all(&mut headers, encryption::is_encryption);
    }
    headers
}

/// The encryption that the client asks for is the store's own where nothing is sealed.
pub(super) fn keep_encryption(headers: &mut StoreHeaders, call: &Call) {
    let sse = |name: &HeaderName| name.as_str().starts_with("x-amz-server-side-encryption");
    for (name, value) in call.headers().iter().filter(|(name, _)| sse(name)) {
        headers.set(name.clone(), value.clone());
    }
}

/// Leaves nothing that speaks of a source: what goes to the store is a body.
pub(super) fn strip_source(headers: &mut StoreHeaders) {
    let of_source =
        ["x-amz-copy-source", "x-amz-source-", "x-amz-metadata-directive", "x-amz-tagging-directive"];
    headers.remove_all(|name| of_source.iter().any(|begins| name.starts_with(begins)));
}

fn strip_conditions(headers: &mut StoreHeaders) {
    headers.remove_all(|name| name.starts_with("x-amz-copy-source-if-"));
}

/// S3 refuses a copy that would change nothing.
fn illegal_on_itself(call: &Call, copied: &Copied, replaced: Replaced) -> Result<()> {
    let (bucket, key) = call.object()?;
    let source = copied.source();
    let itself = (&source.bucket, &source.key, &source.version) == (bucket, key, &None);
    let changes = replaced.metadata
        || ["x-amz-storage-class", "x-amz-website-redirect-location"]
            .iter()
            .any(|name| call.headers().contains_key(*name))
        || call.headers().keys().any(|name| encryption::is_encryption(name.as_str()));
    match itself && !changes {
        false => Ok(()),
        true => Err(Error::new(
            Code::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
             metadata, storage class, website redirect location or encryption attributes.",
        )),
    }
}

/// What the client gives anew, where a copy would else keep the source's.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    metadata: bool,
    tags: bool,
}

impl Replaced {
    /// Reads the two directives.
    ///
    /// Errors: InvalidArgument for one that is neither COPY nor REPLACE.
    fn of(client: &HeaderMap) -> Result<Self> {
        let replace = |name: &str| match client.get(name).map(HeaderValue::as_bytes) {
            None | Some(b"COPY") => Ok(false),
            Some(b"REPLACE") => Ok(true),
            Some(_) => Err(Error::new(Code::InvalidArgument, format!("{name} must be COPY or REPLACE."))),
        };
        Ok(Self { metadata: replace("x-amz-metadata-directive")?, tags: replace("x-amz-tagging-directive")? })
    }
}

/// What the client is told when its source fails: not that its own body was short.
pub(super) fn source(error: Error) -> Error {
    if error.code() == Code::IncompleteBody { broke_off() } else { error }
}

pub(super) fn broke_off() -> Error {
    Error::new(Code::ServiceUnavailable, "The source of the copy broke off. Please try again.").retry_after(1)
}

fn failed() -> Error {
    Error::new(Code::PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

fn too_large() -> Error {
    Error::new(
        Code::InvalidRequest,
        "The specified copy source is larger than the maximum allowable size for a copy source: 5 GiB. Copy it by parts.",
    )
}

/// CopyObjectResult, or the error that a store has found when it had already said 200.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CopyResult {
    #[serde(rename = "ETag", default)]
    pub etag: Option<String>,
    #[serde(default)]
    last_modified: String,
    #[serde(default)]
    pub code: Option<String>,
}
