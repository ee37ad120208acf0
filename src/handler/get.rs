//! GetObject: the range is mapped to chunks before the object is known, then a `match` on what came.
//!
//! Source: Amazon S3 API Reference, GetObject; RFC 9110, section 14.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::composite::get_composite;
use super::open::{self, Sealed};
use super::target::{Target, replaced};
use super::wish::Wish;
use super::{Answer, Rooms, forward, head};
use crate::backend::{StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, ByteBody, Opening};
use crate::operation::Call;
use crate::policy::{Forward, Read};
use crate::response;
use crate::s3::checksum::Checksum;
use crate::s3::range::RangeSpec;
use crate::s3::{Code, Error, Result};
use crate::seal::{self, MAGIC_LEN, PlainRange, SealedRange, is_magic};

/// Parameters that go on with a read. Others are not passed on.
const PARAMETERS: [&str; 7] = [
    "versionId",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

pub(super) async fn get_object(rooms: &Rooms, call: &Call, read: Read) -> Result<Answer> {
    let wish = Wish::of(call)?;
    let known = rooms.manifests.guess(call, wish);
    let guess = match known {
        Some(range) => Wish::Range(range),
        // Where a part begins is not known yet, and all of the object may be much.
        None if read.expects_sealed() && matches!(wish, Wish::Part(2..)) => {
            return Box::pin(look_first(rooms, call, read, wish)).await;
        }
        None if read.expects_sealed() => wish.sealed_guess(),
        None => wish,
    };
    let store = rooms.backend.send(request(call, Method::GET, guess)).await?;
    match store.status() {
        status if status.is_success() => {}
        // The store has nothing where the guess looked: with a sealed object that is so, a plain one is asked again.
        StatusCode::RANGE_NOT_SATISFIABLE if guess != Wish::Whole => {
            return Box::pin(look_first(rooms, call, read, wish)).await;
        }
        StatusCode::NOT_MODIFIED => return Ok(head::answer(store)),
        _ => return Ok(forward::answer(store)),
    }
    if let Some(sealed) = open::envelope(rooms, call, store.headers()).await? {
        // A store that sends all of it found that If-Range does not hold.
        let wish = if store.status() == StatusCode::PARTIAL_CONTENT { wish } else { wish.without_range() };
        return match sealed.composite.clone() {
            Some(known) => Box::pin(get_composite(rooms, call, wish, sealed, known, store)).await,
            None => sealed_object(rooms, call, wish, sealed, store).await,
        };
    }
    let leave = open::plain(read, call)?;
    if guess == wish || (store.status() == StatusCode::OK && !matches!(wish, Wish::Part(_))) {
        return plain_object(rooms, store, leave).await;
    }
    let (parts, _) = store.into_parts();
    Box::pin(plain_range(rooms, call, wish, &parts.headers, leave)).await
}

/// A read of the object: the client's conditions and parameters, and what to read of it.
pub(super) fn request(call: &Call, method: Method, wish: Wish) -> StoreRequest {
    // Of a call on sealed objects all that speaks of encryption has gone already.
    let mut headers = StoreHeaders::with_encryption(call.headers());
    let mut query = call.query().pick(&PARAMETERS);
    match wish {
        Wish::Range(range) => headers.set(header::RANGE, range.to_header()),
        Wish::Whole | Wish::Part(_) => {
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
    }
    if let Wish::Part(number) = wish {
        query.push("partNumber", number.to_string());
    }
    StoreRequest::new(method, call.bucket(), call.key(), headers, call.who()).query(query)
}

/// The store's error where a HEAD failed: the answer to that has no document, so a GET of one byte asks for it.
pub(super) async fn refusal(rooms: &Rooms, call: &Call) -> Result<Answer> {
    let one = Wish::Range(RangeSpec::FromTo(0, 0));
    let store = rooms.backend.send(request(call, Method::GET, one)).await?;
    match store.status().is_success() {
        true => Err(replaced()),
        false => Ok(forward::answer(store)),
    }
}

async fn sealed_object(
    rooms: &Rooms,
    call: &Call,
    wish: Wish,
    sealed: Sealed,
    mut store: StoreResponse,
) -> Result<Answer> {
    let total = sealed.length;
    let range = wish.resolve(total)?;
    let whole = range == PlainRange::whole(total);
    let wanted = match SealedRange::whole(total.sealed()) {
        Some(all) if whole && sealed.received == all => all,
        _ => range.chunks().sealed(total),
    };
    let with_trailer = wanted.end() == total.sealed().get();
    // Of the first answer: a second one knows nothing of response-content-type and the like.
    let mut headers = sealed_headers(store.headers(), &sealed);
    wish.describe(&mut headers, range, total);
    let status = wish.status(range);
    let mut received = sealed.received;
    if received.skip_to(wanted).is_err() {
        // The guess was made for a plain object.
        let met = store.headers().clone();
        store = Box::pin(Target::of(call)?.again(rooms, &met, wanted)).await?;
        received = open::received(store.headers())?.0;
    }
    let skip = received.skip_to(wanted)?;

    let checksum_wanted = whole && wants_checksum(call.headers());
    let etag = store.headers().clone();
    let sealed_trailer = match checksum_wanted && !(with_trailer && total.chunks() == 1) {
        true => Some(Box::pin(trailer_sum(rooms, call, &etag, &sealed)).await?),
        false => None,
    };
    let opener = sealed.opened.into_opener(range)?;
    let mut opening = Opening::new(store.into_body(), opener, skip, with_trailer, rooms.metrics.opening());
    // The first chunk is opened before the head goes out: most damage is then a clear error, not a cut stream.
    opening.prime().await?;
    let sum = sealed_trailer.or_else(|| opening.trailer().map(body::checksum_of));
    if let Some(sum) = sum.filter(|_| checksum_wanted) {
        response::add_checksum(&mut headers, &sum);
    }
    Ok(answer(status, headers, opening.into_body()))
}

/// The headers of a sealed object, without those of a range.
pub(super) fn sealed_headers(stored: &HeaderMap, sealed: &Sealed) -> HeaderMap {
    let mut headers = response::for_sealed(stored, &sealed.encryption);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers
}

/// Whether the client asks for the object's checksum.
pub(super) fn wants_checksum(client: &HeaderMap) -> bool {
    client.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"))
}

/// The checksum that the trailer holds, by a request of its own.
pub(super) async fn trailer_sum(
    rooms: &Rooms,
    call: &Call,
    met: &HeaderMap,
    sealed: &Sealed,
) -> Result<Checksum> {
    let bytes = Target::of(call)?.bytes(rooms, met, SealedRange::trailer(sealed.length)).await?;
    Ok(body::checksum_of(&sealed.opened.open_trailer(&bytes)?))
}

/// A read that begins with a HEAD, where a guess can't be made or did not do.
async fn look_first(rooms: &Rooms, call: &Call, read: Read, wish: Wish) -> Result<Answer> {
    let store = rooms.backend.send(request(call, Method::HEAD, Wish::Whole)).await?;
    if !store.status().is_success() {
        return refusal(rooms, call).await;
    }
    let (parts, _) = store.into_parts();
    if let Some(sealed) = open::envelope(rooms, call, &parts.headers).await? {
        let wanted = match &sealed.composite {
            Some(known) => {
                let range = wish.resolve_parts(&known.manifest)?;
                known.manifest.locate(range).ok_or(seal::Error::Tampered)?.sealed
            }
            None => wish.resolve(sealed.length)?.chunks().sealed(sealed.length),
        };
        let store = Target::of(call)?.again(rooms, &parts.headers, wanted).await?;
        let sealed = Sealed { received: open::received(store.headers())?.0, ..sealed };
        let store = StoreResponse::from_parts(parts, store.into_body());
        return match sealed.composite.clone() {
            Some(known) => Box::pin(get_composite(rooms, call, wish, sealed, known, store)).await,
            None => sealed_object(rooms, call, wish, sealed, store).await,
        };
    }
    plain_range(rooms, call, wish, &parts.headers, open::plain(read, call)?).await
}

/// A plain object from its first byte, unless that says that it is a sealed one without its envelope.
async fn plain_object(rooms: &Rooms, store: StoreResponse, _leave: Forward) -> Result<Answer> {
    let (parts, body) = store.into_parts();
    // An answer with all of it may come without a length.
    let begins = parts.status != StatusCode::PARTIAL_CONTENT
        || open::received(&parts.headers).is_ok_and(|(received, _)| received.start() == 0);
    let body = match begins {
        true => {
            let (first, body) = body::peek(body, MAGIC_LEN as usize).await.map_err(body::Broken::Store)?;
            refuse_magic(&first)?;
            body
        }
        false => body,
    };
    rooms.metrics.plaintext_reads.inc();
    Ok(answer(parts.status, response::forwarded(&parts.headers), body))
}

/// A range or a part of a plain object where a sealed one was expected. Its first bytes are looked at beside it.
async fn plain_range(
    rooms: &Rooms,
    call: &Call,
    wish: Wish,
    met: &HeaderMap,
    leave: Forward,
) -> Result<Answer> {
    if wish == Wish::Whole {
        return Err(Error::new(Code::InternalError, "A whole read was answered by a range."));
    }
    let mut client = request(call, Method::GET, wish);
    client.headers.remove(header::IF_RANGE);
    let client = async { rooms.backend.send(client).await.map_err(Error::from) };
    let first = async {
        match open::received(met) {
            // No sealed object has this size, or none at all.
            Ok((_, total)) if total.layout().is_none() => Ok(()),
            _ if met.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0") => Ok(()),
            _ => {
                let head = SealedRange::new(0, MAGIC_LEN).expect("the magic has bytes");
                let store = Target::of(call)?.again(rooms, met, head).await?;
                let (first, _) =
                    body::peek(store.into_body(), MAGIC_LEN as usize).await.map_err(body::Broken::Store)?;
                refuse_magic(&first)
            }
        }
    };
    let (store, ()) = futures_util::future::try_join(client, first).await?;
    match store.status().is_success() {
        true => plain_object(rooms, store, leave).await,
        false => Ok(forward::answer(store)),
    }
}

pub(super) fn refuse_magic(first: &[u8]) -> Result<()> {
    if !is_magic(first) {
        return Ok(());
    }
    Err(Error::new(
        Code::ObjectIntegrityError,
        "The object is sealed, but its envelope is gone: its metadata was lost or stripped, perhaps by a copy past \
         s3veil. Restore the metadata header x-amz-meta-s3veil from a good copy.",
    ))
}

pub(super) fn answer(status: StatusCode, headers: HeaderMap, body: ByteBody) -> Answer {
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// A 200 with a document of s3veil's own making.
pub(super) fn document(mut headers: HeaderMap, xml: impl Into<bytes::Bytes>) -> Answer {
    let xml = xml.into();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(xml.len()));
    answer(StatusCode::OK, headers, body::full(xml))
}
