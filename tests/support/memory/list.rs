//! Listings of the store, and the end of a bucket.

use bytes::Bytes;
use http::Response;
use http::header;
use s3veil::s3::Query;
use s3veil::s3::query::{decode, encode_path};

use super::{Body, State, answer, error};

/// ListObjects (V1, V2) and ListObjectVersions.
pub fn list(state: &State, bucket: &str, query: &Query) -> String {
    let text = |name: &str| query.get(name).unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after =
        ["continuation-token", "start-after", "marker", "key-marker"].map(text).into_iter().max().unwrap();
    let most: usize = query.get("max-keys").map_or(1000, |most| most.parse().unwrap());
    let (root, element) = match query.has("versions") {
        true => ("ListVersionsResult", "Version"),
        false => ("ListBucketResult", "Contents"),
    };
    let (mut entries, mut last, mut count, mut truncated) = (String::new(), String::new(), 0, false);
    for (path, object) in state.objects.lock().unwrap().iter() {
        let Some(key) = path.strip_prefix(&format!("{}/", bucket.trim_end_matches('/'))) else { continue };
        let key = &decode(key).unwrap();
        let Some(tail) = key.strip_prefix(prefix) else { continue };
        let cut = Some(delimiter)
            .filter(|delimiter| !delimiter.is_empty())
            .and_then(|delimiter| tail.find(delimiter));
        let common = cut.map(|at| &key[..prefix.len() + at + delimiter.len()]);
        let name = common.unwrap_or(key);
        if name <= after || name == last {
            continue;
        }
        if count == most {
            truncated = true;
            break;
        }
        (count, last) = (count + 1, name.to_owned());
        let name = match text("encoding-type").eq_ignore_ascii_case("url") {
            true => encode_path(name).to_string(),
            false => quick_xml::escape::escape(name).into_owned(),
        };
        let etag = object.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let (size, version) =
            (object.body.len(), query.has("versions").then_some("<VersionId>null</VersionId>"));
        entries.push_str(&match common {
            Some(_) => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            None => format!(
                "<{element}><Key>{name}</Key>{}<LastModified>2026-11-23T00:00:00.000Z</LastModified>\
                 <ETag>{etag}</ETag><Size>{size}</Size></{element}>",
                version.unwrap_or_default()
            ),
        });
    }
    let next = match (truncated, query.has("versions"), query.has("list-type")) {
        (false, ..) => String::new(),
        (_, true, _) => {
            format!("<NextKeyMarker>{last}</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker>")
        }
        (_, _, true) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
        (_, _, false) if !delimiter.is_empty() => format!("<NextMarker>{last}</NextMarker>"),
        _ => String::new(),
    };
    let count = if query.has("list-type") { format!("<KeyCount>{count}</KeyCount>") } else { String::new() };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{root}><IsTruncated>{truncated}</IsTruncated>{next}{count}{entries}</{root}>"
    )
}

/// DeleteBucket.
pub fn delete_bucket(state: &State, bucket: &str) -> Response<Body> {
    let inside = format!("{}/", bucket.trim_end_matches('/'));
    match state.objects.lock().unwrap().keys().any(|path| path.starts_with(&inside)) {
        true => error(409, "BucketNotEmpty"),
        false => answer(204, Bytes::new()),
    }
}
