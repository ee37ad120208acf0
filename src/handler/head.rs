//! HeadObject: the plaintext's size, the client's metadata.
//!
//! Source: Amazon S3 API Reference, HeadObject.

use http::{Method, StatusCode};

use super::get::{self, wants_checksum};
use super::wish::Wish;
use super::{Answer, Rooms, composite, open};
use crate::backend::StoreResponse;
use crate::body;
use crate::operation::Call;
use crate::policy::Read;
use crate::response;
use crate::s3::Result;
use crate::seal::PlainRange;

pub(super) async fn head_object(rooms: &Rooms, call: &Call, read: Read) -> Result<Answer> {
    let wish = Wish::of(call)?;
    // A sealed object is looked at whole: a range of it is arithmetic, and its parts are not the store's.
    let part = matches!(wish, Wish::Part(_));
    let asked = if read.expects_sealed() || part { Wish::Whole } else { wish };
    let store = rooms.backend.send(get::request(call, Method::HEAD, asked)).await?;
    if !store.status().is_success() {
        return Ok(answer(store));
    }
    let Some(sealed) = open::envelope(rooms, call, store.headers()).await? else {
        open::plain(read, call)?;
        if asked == wish {
            return Ok(answer(store));
        }
        return Ok(answer(rooms.backend.send(get::request(call, Method::HEAD, wish)).await?));
    };
    let mut headers = get::sealed_headers(store.headers(), &sealed);
    if let Some(known) = &sealed.composite {
        let range = wish.resolve_parts(&known.manifest)?;
        wish.describe(&mut headers, range, sealed.length);
        composite::describe(&mut headers, call, wish, range, &known.manifest);
        return Ok(get::answer(wish.status(range), headers, body::empty()));
    }
    let range = wish.resolve(sealed.length)?;
    wish.describe(&mut headers, range, sealed.length);
    if range == PlainRange::whole(sealed.length) && wants_checksum(call.headers()) {
        let sum = get::trailer_sum(rooms, call, store.headers(), &sealed).await?;
        response::add_checksum(&mut headers, &sum);
    }
    Ok(get::answer(wish.status(range), headers, body::empty()))
}

/// The store's answer to a HEAD, which has no body whatever its Content-Length says.
pub(super) fn answer(store: StoreResponse) -> Answer {
    let (parts, _) = store.into_parts();
    let headers = match parts.status {
        StatusCode::NOT_MODIFIED => response::not_modified(&parts.headers),
        _ => response::forwarded(&parts.headers),
    };
    get::answer(parts.status, headers, body::empty())
}
