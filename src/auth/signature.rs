//! Signature Version 4 itself.
//!
//! ```text
//! canonical request = method \n path \n query \n (name ":" value \n)* \n signed headers \n payload hash
//! string to sign    = "AWS4-HMAC-SHA256" \n time \n scope \n hex(SHA-256(canonical request))
//! signing key       = HMAC(HMAC(HMAC(HMAC("AWS4" secret, day), region), "s3"), "aws4_request")
//! signature         = HMAC(signing key, string to sign)
//! ```
//!
//! Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in a
//! Single Chunk".

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use crate::s3::query::encode_path;
use crate::s3::{Code, Error, Result};
use crate::secret::Secret;

use super::claim::Claim;
use super::presigned::is_signature;
use super::request::Request;
use super::scope::Scope;

/// The signing key of a secret for a scope. Deriving it takes four HMACs of a block each, about what a look-up in a
/// shared cache would cost, so it is not kept.
pub(super) fn signing_key(secret: &Secret, scope: &Scope) -> hmac::Key {
    let seed = Zeroizing::new([b"AWS4", secret.as_bytes()].concat());
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &seed);
    for step in [scope.day.as_str(), &scope.region, "s3", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref());
    }
    key
}

/// The string to sign for a claim.
pub(super) fn string_to_sign(claim: &Claim, canonical_request: &[u8]) -> String {
    let hash = hex::encode(digest::digest(&digest::SHA256, canonical_request));
    format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", claim.time.as_str(), claim.credential.scope)
}

/// The request as the claim says that it was signed.
pub(super) fn canonical_request(request: &Request<'_>, claim: &Claim) -> Result<Vec<u8>> {
    let mut canonical = Vec::with_capacity(1024);
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| canonical.extend_from_slice(part));
        canonical.push(b'\n');
    };
    line(&[request.method.as_str().as_bytes()]);
    line(&[encode_path(request.path).to_string().as_bytes()]);
    line(&[request.query.canonical_without(is_signature).as_bytes()]);
    for name in claim.signed() {
        line(&[name.as_bytes(), b":", &header_value(request, name)?]);
    }
    line(&[]);
    line(&[claim.signed_headers.as_bytes()]);
    canonical.extend_from_slice(claim.content_sha256.as_bytes());
    Ok(canonical)
}

/// The value of a signed header, which must be there, and once: of two, another reader could take the other one.
fn header_value(request: &Request<'_>, name: &str) -> Result<Vec<u8>> {
    if name == "host" {
        return Ok(collapse(request.authority.as_bytes()));
    }
    let mut values = request.headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Err(mismatch().detail("MissingHeader", name));
    };
    if values.next().is_some() {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("The signed header {name} is sent more than once. Send it once."),
        ));
    }
    Ok(collapse(value.as_bytes()))
}

/// Trims white space and makes each run of it one space. Works on bytes: a value need not be UTF-8.
fn collapse(value: &[u8]) -> Vec<u8> {
    let mut words = value.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
    let mut collapsed = words.next().unwrap_or_default().to_vec();
    for word in words {
        collapsed.push(b' ');
        collapsed.extend_from_slice(word);
    }
    collapsed
}

/// The error for a signature that does not fit. Unlike AWS it never shows the string to sign.
pub(super) fn mismatch() -> Error {
    Error::new(
        Code::SignatureDoesNotMatch,
        "The request signature we calculated does not match the signature you provided. Check your key and signing \
         method.",
    )
}
