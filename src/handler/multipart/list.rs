//! ListParts: what the store has and what is kept aside, with plaintext sizes, and no trace of the manifest.
//!
//! Source: Amazon S3 API Reference, ListParts.

use std::collections::HashMap;

use http::{Method, StatusCode};

use super::super::{Answer, Rooms, forward, get, sealing};
use super::{MANIFEST, no_such_upload, upload_id};
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::{self, gather};
use crate::operation::Call;
use crate::response;
use crate::s3::multipart::{ListedPart, PartList, from_store, to_xml};
use crate::s3::{Code, Error, Query, Result};
use crate::seal::{self, SealedLen};

/// A page of 1,000 parts.
const PAGE_MAX: usize = 4 * 1024 * 1024;

/// The parts that the store has of an upload, by number, in sealed bytes, without the manifest's. Most stores have one of
/// a number, the last; SeaweedFS has each that was ever sent: it is the one that fits, if there is one.
pub(super) async fn stored_parts(
    rooms: &Rooms,
    call: &Call,
    fits: impl Fn(&ListedPart) -> bool,
) -> Result<HashMap<u32, ListedPart>> {
    let (mut parts, mut marker) = (HashMap::new(), 0);
    loop {
        let (page, _) = match page(rooms, call, marker, 1000).await? {
            Ok(page) => page,
            Err(answer) if answer.status() == StatusCode::NOT_FOUND => return Err(no_such_upload()),
            Err(answer) => {
                return Err(Error::new(Code::ServiceUnavailable, "The store can't list the upload's parts.")
                    .retry_after(2)
                    .caused_by(format!("the store answered {}", answer.status())));
            }
        };
        let last = page.parts.last().map(|part| part.part_number);
        for part in page.parts.into_iter().filter(|part| part.part_number < MANIFEST) {
            if fits(&part) || !parts.contains_key(&part.part_number) {
                parts.insert(part.part_number, part);
            }
        }
        // It ends at S3's last number, whatever the store says.
        let next = page.next_part_number_marker.or(last).filter(|next| (marker + 1..MANIFEST).contains(next));
        marker = match next.filter(|_| page.is_truncated) {
            Some(next) => next,
            None => return Ok(parts),
        };
    }
}

pub(super) async fn list_parts(rooms: &Rooms, call: &Call) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    let id = upload_id(call)?;
    let number = |name: &str, most: u32| -> Result<Option<u32>> {
        let Some(text) = call.query().only(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.parse::<u32>().map_err(|_| {
            Error::new(
                Code::InvalidArgument,
                format!("Provided {name} not an integer or within integer range"),
            )
        })?;
        Ok(Some(number.min(most)))
    };
    let marker = number("part-number-marker", u32::MAX)?.unwrap_or(0);
    let most = number("max-parts", 1000)?.unwrap_or(1000);
    // One more than is shown, so that the manifest's part does not shorten the page.
    let (mut page, headers) = match page(rooms, call, marker, most.min(999) + 1).await? {
        Ok(page) => page,
        Err(answer) => return Ok(answer),
    };
    let mut truncated = page.is_truncated;
    let record = rooms.uploads.find(rooms, call.who(), (bucket, key), id, false).await?;
    let mut parts: HashMap<u32, ListedPart> = HashMap::new();
    let listed = match page.parts.is_empty() && marker > 0 {
        // MinIO finds nothing behind a number of which it has no part: one that is kept aside, or that nobody sent.
        true => stored_parts(rooms, call, |_| false).await?.into_values().collect(),
        false => page.parts,
    };
    for part in listed.into_iter().filter(|part| part.part_number > marker) {
        later(&mut parts, part);
    }
    let end = if truncated { parts.keys().max().copied().unwrap_or(u32::MAX) } else { u32::MAX };
    for (number, object) in rooms.uploads.list_staged(rooms, call.who(), (bucket, key), id).await? {
        let part_number = u32::from(number.get());
        if part_number > marker && part_number <= end {
            let (last_modified, etag, size) = (object.last_modified, object.etag, object.size);
            later(&mut parts, ListedPart { part_number, last_modified, etag, size });
        }
    }
    let mut parts: Vec<ListedPart> = parts.into_values().filter(|part| part.part_number < MANIFEST).collect();
    parts.sort_by_key(|part| part.part_number);
    if parts.len() > most as usize {
        parts.truncate(most as usize);
        truncated = true;
    }
    for part in &mut parts {
        part.size = SealedLen::new(part.size).part().ok_or(seal::Error::Tampered)?.get();
    }
    (page.bucket, page.key) = (bucket.as_str().to_owned(), key.as_str().to_owned());
    (page.upload_id, page.part_number_marker, page.max_parts) = (id.to_owned(), marker, most);
    (page.checksum_algorithm, page.checksum_type) = record.checksum_names();
    page.next_part_number_marker = parts.last().map(|part| part.part_number).or(Some(marker));
    page.is_truncated = truncated && !parts.is_empty();
    page.parts = parts;

    let envelope = record.envelope()?;
    let headers = response::for_sealed(&headers, &sealing::shown(envelope.header(), call.customer_key()));
    Ok(get::document(headers, to_xml(&page)))
}

/// A number that was sent twice: the later one is the part. S3's times compare as text.
fn later(parts: &mut HashMap<u32, ListedPart>, part: ListedPart) {
    let older = parts.get(&part.part_number).is_some_and(|other| other.last_modified > part.last_modified);
    if !older {
        parts.insert(part.part_number, part);
    }
}

type Page = (PartList, http::HeaderMap);

/// A page of the store's list; what the store answers instead.
async fn page(
    rooms: &Rooms,
    call: &Call,
    marker: u32,
    most: u32,
) -> Result<std::result::Result<Page, Answer>> {
    let (bucket, key) = call.object()?;
    let (marker, most) = (marker.to_string(), most.to_string());
    let pairs = [("uploadId", upload_id(call)?), ("part-number-marker", &marker), ("max-parts", &most)];
    let request =
        StoreRequest::new(Method::GET, Some(bucket), Some(key), StoreHeaders::default(), call.who())
            .query(Query::from_pairs(pairs));
    let store = rooms.backend.send(request).await?;
    if store.status() != StatusCode::OK {
        return Ok(Err(forward::answer(store)));
    }
    let (parts, store_body) = store.into_parts();
    let text = gather(store_body, PAGE_MAX).await.map_err(body::Broken::Store)?;
    Ok(Ok((from_store(&text)?, parts.headers)))
}
