//! A small signer of its own, written from S3's documentation: what it shares with the proxy is only the specification.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use s3veil::auth::{Authenticator, Config, IdentityConfig, Mode, Verified};
use s3veil::s3::Result;
use sha2::{Digest, Sha256};

pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub const TIME: &str = "20130524T000000Z";
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// 20130524T000000Z
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
}

/// One identity, alice, with AWS's example keys; virtual hosts under s3.amazonaws.com.
pub fn config() -> Config {
    let alice = IdentityConfig {
        name: "alice".into(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        session_token: None,
        store: Some("backend".into()),
    };
    Config {
        mode: Mode::Sigv4,
        region: "us-east-1".into(),
        domains: vec!["s3.amazonaws.com".into()],
        identities: vec![alice],
        ..Config::default()
    }
}

pub fn authenticator() -> Authenticator {
    config().build().unwrap()
}

pub fn trusted() -> Authenticator {
    Config { mode: Mode::Trusted, ..Config::default() }.build().unwrap()
}

pub fn verify(parts: Parts) -> Result<Verified> {
    authenticator().verify(parts, now())
}

/// The code of the error that a request must give.
pub fn code(parts: Parts) -> &'static str {
    code_at(&authenticator(), parts)
}

pub fn code_at(authenticator: &Authenticator, parts: Parts) -> &'static str {
    let error = authenticator
        .verify(parts, now())
        .map(|verified| format!("{verified:?}"))
        .expect_err("must be refused");
    error.code().as_str()
}

/// A request to be signed, and every part of its signature that a test may want wrong.
#[derive(Clone)]
pub struct Draft {
    pub method: &'static str,
    /// The path, decoded; and as sent, if not in S3's own encoding.
    pub path: String,
    pub raw_path: Option<String>,
    pub query: Vec<(String, String)>,
    pub raw_query: Option<String>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// Names not to sign, though they are there; and names to sign, though they are not.
    pub unsigned: Vec<&'static str>,
    pub also_signed: Vec<&'static str>,
    pub access_key: String,
    pub secret: String,
    pub time: String,
    pub day: String,
    pub region: String,
    pub service: String,
    pub terminator: String,
    pub algorithm: String,
    pub content_sha256: Option<String>,
}

impl Draft {
    pub fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.into(),
            raw_path: None,
            query: Vec::new(),
            raw_query: None,
            headers: vec![("host".into(), b"s3.amazonaws.com".to_vec())],
            unsigned: Vec::new(),
            also_signed: Vec::new(),
            access_key: ACCESS_KEY.into(),
            secret: SECRET_KEY.into(),
            time: TIME.into(),
            day: TIME[..8].into(),
            region: "us-east-1".into(),
            service: "s3".into(),
            terminator: "aws4_request".into(),
            algorithm: "AWS4-HMAC-SHA256".into(),
            content_sha256: Some("UNSIGNED-PAYLOAD".into()),
        }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.headers[0].1 = host.into();
        self
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    pub fn content_sha256(mut self, value: &str) -> Self {
        self.content_sha256 = Some(value.into());
        self
    }

    pub fn unsigned(mut self, name: &'static str) -> Self {
        self.unsigned.push(name);
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Not signed at all.
    pub fn plain(self) -> Parts {
        self.parts(&self.query)
    }

    /// Signed in the Authorization header.
    pub fn signed(self) -> Parts {
        self.signed_with_seed().0
    }

    /// The same, with the signature.
    pub fn signed_with_seed(mut self) -> (Parts, String) {
        self.headers.push(("x-amz-date".into(), self.time.clone().into()));
        if let Some(value) = self.content_sha256.clone() {
            self.headers.push(("x-amz-content-sha256".into(), value.into()));
        }
        let names = self.signed_names();
        let hash = self.content_sha256.clone().unwrap_or_default();
        let signature = self.sign(&self.query, &names, &hash);
        let authorization = format!(
            "{} Credential={}/{},SignedHeaders={names},Signature={signature}",
            self.algorithm,
            self.access_key,
            self.scope(),
        );
        self.headers.push(("authorization".into(), authorization.into()));
        let query = self.query.clone();
        (self.parts(&query), signature)
    }

    /// Signed in the query.
    pub fn presigned(self, expires: &str) -> Parts {
        let names = self.signed_names();
        let mut query = self.query.clone();
        let own = [
            ("X-Amz-Algorithm", self.algorithm.clone()),
            ("X-Amz-Credential", format!("{}/{}", self.access_key, self.scope())),
            ("X-Amz-Date", self.time.clone()),
            ("X-Amz-Expires", expires.into()),
            ("X-Amz-SignedHeaders", names.clone()),
        ];
        query.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let signature =
            self.sign(&query, &names, self.content_sha256.as_deref().unwrap_or("UNSIGNED-PAYLOAD"));
        query.push(("X-Amz-Signature".into(), signature));
        self.parts(&query)
    }

    fn scope(&self) -> String {
        [self.day.as_str(), &self.region, &self.service, &self.terminator].join("/")
    }

    fn signed_names(&self) -> String {
        let mut names: Vec<String> = self.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.retain(|name| !self.unsigned.contains(&name.as_str()));
        names.extend(self.also_signed.iter().map(|name| name.to_string()));
        names.sort();
        names.dedup();
        names.join(";")
    }

    fn sign(&self, query: &[(String, String)], names: &str, hash: &str) -> String {
        let mut pairs: Vec<String> =
            query.iter().map(|(n, v)| format!("{}={}", encode(n, ""), encode(v, ""))).collect();
        pairs.sort_by_key(|pair| pair.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())));
        let mut canonical =
            format!("{}\n{}\n{}\n", self.method, encode(&self.path, "/"), pairs.join("&")).into_bytes();
        for name in names.split(';') {
            let values: Vec<&[u8]> = self
                .headers
                .iter()
                .filter(|(n, _)| n.to_lowercase() == name)
                .map(|(_, v)| v.as_slice())
                .collect();
            canonical.extend([name.as_bytes(), b":", &values.join(&b','), b"\n"].concat());
        }
        canonical.extend(format!("\n{names}\n{hash}").bytes());
        let digest = hex::encode(Sha256::digest(&canonical));
        self.sign_text(&format!("{}\n{}\n{}\n{digest}", self.algorithm, self.time, self.scope()))
    }

    /// The signature of any string to sign under this draft's scope.
    pub fn sign_text(&self, text: &str) -> String {
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in [&self.day, &self.region, &self.service, &self.terminator] {
            key = hmac(&key, step.as_bytes());
        }
        hex::encode(hmac(&key, text.as_bytes()))
    }

    fn parts(&self, query: &[(String, String)]) -> Parts {
        let path = self.raw_path.clone().unwrap_or_else(|| encode(&self.path, "/"));
        let encoded: Vec<String> =
            query.iter().map(|(n, v)| format!("{}={}", encode(n, ""), encode(v, ""))).collect();
        let query = self.raw_query.clone().unwrap_or_else(|| encoded.join("&"));
        let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
        let (mut parts, ()) = Request::builder().method(self.method).uri(uri).body(()).unwrap().into_parts();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            parts.headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        parts
    }
}

pub fn encode(text: &str, keep: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || "-._~".contains(byte as char) || keep.contains(byte as char) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// Chunks of a body, signed in a chain from the seed.
pub fn signed_chunks(draft: &Draft, seed: &str, chunks: &[&[u8]]) -> (Vec<u8>, String) {
    let mut previous = seed.to_owned();
    let mut body = Vec::new();
    for chunk in chunks.iter().chain([&&b""[..]]) {
        let scope = [draft.day.as_str(), &draft.region, "s3", "aws4_request"].join("/");
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{scope}\n{previous}\n{EMPTY_SHA256}\n{}",
            draft.time,
            sha256(chunk)
        );
        previous = draft.sign_text(&text);
        body.extend(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).bytes());
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    (body, previous)
}

/// The trailer section after signed chunks.
pub fn signed_trailer(draft: &Draft, previous: &str, trailer: &str) -> Vec<u8> {
    let scope = [draft.day.as_str(), &draft.region, "s3", "aws4_request"].join("/");
    let hash = sha256(format!("{trailer}\n"));
    let text = format!("AWS4-HMAC-SHA256-TRAILER\n{}\n{scope}\n{previous}\n{hash}", draft.time);
    format!("{trailer}\r\nx-amz-trailer-signature:{}\r\n\r\n", draft.sign_text(&text)).into_bytes()
}
