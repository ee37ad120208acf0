//! Which bucket and key a request names: path style, or virtual-host style under the configured domains.
//!
//! Source: Amazon S3 User Guide, "Virtual hosting of buckets"; RFC 9112, section 3.2 (Host and the request target).

use http::header::HOST;
use http::request::Parts;

use crate::s3::address::MAX_KEY_LEN;
use crate::s3::query::decode;
use crate::s3::{Bucket, Code, Error, Key, Result};

use super::request::single;

/// The host and port that the client asked, as it wrote them. HTTP/2's `:authority` (or an absolute target) and Host
/// must agree: the one is routed by, the other may be the one that is signed.
pub(super) fn authority(parts: &Parts) -> Result<String> {
    let target = parts.uri.authority().map(|authority| authority.as_str());
    let header = single(&parts.headers, &HOST)?;
    let scheme = parts.uri.scheme_str();
    match (header, target) {
        (Some(header), Some(target)) if without_port(header, scheme) != without_port(target, scheme) => {
            Err(Error::new(
                Code::InvalidRequest,
                "The Host header and the request target name different hosts. Send the same host in both.",
            ))
        }
        (Some(host), _) | (None, Some(host)) if !host.is_empty() => Ok(host.to_owned()),
        _ => Err(Error::new(Code::InvalidRequest, "The request names no host. Send a Host header.")),
    }
}

/// In lower case, without the port that the scheme implies.
fn without_port(host: &str, scheme: Option<&str>) -> String {
    let port = match scheme {
        Some("http") => ":80",
        Some("https") => ":443",
        _ => "",
    };
    host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase()
}

/// The path, decoded exactly once and never normalised: `//`, `.` and `..` are a key's own.
pub(super) fn path(parts: &Parts) -> Result<String> {
    let path = decode(parts.uri.path())?;
    if !path.starts_with('/') {
        return Err(Error::new(
            Code::InvalidURI,
            "Couldn't parse the specified URI: the path must begin with \"/\".",
        ));
    }
    Ok(path)
}

/// Bucket and key of a decoded path under an authority.
pub(super) fn locate(
    path: &str,
    authority: &str,
    domains: &[String],
) -> Result<(Option<Bucket>, Option<Key>)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = match virtual_bucket(authority, domains) {
        Some(bucket) => (bucket, path),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (bucket.to_owned(), key)
        }
    };
    if bucket.is_empty() && key.is_empty() {
        return Ok((None, None));
    }
    let bucket = Bucket::parse(&bucket).ok_or_else(|| {
        Error::new(Code::InvalidBucketName, "The specified bucket is not valid.")
            .detail("BucketName", &bucket)
    })?;
    Ok((Some(bucket), parse_key(key)?))
}

/// The key, if there is one.
///
/// Errors: KeyTooLongError.
pub(super) fn parse_key(key: &str) -> Result<Option<Key>> {
    match Key::parse(key) {
        None if !key.is_empty() => Err(Error::new(Code::KeyTooLongError, "Your key is too long")
            .detail("Size", key.len().to_string())
            .detail("MaxSizeAllowed", MAX_KEY_LEN.to_string())),
        key => Ok(key),
    }
}

/// The bucket in `bucket.domain:port`, for the longest domain that fits; `None` for a domain itself and for any other
/// host.
fn virtual_bucket(authority: &str, domains: &[String]) -> Option<String> {
    let host = host(authority).to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let fits = |domain: &&String| {
        host.strip_suffix(domain.as_str()).is_some_and(|b| b.is_empty() || b.ends_with('.'))
    };
    let domain = domains.iter().filter(fits).max_by_key(|domain| domain.len())?;
    host.strip_suffix(domain.as_str())?.strip_suffix('.').map(str::to_owned)
}

/// Without the port; an IPv6 address keeps its brackets and colons.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(authority: &str, path: &str) -> (String, String) {
        let domains = ["s3.example.com".to_owned(), "example.com".to_owned()];
        let (bucket, key) = locate(path, authority, &domains).unwrap();
        (
            bucket.map_or(String::new(), |bucket| bucket.as_str().to_owned()),
            key.map_or(String::new(), |key| key.as_str().to_owned()),
        )
    }

    #[test]
    fn path_style() {
        for host in
            ["s3.example.com", "S3.Example.Com:9000", "example.com.", "other.net", "[::1]:9000", "127.0.0.1"]
        {
            assert_eq!(at(host, "/"), (String::new(), String::new()), "{host}");
            assert_eq!(at(host, "/bucket"), ("bucket".into(), String::new()), "{host}");
            assert_eq!(at(host, "/bucket/"), ("bucket".into(), String::new()), "{host}");
            assert_eq!(at(host, "/bucket//a/../b"), ("bucket".into(), "/a/../b".into()), "{host}");
        }
    }

    #[test]
    fn virtual_host_style() {
        assert_eq!(at("Bucket.s3.example.com:443", "/"), ("bucket".into(), String::new()));
        assert_eq!(at("my.bucket.s3.example.com", "//key"), ("my.bucket".into(), "/key".into()));
        assert_eq!(at("bucket.example.com", "/a/b"), ("bucket".into(), "a/b".into()));
        // A domain is a whole label's end.
        assert_eq!(at("bucketexample.com", "/a/b"), ("a".into(), "b".into()));
    }

    #[test]
    fn no_bucket_and_no_key_at_all() {
        for path in ["//key", "/bad bucket/key", "/..", "/b%2Fc/key"] {
            assert_eq!(locate(path, "h", &[]).unwrap_err().code(), Code::InvalidBucketName, "{path}");
        }
        let long = format!("/b/{}", "é".repeat(513));
        assert_eq!(locate(&long, "h", &[]).unwrap_err().code(), Code::KeyTooLongError);
        assert!(locate(&format!("/b/{}", "é".repeat(512)), "h", &[]).is_ok());
    }
}
