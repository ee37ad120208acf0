//! A signer of requests, written from S3's documentation: what it shares with s3veil is only the specification.

use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, hmac};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3veil::auth::{Authenticator, Config, IdentityConfig, Mode};

pub(super) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(super) const TIME: &str = "20130524T000000Z";
pub(super) const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// All but RFC 3986's unreserved characters.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// The second that everything here is signed in.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
}

/// One that knows AWS's example key, or trusts everybody.
pub(super) fn authenticator(mode: Mode) -> Authenticator {
    let alice = IdentityConfig {
        name: "alice".into(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        session_token: None,
        store: None,
    };
    let config = Config {
        mode,
        region: "us-east-1".into(),
        domains: vec!["s3.amazonaws.com".into()],
        sigv2_forms: true,
        identities: vec![alice],
    };
    config.build().expect("a good configuration")
}

/// A request to be signed, decoded.
pub(super) struct Draft {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// No name twice.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Draft {
    /// Signed in the Authorization header, with this payload hash. `None` for what can't be sent.
    pub(super) fn signed(mut self, content_sha256: &str) -> Option<Parts> {
        self.headers.push((HeaderName::from_static("x-amz-date"), HeaderValue::from_static(TIME)));
        let hash = HeaderValue::from_str(content_sha256).ok()?;
        self.headers.push((HeaderName::from_static("x-amz-content-sha256"), hash));
        let (names, signature) = self.sign(content_sha256);
        let authorization = format!(
            "{ALGORITHM} Credential={ACCESS_KEY}/{SCOPE}, SignedHeaders={names}, Signature={signature}"
        );
        let authorization = HeaderValue::from_str(&authorization).ok()?;
        self.headers.push((HeaderName::from_static("authorization"), authorization));
        self.parts()
    }

    /// Signed in the query, where a payload hash may stand.
    pub(super) fn presigned(mut self) -> Option<Parts> {
        let own = [
            ("X-Amz-Algorithm", ALGORITHM.to_owned()),
            ("X-Amz-Credential", format!("{ACCESS_KEY}/{SCOPE}")),
            ("X-Amz-Date", TIME.to_owned()),
            ("X-Amz-Expires", "60".to_owned()),
            ("X-Amz-SignedHeaders", self.names()),
        ];
        self.query.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let hash = self.query.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-amz-content-sha256"));
        let hash = hash.map_or("UNSIGNED-PAYLOAD".to_owned(), |(_, hash)| hash.clone());
        let (_, signature) = self.sign(&hash);
        self.query.push(("X-Amz-Signature".to_owned(), signature));
        self.parts()
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.join(";")
    }

    fn sign(&self, content_sha256: &str) -> (String, String) {
        let names = self.names();
        let mut query = self.encoded_query();
        query.sort_unstable();
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = utf8_percent_encode(&self.path, PATH);
        let mut canonical = format!("{}\n{path}\n{}\n", self.method, query.join("&")).into_bytes();
        for name in names.split(';') {
            let (_, value) = self.headers.iter().find(|(other, _)| other == name).expect("one of them");
            canonical.extend([name.as_bytes(), b":", &words(value.as_bytes()), b"\n"].concat());
        }
        canonical.extend(format!("\n{names}\n{content_sha256}").bytes());
        let hash = hex::encode(digest::digest(&digest::SHA256, &canonical));
        let signature = sign_text(&format!("{ALGORITHM}\n{TIME}\n{SCOPE}\n{hash}"));
        (names, signature)
    }

    fn encoded_query(&self) -> Vec<(String, String)> {
        let encode = |text: &String| utf8_percent_encode(text, COMPONENT).to_string();
        self.query.iter().map(|(name, value)| (encode(name), encode(value))).collect()
    }

    fn parts(self) -> Option<Parts> {
        let query: Vec<String> =
            self.encoded_query().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let uri = format!("{}?{}", utf8_percent_encode(&self.path, PATH), query.join("&"));
        let (mut parts, ()) = Request::builder().method(self.method).uri(uri).body(()).ok()?.into_parts();
        parts.headers.extend(self.headers);
        Some(parts)
    }
}

/// A header's value as it is signed: with one space between its words, and none around them.
pub(super) fn words(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t'));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(&b' ')
}

/// The signature of a text under the scope.
pub(super) fn sign_text(text: &str) -> String {
    let sign =
        |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec();
    let seed = format!("AWS4{SECRET_KEY}").into_bytes();
    let key = SCOPE.split('/').fold(seed, |key, step| sign(&key, step.as_bytes()));
    hex::encode(sign(&key, text.as_bytes()))
}
