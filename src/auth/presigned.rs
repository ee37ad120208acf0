//! The query form of a signature: a presigned URL.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters".

use std::time::Duration;

use crate::s3::{Code, Error, Result};

use super::claim::{Claim, Form, check_signed_headers, parse_signature, unsupported};
use super::request::Request;
use super::scope::Credential;
use super::timestamp::Timestamp;

/// The signature's own parameters. All other `X-Amz-...` parameters are headers that the presigner hoisted.
const PARAMETERS: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];

/// A presigned URL is good for a week at most.
const LONGEST: u64 = 604_800;

/// True for the signature's own parameters, in any case: none of them may slip through as something else.
pub(super) fn is_parameter(name: &str) -> bool {
    PARAMETERS.iter().any(|parameter| parameter.eq_ignore_ascii_case(name))
}

/// True for the signature itself, the one parameter that it does not cover.
pub(super) fn is_signature(name: &str) -> bool {
    name.eq_ignore_ascii_case("X-Amz-Signature")
}

/// Reads the claim of a request that has any of the parameters.
pub(super) fn parse(request: &Request<'_>) -> Result<Claim> {
    match required(request, "X-Amz-Algorithm")? {
        "AWS4-HMAC-SHA256" => {}
        "AWS4-ECDSA-P256-SHA256" => {
            return Err(Error::new(
                Code::NotImplemented,
                "Signature Version 4A is not implemented. Please use AWS4-HMAC-SHA256.",
            ));
        }
        _ => return Err(unsupported()),
    }
    let form = Form::Query(expires(required(request, "X-Amz-Expires")?)?);
    let signed_headers = required(request, "X-Amz-SignedHeaders")?;
    check_signed_headers(signed_headers).map_err(wrong)?;
    let time = Timestamp::parse(required(request, "X-Amz-Date")?)
        .ok_or_else(|| wrong("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?;
    let signature = parse_signature(required(request, "X-Amz-Signature")?)
        .ok_or_else(|| wrong("X-Amz-Signature must be 64 hex digits"))?;
    let credential = Credential::parse(required(request, "X-Amz-Credential")?);
    Ok(Claim {
        form,
        credential: credential.map_err(|what| form.malformed(what))?,
        signed_headers: signed_headers.to_owned(),
        signature,
        time,
        token: only(request, "X-Amz-Security-Token")?.map(str::to_owned),
        content_sha256: content_sha256(request, signed_headers)?,
    })
}

fn required<'a>(request: &'a Request<'_>, name: &str) -> Result<&'a str> {
    only(request, name)?.ok_or_else(|| {
        wrong(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
             X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    })
}

/// A parameter of the signature in any case, but once.
fn only<'a>(request: &'a Request<'_>, name: &str) -> Result<Option<&'a str>> {
    let mut values =
        request.query.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() {
        return Err(Error::new(
            Code::AuthorizationQueryParametersError,
            format!("The parameter {name} is given more than once. Give it once."),
        ));
    }
    Ok(first)
}

fn expires(text: &str) -> Result<Duration> {
    let seconds = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match seconds {
        // None at all is a URL that has expired, as the stores say too.
        Some(seconds @ 0..=LONGEST) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(wrong(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
             604800 seconds",
        )),
        None => Err(wrong("X-Amz-Expires must be a number")),
    }
}

/// The hash in the query, or in a header that is signed; without either the payload is not signed.
fn content_sha256(request: &Request<'_>, signed_headers: &str) -> Result<String> {
    const NAME: &str = "x-amz-content-sha256";
    let signed = signed_headers.split(';').any(|name| name == NAME);
    let value = match only(request, NAME)? {
        Some(value) => Some(value),
        None if signed => request.single(NAME)?,
        None => None,
    };
    Ok(value.unwrap_or("UNSIGNED-PAYLOAD").to_owned())
}

fn wrong(what: &'static str) -> Error {
    Error::new(Code::AuthorizationQueryParametersError, what)
}
