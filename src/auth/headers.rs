//! What of a request's headers the other rooms may see: with those that a presigner hoisted into the query, without
//! those that belong to the signature and to the connection.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::s3::headers::{CONTEXT, ENVELOPE, strip_aws_chunked};
use crate::s3::{Code, Error, Query, Result};

use super::presigned::is_parameter;

/// Moves every `x-amz-...` parameter of the query to the headers, so that no other room can overlook one, and drops
/// the signature's own.
pub(super) fn hoist(query: &mut Query, headers: &mut HeaderMap) -> Result<()> {
    let amz = |name: &str| name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"));
    for (name, value) in query.extract(amz).into_iter().filter(|(name, _)| !is_parameter(name)) {
        let refuse =
            |what| Err(Error::new(Code::InvalidArgument, format!("The query parameter {name} {what}.")));
        let (Ok(header), Ok(value)) = (HeaderName::try_from(&name), HeaderValue::try_from(&value)) else {
            return refuse("can't stand for a header: change its name or value");
        };
        if headers.get_all(&header).iter().any(|other| other != value) {
            return refuse("contradicts a header of that name: send one of them");
        }
        headers.insert(header, value);
    }
    Ok(())
}

/// Refuses the headers that are s3veil's own.
pub(super) fn refuse_reserved(headers: &HeaderMap) -> Result<()> {
    match [ENVELOPE, CONTEXT].into_iter().find(|name| headers.contains_key(name)) {
        Some(name) => Err(Error::new(
            Code::InvalidArgument,
            format!("The metadata name {name} is reserved. Choose another one."),
        )),
        None => Ok(()),
    }
}

/// Removes the headers that are spent here.
pub(super) fn strip(headers: &mut HeaderMap) {
    const AMZ: [&str; 5] = [
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
    ];
    const STANDARD: [HeaderName; 11] = [
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        HOST,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let named = connection_options(headers);
    let spent = AMZ.into_iter().map(HeaderName::from_static).chain(STANDARD);
    for name in spent.chain(["keep-alive", "proxy-connection"].map(HeaderName::from_static)).chain(named) {
        headers.remove(name);
    }
    // The body is handed on decoded, so the coding goes; others stay, they are the object's.
    strip_aws_chunked(headers);
}

/// Marks the keys that clients send along (SSE-C), so that no `Debug` of a header map shows one.
pub(super) fn hide_keys(headers: &mut HeaderMap) {
    let keys = headers.iter_mut().filter(|(name, _)| name.as_str().ends_with("-customer-key"));
    keys.for_each(|(_, value)| value.set_sensitive(true));
}

/// The headers that Connection names as its own (RFC 9110, section 7.6.1). What S3 gives a meaning is never one.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    names
        .filter(|name: &HeaderName| {
            !name.as_str().starts_with("x-amz-") && !name.as_str().starts_with("content-")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn hoisted_parameters_become_headers() {
        let mut query =
            Query::parse("X-Amz-Acl=private&x-amz-meta-A=%C3%A9&X-Amz-Expires=1&x-id=PutObject").unwrap();
        let mut map = headers(&[("x-amz-acl", "private")]);
        hoist(&mut query, &mut map).unwrap();
        assert_eq!(query.to_canonical(), "x-id=PutObject");
        assert_eq!(map["x-amz-acl"], "private");
        assert_eq!(map["x-amz-meta-a"].as_bytes(), "é".as_bytes());
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn a_contradiction_is_refused() {
        for raw in [
            "x-amz-acl=public-read",
            "X-Amz-Acl=private&x-amz-acl=public-read",
            "x-amz-a%20b=1",
            "x-amz-a=%0A",
        ] {
            let mut map = headers(&[("x-amz-acl", "private")]);
            let error = hoist(&mut Query::parse(raw).unwrap(), &mut map).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{raw}");
        }
    }

    #[test]
    fn aws_chunked_goes_and_the_rest_stays() {
        for (sent, kept) in
            [("aws-chunked", None), ("aws-chunked, gzip", Some("gzip")), ("gzip,AWS-Chunked", Some("gzip"))]
        {
            let mut map = headers(&[("content-encoding", sent)]);
            strip(&mut map);
            assert_eq!(map.get("content-encoding").map(|v| v.to_str().unwrap()), kept, "{sent}");
        }
    }
}
