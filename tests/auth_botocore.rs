//! requests that botocore made (tests/vectors/record_botocore.py): awscli and boto3 send these.

mod auth_support;

use std::collections::HashMap;

use auth_support::{sha256, verify};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use s3veil::auth::{Payload, SignedForm, Who};
use s3veil::body::chunked::Decoder;
use s3veil::s3::checksum::{Checksum, Hasher};
use s3veil::secret::SecretSource;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    requests: Vec<Vector>,
    forms: Vec<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    bucket: String,
    key: Option<String>,
    body: String,
}

#[test]
fn a_01_what_botocore_sends_verifies() {
    let requests = vectors().requests;
    assert!(requests.len() > 100);
    for vector in requests {
        let name = format!("{} {:?}", vector.name, vector.key);
        let parts = parts(&vector);
        let mut changed = parts.clone();
        changed.method = http::Method::PATCH;

        let verified = verify(parts).unwrap_or_else(|error| panic!("{name}: {error}")).into_parts();
        assert!(matches!(&verified.who, Who::Identity(alice) if alice.name == "alice"), "{name}");
        assert_eq!(verified.bucket.unwrap().as_str(), vector.bucket, "{name}");
        assert_eq!(verified.key.as_ref().map(|key| key.as_str()), vector.key.as_deref(), "{name}");
        check_body(verified.payload, STANDARD.decode(&vector.body).unwrap(), &name);

        assert!(verify(changed).is_err(), "{name}");
    }
}

#[test]
fn a_01_botocore_forms_verify() {
    for form in vectors().forms {
        let field = |name: &str| form.get(name).map(String::as_str);
        let mut config = auth_support::config();
        config.identities[0].session_token = field("x-amz-security-token").map(SecretSource::from);
        let authenticator = config.build().unwrap();
        let good = SignedForm {
            policy: field("policy").unwrap(),
            algorithm: field("x-amz-algorithm").unwrap(),
            credential: field("x-amz-credential").unwrap(),
            date: field("x-amz-date").unwrap(),
            signature: field("x-amz-signature").unwrap(),
            token: field("x-amz-security-token"),
        };
        assert!(
            matches!(authenticator.verify_form(&good).unwrap(), Who::Identity(who) if who.name == "alice")
        );
        for (bad, code) in [
            (SignedForm { policy: &good.policy[4..], ..good }, "SignatureDoesNotMatch"),
            (SignedForm { algorithm: "AWS4-HMAC-SHA1", ..good }, "InvalidRequest"),
            (
                SignedForm { credential: "AK/20130524/us-east-1/s3/aws4_request", ..good },
                "InvalidAccessKeyId",
            ),
            (
                SignedForm { credential: &good.credential.replace("us-east-1", "x"), ..good },
                "InvalidArgument",
            ),
            (SignedForm { date: "20130525T000000Z", ..good }, "InvalidArgument"),
            (SignedForm { signature: "", ..good }, "InvalidArgument"),
            (SignedForm { token: Some("other"), ..good }, "InvalidToken"),
        ] {
            assert_eq!(authenticator.verify_form(&bad).unwrap_err().code().as_str(), code, "{bad:?}");
        }
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/botocore.json")).unwrap()
}

/// The request as it is on the wire: the URL's host goes into Host.
fn parts(vector: &Vector) -> http::request::Parts {
    let url: http::Uri = vector.url.parse().unwrap();
    let mut request = http::Request::builder().method(vector.method.as_str());
    request = request.uri(url.path_and_query().unwrap().as_str()).header("host", url.host().unwrap());
    for (name, value) in &vector.headers {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn check_body(payload: Payload, body: Vec<u8>, name: &str) {
    let (plain, trailer) = match payload.chunked {
        Some(chunked) => decode(Decoder::new(chunked, payload.length.unwrap()), body),
        None => (body, None),
    };
    if let Some(hash) = payload.sha256 {
        assert_eq!(hex::encode(hash), sha256(&plain), "{name}");
    }
    assert_eq!(payload.trailer, trailer.as_ref().map(Checksum::algorithm), "{name}");
    for given in payload.checksum.into_iter().chain(trailer) {
        let mut hasher = Hasher::new(given.algorithm());
        hasher.update(&plain);
        assert_eq!(hasher.finish(), given, "{name}");
    }
}

fn decode(mut decoder: Decoder, body: Vec<u8>) -> (Vec<u8>, Option<Checksum>) {
    let mut input = Bytes::from(body);
    let mut plain = Vec::new();
    while let Some(piece) = decoder.feed(&mut input).unwrap() {
        plain.extend_from_slice(&piece);
    }
    (plain, decoder.finish().unwrap().checksum)
}
