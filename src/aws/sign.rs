//! AWS Signature Version 4 on what s3veil sends, by `aws-sigv4`.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".

use std::time::SystemTime;

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};

use super::credentials::Credentials;

/// What the signature says of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyHash {
    /// Nothing: TLS covers it.
    Unsigned,
    /// aws-chunked without chunk signatures, a checksum behind it.
    UnsignedTrailer,
    /// Its SHA-256, in hex.
    Sha256(String),
}

/// A request can't be signed.
#[derive(Debug, thiserror::Error)]
#[error("the request can't be signed: {0}")]
pub struct SignError(String);

/// Signs a request whose headers are final. Of them, `host`, `content-type`, `content-md5` and all `x-amz-*` are signed.
///
/// Errors: a signed header whose value is not UTF-8.
pub fn sign_request(
    parts: &mut Parts,
    body: BodyHash,
    credentials: &Credentials,
    (region, service): (&str, &str),
    now: SystemTime,
) -> Result<(), SignError> {
    let identity: Identity = AwsCredentials::new(
        credentials.access_key.as_str(),
        credentials.secret_key.as_str(),
        credentials.session_token.as_ref().map(|token| token.as_str().to_owned()),
        None,
        "s3veil",
    )
    .into();
    let mut settings = SigningSettings::default();
    // S3 signs the path as it is sent: encoded once, never normalised.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|why| SignError(why.to_string()))?
        .into();

    let body = match body {
        BodyHash::Unsigned => SignableBody::UnsignedPayload,
        BodyHash::UnsignedTrailer => SignableBody::StreamingUnsignedPayloadTrailer,
        BodyHash::Sha256(hex) => SignableBody::Precomputed(hex),
    };
    let mut headers = Vec::with_capacity(parts.headers.len());
    for (name, value) in parts.headers.iter().filter(|(name, _)| is_signed(name)) {
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| SignError(format!("the value of {name} is not UTF-8; send it as UTF-8")))?;
        headers.push((name.as_str(), value));
    }
    let uri = parts.uri.to_string();
    let request = SignableRequest::new(parts.method.as_str(), uri, headers.into_iter(), body)
        .map_err(|why| SignError(why.to_string()))?;
    let (instructions, _) = sign(request, &params).map_err(|why| SignError(why.to_string()))?.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|why| SignError(why.to_string()))?;
        let mut value = HeaderValue::from_str(value).map_err(|why| SignError(why.to_string()))?;
        value.set_sensitive(name == header::AUTHORIZATION || name == "x-amz-security-token");
        parts.headers.insert(name, value);
    }
    Ok(())
}

fn is_signed(name: &HeaderName) -> bool {
    name == header::HOST
        || name == header::CONTENT_TYPE
        || name == "content-md5"
        || name.as_str().starts_with("x-amz-")
}
