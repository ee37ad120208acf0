//! the examples that AWS publishes for S3, through the one way in; and what AWS's own signer makes.
//!
//! Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header" (single chunk, multiple
//! chunks, trailing headers) and "Authenticating Requests: Using Query Parameters".

mod auth_support;

use std::time::SystemTime;

use auth_support::{ACCESS_KEY, EMPTY_SHA256, SECRET_KEY, authenticator, code, encode, now, verify};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::request::Parts;
use proptest::prelude::*;
use s3veil::auth::{Verified, Who};
use s3veil::body::chunked::Decoder;
use s3veil::s3::checksum::Algorithm;

const HOST: &str = "examplebucket.s3.amazonaws.com";

fn example(
    method: &str,
    uri: &str,
    host: &str,
    headers: &[(&str, &str)],
    signed: &str,
    signature: &str,
) -> Parts {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed},Signature={signature}"
    );
    let mut builder = http::Request::builder().method(method).uri(uri).header("Host", host);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let builder = builder.header("x-amz-date", "20130524T000000Z").header("Authorization", authorization);
    builder.body(()).unwrap().into_parts().0
}

fn is_alice(verified: &Verified) -> bool {
    matches!(verified.who(), Who::Identity(identity) if identity.name == "alice")
}

#[test]
fn a_01_get_object() {
    let parts = example(
        "GET",
        "/test.txt",
        HOST,
        &[("Range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY_SHA256)],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    let verified = verify(parts).unwrap();
    assert!(is_alice(&verified));
    assert_eq!(verified.bucket().unwrap().as_str(), "examplebucket");
    assert_eq!(verified.key().unwrap().as_str(), "test.txt");
    let names: Vec<_> = verified.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["range"]);
    assert_eq!(verified.payload().sha256.map(hex::encode).as_deref(), Some(EMPTY_SHA256));
}

#[test]
fn a_01_put_object() {
    let parts = example(
        "PUT",
        "/test$file.text",
        HOST,
        &[
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
        ],
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    let verified = verify(parts).unwrap();
    assert_eq!(verified.key().unwrap().as_str(), "test$file.text");
    assert_eq!(verified.headers()["x-amz-storage-class"], "REDUCED_REDUNDANCY");
}

#[test]
fn a_01_get_bucket_lifecycle_and_list_objects() {
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let headers = [("x-amz-content-sha256", EMPTY_SHA256)];
    let lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    let verified = verify(example("GET", "/?lifecycle", HOST, &headers, signed, lifecycle)).unwrap();
    assert!(verified.query().has("lifecycle") && verified.key().is_none());

    let list = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    let verified = verify(example("GET", "/?max-keys=2&prefix=J", HOST, &headers, signed, list)).unwrap();
    assert_eq!(verified.query().to_canonical(), "max-keys=2&prefix=J");
}

#[test]
fn a_01_presigned_get() {
    let uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let parts = |uri: &str| http::Request::get(uri).header("Host", HOST).body(()).unwrap().into_parts().0;
    let verified = verify(parts(uri)).unwrap();
    assert!(is_alice(&verified) && verified.query().is_empty() && verified.payload().sha256.is_none());
    assert_eq!(code(parts(&uri.replace("404", "405"))), "SignatureDoesNotMatch");
}

#[test]
fn a_01_chunked_upload() {
    let signed = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
                  x-amz-storage-class";
    let parts = example(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "s3.amazonaws.com",
        &[
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("Content-Encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("Content-Length", "66824"),
        ],
        signed,
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let verified = verify(parts).unwrap();
    assert_eq!(verified.payload().length, Some(66560));
    assert!(!verified.headers().contains_key("content-encoding"));

    let body = [
        "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n",
        &"a".repeat(65536),
        "\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
        &"a".repeat(1024),
        "\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
    ];
    let body = body.concat();
    assert_eq!(body.len(), 66824);
    let payload = verified.into_parts().payload;
    let mut decoder = Decoder::new(payload.chunked.unwrap(), payload.length.unwrap());
    assert_eq!(read(&mut decoder, &body), "a".repeat(66560));
    assert_eq!(decoder.finish().unwrap().checksum, None);
}

#[test]
fn a_01_chunked_upload_with_trailing_headers() {
    let signed = "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
                  x-amz-storage-class;x-amz-trailer";
    let parts = example(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "s3.amazonaws.com",
        &[
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            ("Content-Encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
        ],
        signed,
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let payload = verify(parts).unwrap().into_parts().payload;
    assert_eq!(payload.trailer, Some(Algorithm::Crc32c));
    let body = [
        "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n",
        &"a".repeat(65536),
        "\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n",
        &"a".repeat(1024),
        "\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n",
        // As in the documentation's example: LF, and an empty line before the signature.
        "x-amz-checksum-crc32c:sOO8/Q==\n\r\n",
        "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    ];
    let mut decoder = Decoder::new(payload.chunked.unwrap(), 66560);
    assert_eq!(read(&mut decoder, &body.concat()), "a".repeat(66560));
    assert_eq!(decoder.finish().unwrap().checksum.unwrap().to_base64(), "sOO8/Q==");
}

fn read(decoder: &mut Decoder, body: &str) -> String {
    let mut input = Bytes::copy_from_slice(body.as_bytes());
    let mut plain = Vec::new();
    while let Some(piece) = decoder.feed(&mut input).unwrap() {
        plain.extend_from_slice(&piece);
    }
    String::from_utf8(plain).unwrap()
}

/// Signs with AWS's own crate, as the SDK does for S3.
fn signed_by_aws(
    uri: &str,
    headers: &[(&str, &str)],
    location: SignatureLocation,
    time: SystemTime,
) -> Parts {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = aws_sigv4::http_request::PayloadChecksumKind::XAmzSha256;
    settings.signature_location = location;
    settings.expires_in = Some(std::time::Duration::from_secs(60));
    let identity = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(time)
        .settings(settings)
        .build()
        .unwrap();
    let mut request = http::Request::put(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).unwrap();
    let signable =
        SignableRequest::new("PUT", uri, headers.iter().copied(), SignableBody::UnsignedPayload).unwrap();
    let (instructions, _) = sign(signable, &params.into()).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    // A client sends an absolute URI's host in the Host header.
    let mut parts = request.into_parts().0;
    let host = parts.uri.host().unwrap().to_owned();
    parts.headers.insert("host", host.parse().unwrap());
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    parts
}

proptest! {
    #[test]
    fn a_01_what_the_aws_signer_signs_verifies(
        key in "[ -~äß€]{1,30}",
        value in "[ -~é]{0,20}",
        meta in "[!-~]( {0,3}[!-~]){0,5}",
        presigned: bool,
    ) {
        let uri = format!("https://examplebucket.s3.amazonaws.com/{}?prefix={}", encode(&key, "/"), encode(&value, ""));
        let location = if presigned { SignatureLocation::QueryParams } else { SignatureLocation::Headers };
        let parts = signed_by_aws(&uri, &[("x-amz-meta-a", &meta), ("content-type", "text/plain")], location, now());
        let verified = authenticator().verify(parts, now()).unwrap();
        prop_assert_eq!(verified.key().unwrap().as_str(), key);
        prop_assert_eq!(verified.query().get("prefix"), Some(value.as_str()));
        prop_assert_eq!(verified.headers()["x-amz-meta-a"].to_str().unwrap(), meta);
        prop_assert!(is_alice(&verified));
    }
}
