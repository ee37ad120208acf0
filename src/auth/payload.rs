//! What a request's headers say about its body: its length, its framing, and what it must prove.
//!
//! Source: Amazon S3 API Reference, "PutObject", checksum headers; RFC 9112, section 6.3 (message body length).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method};

use crate::body::chunk_signature::ChunkSigner;
use crate::body::chunked::{Chunked, Signatures};
use crate::s3::checksum::{Algorithm, Checksum};
use crate::s3::headers::is_aws_chunked;
use crate::s3::{Code, Error, Query, Result};

use super::content_sha256::ContentSha256;
use super::request::single;

/// How the body must be read, and what it must prove.
#[derive(Debug)]
pub struct Payload {
    /// Plaintext bytes: x-amz-decoded-content-length for an aws-chunked body, else Content-Length. `None`: not said.
    pub length: Option<u64>,
    /// The SHA-256 that was signed, and that the body must have.
    pub sha256: Option<[u8; 32]>,
    /// How an aws-chunked body is taken apart. `None`: the body is the plaintext.
    pub chunked: Option<Chunked>,
    /// Content-MD5, which the body must have.
    pub md5: Option<[u8; 16]>,
    /// The checksum that came as a header, and that the body must have.
    pub checksum: Option<Checksum>,
    /// The checksum that comes as a trailer.
    pub trailer: Option<Algorithm>,
    /// The request's signature covers the body.
    pub covered: bool,
}

/// Who answers for the framing of a body.
pub(super) enum Proof {
    /// A signature in the Authorization header, from which chunk signatures go on.
    Header(ChunkSigner),
    /// A presigned URL, which has no chunks.
    Query,
    /// Nobody needs to.
    Trusted,
    /// Nobody.
    Anonymous,
}

impl Payload {
    /// A body of s3veil's own making, of this length.
    pub fn of_length(length: u64) -> Self {
        let none = (None, None, None, None);
        let (sha256, chunked, md5, checksum) = none;
        Self { length: Some(length), sha256, chunked, md5, checksum, trailer: None, covered: false }
    }

    /// The file of a form, by the headers that its fields stand for.
    pub(super) fn of_file(headers: &HeaderMap) -> Result<Self> {
        let (md5, checksum) = (content_md5(headers)?, checksum(headers)?);
        Ok(Self { length: None, md5, checksum, ..Self::of_length(0) })
    }

    /// Reads all that concerns the body.
    pub(super) fn parse(method: &Method, query: &Query, headers: &HeaderMap, proof: Proof) -> Result<Self> {
        let content_length = framing(headers)?;
        let content_sha256 = content_sha256(headers, &proof)?;
        let checksum = if completes_upload(method, query) { None } else { checksum(headers)? };
        let trailer = trailer(headers)?;
        if trailer.is_some() && checksum.is_some() {
            return Err(one_checksum());
        }
        let in_header = matches!(proof, Proof::Header(_));
        let chunked = chunked(content_sha256, trailer, proof)?;
        let length = if chunked.is_some() { Some(decoded_length(headers)?) } else { content_length };
        let sha256 = match content_sha256 {
            ContentSha256::Hash(hash) => Some(hash),
            _ => None,
        };
        let covered = in_header
            && matches!(
                content_sha256,
                ContentSha256::Hash(_) | ContentSha256::Streaming { signed: true, .. }
            );
        Ok(Self { length, sha256, chunked, md5: content_md5(headers)?, checksum, trailer, covered })
    }
}

/// Content-Length, if there is one. A body that two readers could end at different places is refused.
fn framing(headers: &HeaderMap) -> Result<Option<u64>> {
    let length = single(headers, &CONTENT_LENGTH)?.map(|text| number(text, "Content-Length")).transpose()?;
    match single(headers, &TRANSFER_ENCODING)? {
        Some(_) if length.is_some() => Err(Error::new(
            Code::InvalidRequest,
            "The request has both Content-Length and Transfer-Encoding. Send one of them.",
        )),
        Some(coding) if !coding.eq_ignore_ascii_case("chunked") => Err(Error::new(
            Code::NotImplemented,
            "A header you provided implies functionality that is not implemented: the only Transfer-Encoding is \
             chunked.",
        )),
        _ => Ok(length),
    }
}

fn decoded_length(headers: &HeaderMap) -> Result<u64> {
    const NAME: &str = "x-amz-decoded-content-length";
    let text = single(headers, NAME)?.ok_or_else(|| {
        Error::new(
            Code::MissingContentLength,
            "You must provide the x-amz-decoded-content-length HTTP header with an aws-chunked body.",
        )
    })?;
    number(text, NAME)
}

fn number(text: &str, name: &str) -> Result<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("{name} must be a number of bytes.")))
}

/// What x-amz-content-sha256 says; where nothing is signed, aws-chunked may also be known by its coding alone.
fn content_sha256(headers: &HeaderMap, proof: &Proof) -> Result<ContentSha256> {
    let said = single(headers, "x-amz-content-sha256")?.map(ContentSha256::parse).transpose()?;
    match (said, proof) {
        (Some(said @ ContentSha256::Streaming { .. }), _) => Ok(said),
        (None, Proof::Trusted | Proof::Anonymous) if is_aws_chunked(headers) => {
            Ok(ContentSha256::Streaming { signed: false, trailers: true })
        }
        _ if is_aws_chunked(headers) => Err(Error::new(
            Code::InvalidRequest,
            "The Content-Encoding aws-chunked needs an x-amz-content-sha256 that begins with STREAMING-.",
        )),
        (said, _) => Ok(said.unwrap_or(ContentSha256::Unsigned)),
    }
}

fn chunked(
    content_sha256: ContentSha256,
    trailer: Option<Algorithm>,
    proof: Proof,
) -> Result<Option<Chunked>> {
    let ContentSha256::Streaming { signed, trailers } = content_sha256 else {
        return if trailer.is_none() { Ok(None) } else { Err(no_trailers()) };
    };
    if trailer.is_some() && !trailers {
        return Err(no_trailers());
    }
    let signatures = match (proof, signed) {
        (Proof::Query, _) => {
            return Err(Error::new(
                Code::InvalidRequest,
                "A presigned URL takes no aws-chunked body. Send the body as it is, or sign the Authorization header.",
            ));
        }
        (Proof::Anonymous, true) => {
            return Err(Error::new(
                Code::InvalidRequest,
                "Signed chunks need a signed request. Sign the Authorization header, or send the body as it is.",
            ));
        }
        (Proof::Header(signer), true) => Signatures::Checked(signer),
        (Proof::Trusted, true) => Signatures::Unchecked,
        (Proof::Header(_) | Proof::Trusted | Proof::Anonymous, false) => Signatures::Absent,
    };
    Ok(Some(Chunked { signatures, trailers, trailer }))
}

fn no_trailers() -> Error {
    Error::new(
        Code::InvalidRequest,
        "The header x-amz-trailer needs an x-amz-content-sha256 that begins with STREAMING- and ends in -TRAILER.",
    )
}

/// CompleteMultipartUpload: there a checksum header is that of the object, not of the body.
fn completes_upload(method: &Method, query: &Query) -> bool {
    method == Method::POST && query.has("uploadId")
}

/// The one header of the form `x-amz-checksum-<algorithm>`.
fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>> {
    let mut found = None;
    for name in headers.keys().map(|name| name.as_str()) {
        // These three say how, not what.
        let how = ["x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"];
        if !name.starts_with("x-amz-checksum-") || how.contains(&name) {
            continue;
        }
        let algorithm = Algorithm::from_header(name).ok_or_else(|| {
            Error::new(
                Code::NotImplemented,
                format!(
                    "The checksum {name} is not implemented. Use CRC32, CRC32C, CRC64NVME, SHA1 or SHA256."
                ),
            )
        })?;
        let value = single(headers, name)?.and_then(|value| Checksum::parse(algorithm, value));
        let value = value.ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("Value for {name} header is invalid."))
        })?;
        if found.replace(value).is_some() {
            return Err(one_checksum());
        }
    }
    Ok(found)
}

fn trailer(headers: &HeaderMap) -> Result<Option<Algorithm>> {
    let Some(name) = single(headers, "x-amz-trailer")? else { return Ok(None) };
    let algorithm = Algorithm::from_header(name).ok_or_else(|| {
        Error::new(Code::InvalidRequest, "The value specified in the x-amz-trailer header is not supported.")
    })?;
    Ok(Some(algorithm))
}

fn one_checksum() -> Error {
    Error::new(
        Code::InvalidRequest,
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>> {
    let Some(text) = single(headers, "content-md5")? else { return Ok(None) };
    let md5 = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    md5.map(Some).ok_or_else(|| {
        Error::new(
            Code::InvalidDigest,
            "The Content-MD5 you specified is not valid: it is the base64 of 16 bytes.",
        )
    })
}
