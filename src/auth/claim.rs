//! What a request says about who sent it, in either form, before any of it is believed.

use std::time::Duration;

use crate::s3::{Code, Error, Result};

use super::header;
use super::presigned;
use super::request::Request;
use super::scope::Credential;
use super::timestamp::Timestamp;

/// A signature and what it claims to cover. It has no `Debug`: it holds a session token.
pub(super) struct Claim {
    /// Where the signature stood.
    pub(super) form: Form,
    /// Access key and scope.
    pub(super) credential: Credential,
    /// The names of the headers that it covers, lower-case, as they stood.
    pub(super) signed_headers: String,
    /// The signature.
    pub(super) signature: [u8; 32],
    /// When it was made.
    pub(super) time: Timestamp,
    /// The session token that goes with the access key.
    pub(super) token: Option<String>,
    /// The payload hash that it covers, as text.
    pub(super) content_sha256: String,
}

/// Where a signature stands: it decides a few rules and the codes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In the Authorization header.
    Header,
    /// In the query, good for this long.
    Query(Duration),
}

impl Claim {
    /// The claim of a request. `None` only where nothing at all looks like one: whatever looks like one and can't be
    /// read is an error, never an anonymous request.
    pub(super) fn of(request: &Request<'_>) -> Result<Option<Self>> {
        let in_header = request.headers.contains_key(http::header::AUTHORIZATION);
        let in_query = request.query.iter().any(|(name, _)| presigned::is_parameter(name));
        let v2 = request.query.has("AWSAccessKeyId") || request.query.has("Signature");
        if in_header && (in_query || v2) {
            return Err(Error::new(
                Code::InvalidArgument,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified",
            ));
        }
        if v2 {
            return Err(unsupported());
        }
        if in_header {
            return header::parse(request).map(Some);
        }
        if in_query {
            return presigned::parse(request).map(Some);
        }
        if request.headers.contains_key("x-amz-security-token") {
            return Err(Error::new(
                Code::AccessDenied,
                "A session token is sent without a signature. Sign the request, or leave x-amz-security-token out.",
            ));
        }
        Ok(None)
    }

    /// The names of the signed headers.
    pub(super) fn signed(&self) -> impl Iterator<Item = &str> {
        self.signed_headers.split(';')
    }
}

impl Form {
    /// The error for a claim that can't be read, or whose scope is wrong.
    pub(super) fn malformed(self, what: impl AsRef<str>) -> Error {
        let what = what.as_ref();
        match self {
            Self::Header => Error::new(
                Code::AuthorizationHeaderMalformed,
                format!("The authorization header is malformed; {what}"),
            ),
            Self::Query(_) => Error::new(
                Code::AuthorizationQueryParametersError,
                format!("Error parsing the X-Amz-Credential parameter; {what}"),
            ),
        }
    }
}

/// Anything but `AWS4-HMAC-SHA256`.
pub(super) fn unsupported() -> Error {
    Error::new(
        Code::InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

/// The names in `SignedHeaders`: header names in lower case, none of them twice.
pub(super) fn check_signed_headers(list: &str) -> std::result::Result<(), &'static str> {
    let mut names: Vec<&str> = list.split(';').collect();
    let lower = |name: &&str| {
        !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_whitespace())
    };
    if !names.iter().all(lower) {
        return Err("SignedHeaders must be header names in lower case, separated by semicolons");
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("SignedHeaders names a header twice");
    }
    Ok(())
}

/// The 64 hex digits of a signature.
pub(super) fn parse_signature(text: &str) -> Option<[u8; 32]> {
    let mut signature = [0; 32];
    hex::decode_to_slice(text, &mut signature).ok().map(|()| signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_headers() {
        assert!(check_signed_headers("host;x-amz-date").is_ok());
        for wrong in ["", "host;", "Host", "a b", "host;x-amz-date;host"] {
            assert!(check_signed_headers(wrong).is_err(), "{wrong}");
        }
    }

    /// Nobody has been authenticated yet: as many names as a head holds must not keep a thread busy.
    #[test]
    fn many_signed_headers_take_no_time() {
        let names: Vec<String> = (0..40_000).map(|name| format!("{name:05}")).collect();
        let start = std::time::Instant::now();
        assert!(check_signed_headers(&names.join(";")).is_ok());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
