//! The Authorization header: `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header".

use http::header::{AUTHORIZATION, DATE};

use crate::s3::{Code, Error, Result};

use super::claim::{Claim, Form, check_signed_headers, parse_signature, unsupported};
use super::request::Request;
use super::scope::Credential;
use super::timestamp::Timestamp;

/// Reads the claim of a request that has the header.
pub(super) fn parse(request: &Request<'_>) -> Result<Claim> {
    let text = request.single(&AUTHORIZATION)?.unwrap_or_default();
    let (algorithm, fields) = text.split_once(' ').unwrap_or((text, ""));
    match algorithm {
        "AWS4-HMAC-SHA256" => {}
        "AWS4-ECDSA-P256-SHA256" => {
            return Err(Error::new(
                Code::NotImplemented,
                "Signature Version 4A is not implemented. Please use AWS4-HMAC-SHA256.",
            ));
        }
        _ => return Err(unsupported()),
    }
    let malformed = |what| Form::Header.malformed(what);
    let [credential, signed_headers, signature] = split(fields).map_err(malformed)?;
    check_signed_headers(signed_headers).map_err(malformed)?;
    let signature =
        parse_signature(signature).ok_or_else(|| malformed("the Signature must be 64 hex digits"))?;
    Ok(Claim {
        form: Form::Header,
        credential: Credential::parse(credential).map_err(malformed)?,
        signed_headers: signed_headers.to_owned(),
        signature,
        time: time(request)?,
        token: request.single("x-amz-security-token")?.map(str::to_owned),
        content_sha256: content_sha256(request)?,
    })
}

/// The three fields, in any order, each exactly once.
fn split(fields: &str) -> std::result::Result<[&str; 3], &'static str> {
    let names = ["Credential=", "SignedHeaders=", "Signature="];
    let mut found = [None; 3];
    for field in fields.split(',').map(str::trim) {
        let index = names.iter().position(|name| field.starts_with(name));
        let index = index.ok_or("it has a field other than Credential, SignedHeaders and Signature")?;
        if found[index].replace(&field[names[index].len()..]).is_some() {
            return Err("it has a field twice");
        }
    }
    match found {
        [Some(credential), Some(signed_headers), Some(signature)] => {
            Ok([credential, signed_headers, signature])
        }
        _ => Err("it needs Credential, SignedHeaders and Signature"),
    }
}

fn time(request: &Request<'_>) -> Result<Timestamp> {
    let time = match request.single("x-amz-date")? {
        Some(text) => Timestamp::parse(text),
        None => request
            .single(&DATE)?
            .and_then(|text| Timestamp::parse_http(text).or_else(|| Timestamp::parse(text))),
    };
    time.ok_or_else(|| {
        Error::new(Code::AccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
    })
}

fn content_sha256(request: &Request<'_>) -> Result<String> {
    let value = request.single("x-amz-content-sha256")?.ok_or_else(|| {
        Error::new(Code::InvalidRequest, "Missing required header for this request: x-amz-content-sha256")
    })?;
    Ok(value.to_owned())
}
