//! Names of the headers that s3veil itself reads or writes, and the one content coding that is a framing.

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The envelope of a sealed object, on the stored object only. Clients never see it and may not send it.
pub const ENVELOPE: HeaderName = HeaderName::from_static("x-amz-meta-s3veil");

/// The client's encryption context of a sealed object, in base64, likewise on the stored object only.
pub const CONTEXT: HeaderName = HeaderName::from_static("x-amz-meta-s3veil-context");

/// Removes the headers whose names fit.
pub fn remove_all(headers: &mut HeaderMap, fits: impl Fn(&str) -> bool) {
    let gone: Vec<HeaderName> = headers.keys().filter(|name| fits(name.as_str())).cloned().collect();
    gone.into_iter().for_each(|name| drop(headers.remove(name)));
}

/// True if the content coding is aws-chunked, among others or alone.
pub fn is_aws_chunked(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().flat_map(codings).any(aws_chunked)
}

/// Removes aws-chunked from the content codings. It says how a body travelled; the others are the object's.
pub fn strip_aws_chunked(headers: &mut HeaderMap) {
    if !is_aws_chunked(headers) {
        return;
    }
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let rest: Vec<&[u8]> = values.flat_map(codings).filter(|c| !aws_chunked(c) && !c.is_empty()).collect();
    match HeaderValue::from_bytes(&rest.join(&b',')) {
        Ok(value) if !value.is_empty() => drop(headers.insert(CONTENT_ENCODING, value)),
        _ => drop(headers.remove(CONTENT_ENCODING)),
    }
}

/// Puts aws-chunked before the content codings of an object, if it has any.
pub fn add_aws_chunked(headers: &mut HeaderMap) {
    let codings = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> = std::iter::once(&b"aws-chunked"[..]).chain(codings).collect();
    if all.len() > 1
        && let Ok(value) = HeaderValue::from_bytes(&all.join(&b','))
    {
        headers.insert(CONTENT_ENCODING, value);
    }
}

fn codings(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

fn aws_chunked(coding: impl AsRef<[u8]>) -> bool {
    coding.as_ref().eq_ignore_ascii_case(b"aws-chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_chunked_comes_before_what_is_there_and_goes_again() {
        for (own, framed) in [(None, None), (Some("gzip"), Some("aws-chunked,gzip"))] {
            let mut headers = HeaderMap::new();
            headers.extend(own.map(|own| (CONTENT_ENCODING, HeaderValue::from_static(own))));
            add_aws_chunked(&mut headers);
            let value =
                |headers: &HeaderMap| headers.get(CONTENT_ENCODING).map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(value(&headers).as_deref(), framed);
            strip_aws_chunked(&mut headers);
            assert_eq!(value(&headers).as_deref(), own);
        }
    }
}
