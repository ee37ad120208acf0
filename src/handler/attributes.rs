//! GetObjectAttributes: answered from a HEAD, since a store knows size and checksum of the sealed bytes only.
//!
//! Source: Amazon S3 API Reference, GetObjectAttributes.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::{Answer, Rooms, get, open};
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body;
use crate::operation::Call;
use crate::policy::Read;
use crate::s3::xml::{self, ObjectAttributes};
use crate::s3::{Code, Error, Result};

pub(super) async fn get_object_attributes(rooms: &Rooms, call: &Call, read: Read) -> Result<Answer> {
    let wanted = wanted(call.headers())?;
    let store = rooms.backend.send(get::request(call, Method::HEAD, None)).await?;
    if !store.status().is_success() {
        return get::refusal(rooms, call).await;
    }
    let Some(sealed) = open::envelope(rooms, call, store.headers()).await? else {
        read.plain()?;
        let headers = StoreHeaders::forwarded(call.headers());
        let request = StoreRequest::new(Method::GET, call.bucket(), call.key(), headers, call.who())
            .query(call.query().pick(&["attributes", "versionId"]));
        return Ok(super::forward::answer(rooms.backend.send(request).await?));
    };
    let stored = store.headers();
    let text = |name: &str| stored.get(name).and_then(|value| value.to_str().ok());
    let has = |name: &str| wanted.iter().any(|attribute| attribute == name);
    let checksum = match has("Checksum") {
        true => Some(get::trailer_sum(rooms, call, stored, &sealed).await?),
        false => None,
    };
    let document = xml::object_attributes(&ObjectAttributes {
        etag: text("etag").filter(|_| has("ETag")).map(|etag| etag.trim_matches('"')),
        checksum: checksum.as_ref(),
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
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
    Ok(get::answer(StatusCode::OK, headers, body::full(document)))
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
