//! GetObjectAttributes: answered from a HEAD, since a store knows size and checksum of the sealed bytes only.
//!
//! Source: Amazon S3 API Reference, GetObjectAttributes.

use http::HeaderMap;
use http::Method;

use super::multipart::of_manifest;
use super::{Answer, Rooms, get, open};
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::sum_of;
use crate::operation::Call;
use crate::policy::Read;
use crate::s3::xml::{self, ObjectAttributes, PartsPage};
use crate::s3::{Code, Error, Result};
use crate::seal::Manifest;

pub(super) async fn get_object_attributes(rooms: &Rooms, call: &Call, read: Read) -> Result<Answer> {
    let (wanted, page) = (wanted(call.headers())?, page(call.headers())?);
    let store = rooms.backend.send(get::request(call, Method::HEAD, super::wish::Wish::Whole)).await?;
    if !store.status().is_success() {
        return get::refusal(rooms, call).await;
    }
    let Some(sealed) = open::envelope(rooms, call, store.headers()).await? else {
        open::plain(read, call)?;
        let headers = StoreHeaders::with_encryption(call.headers());
        let request = StoreRequest::new(Method::GET, call.bucket(), call.key(), headers, call.who())
            .query(call.query().pick(&["attributes", "versionId"]));
        return Ok(super::forward::answer(rooms.backend.send(request).await?));
    };
    let stored = store.headers();
    let text = |name: &str| stored.get(name).and_then(|value| value.to_str().ok());
    let has = |name: &str| wanted.iter().any(|attribute| attribute == name);
    let checksum = match &sealed.composite {
        _ if !has("Checksum") => None,
        // Without the number of parts behind it, which stands beside it here.
        Some(known) => known.manifest.checksum().and_then(|sum| {
            let (algorithm, value, kind) = of_manifest(sum, known.manifest.parts().len())?;
            Some((algorithm, value.split('-').next()?.to_owned(), kind))
        }),
        None => {
            let sum = get::trailer_sum(rooms, call, stored, &sealed).await?;
            Some((sum.algorithm(), sum.to_base64(), "FULL_OBJECT"))
        }
    };
    let composite = sealed.composite.as_ref().filter(|_| has("ObjectParts"));
    let parts = composite.map(|known| parts(&known.manifest, page));
    let document = xml::object_attributes(&ObjectAttributes {
        etag: text("etag").filter(|_| has("ETag")).map(|etag| etag.trim_matches('"')),
        checksum,
        parts,
        storage_class: has("StorageClass").then(|| text("x-amz-storage-class").unwrap_or("STANDARD")),
        object_size: has("ObjectSize").then_some(sealed.length.get()),
    });
    let mut headers = HeaderMap::new();
    for name in ["last-modified", "x-amz-version-id", "x-amz-delete-marker", "x-amz-request-id", "x-amz-id-2"]
    {
        if let Some(value) = stored.get(name) {
            headers.insert(name, value.clone());
        }
    }
    Ok(get::document(headers, document))
}

/// Which parts the client wants: how many at most, and behind which number.
///
/// Errors: InvalidArgument for what is no number, whether there are parts or not.
fn page(client: &HeaderMap) -> Result<(u32, u32)> {
    let number = |name: &'static str, without: u32| -> Result<u32> {
        let Some(value) = client.get(name) else { return Ok(without) };
        let number = value.to_str().ok().and_then(|value| value.parse().ok());
        number
            .ok_or_else(|| Error::new(Code::InvalidArgument, format!("{name} is not a number. Correct it.")))
    };
    Ok((number("x-amz-max-parts", 1000)?.min(1000), number("x-amz-part-number-marker", 0)?))
}

/// A page of the parts.
fn parts(manifest: &Manifest, (max, marker): (u32, u32)) -> PartsPage {
    let algorithm = manifest.checksum().map(|sum| sum.algorithm);
    let mut left = manifest.parts().iter().filter(|part| u32::from(part.number.get()) > marker);
    let shown = left.by_ref().take(max as usize).map(|part| {
        let sum =
            algorithm.zip(part.checksum.as_deref()).and_then(|(algorithm, value)| sum_of(algorithm, value));
        let sum = sum.map(|sum| (sum.algorithm(), sum.to_base64()));
        (u32::from(part.number.get()), part.length.get(), sum)
    });
    let parts = shown.collect();
    let (total, truncated) = (manifest.parts().len(), left.next().is_some());
    PartsPage { total, marker, max: max as usize, truncated, parts }
}

/// The attributes that the client wants.
///
/// Errors: InvalidArgument where it names none, or one that S3 does not have.
fn wanted(client: &HeaderMap) -> Result<Vec<String>> {
    let known = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
    let values = client.get_all("x-amz-object-attributes").iter();
    let named: Vec<String> = values
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if named.is_empty() || named.iter().any(|name| !known.contains(&name.as_str())) {
        return Err(Error::new(
            Code::InvalidArgument,
            format!("Invalid attribute name specified. x-amz-object-attributes takes: {}.", known.join(", ")),
        ));
    }
    Ok(named)
}
