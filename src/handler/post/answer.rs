//! What a form's sender hears, a browser or a script: nothing, a document, or where to go on.
//!
//! Source: Amazon S3 API Reference, "POST Object", responses.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::super::{Answer, get};
use crate::body;
use crate::operation::{Call, Done};
use crate::s3::headers::remove_all;
use crate::s3::query::{encode_component, encode_path};
use crate::s3::{Result, xml};

/// The answer to a file that was written. What the store refuses, in its own words.
pub(super) fn of_write(call: &Call, done: Done, written: Answer) -> Result<Answer> {
    if !written.status().is_success() {
        return Ok(written);
    }
    let headers = written.into_parts().0.headers;
    let etag = headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default().to_owned();
    stored(call, done, headers, &etag)
}

fn stored(call: &Call, done: Done, mut headers: HeaderMap, etag: &str) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    // Nothing of the body of another answer.
    let of_object = |name: &str| {
        name.starts_with("x-amz-") || name.starts_with("access-control-") || matches!(name, "vary" | "server")
    };
    remove_all(&mut headers, |name| !of_object(name));
    let location = format!("/{}/{}", bucket.as_str(), encode_path(key.as_str()));
    headers.extend(HeaderValue::from_str(etag).map(|etag| (header::ETAG, etag)));
    let (status, target, document) = match &done {
        Done::NoContent => (StatusCode::NO_CONTENT, location, None),
        Done::Empty => (StatusCode::OK, location, None),
        Done::Document => {
            let document = xml::post_response(&location, bucket.as_str(), key.as_str(), etag);
            (StatusCode::CREATED, location, Some(document))
        }
        Done::Redirect(address) => {
            (StatusCode::SEE_OTHER, redirect(address, bucket.as_str(), key.as_str(), etag), None)
        }
    };
    let target = HeaderValue::from_str(&target);
    headers.insert(
        header::LOCATION,
        target.expect("an address of a form is graphic ASCII, and paths are encoded"),
    );
    if let Some(document) = document {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
        return Ok(get::answer(status, headers, body::full(document)));
    }
    Ok(get::answer(status, headers, body::empty()))
}

/// The address with what was stored in its query.
fn redirect(address: &str, bucket: &str, key: &str, etag: &str) -> String {
    let (address, fragment) = match address.split_once('#') {
        Some((address, fragment)) => (address, format!("#{fragment}")),
        None => (address, String::new()),
    };
    let separator = if address.contains('?') { '&' } else { '?' };
    format!(
        "{address}{separator}bucket={}&key={}&etag={}{fragment}",
        encode_component(bucket),
        encode_component(key),
        encode_component(etag)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_go_on_at() {
        for (address, expected) in [
            ("https://a/b", "https://a/b?bucket=b&key=k%2F1%20%C3%A9&etag=%22e%22"),
            ("https://a/b?c=d#e", "https://a/b?c=d&bucket=b&key=k%2F1%20%C3%A9&etag=%22e%22#e"),
        ] {
            assert_eq!(redirect(address, "b", "k/1 é", "\"e\""), expected);
        }
    }
}
