//! A browser's form, signed or not, right or not.
#![allow(dead_code)] // Each test file uses its own part.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::{Value, json};

use super::client::{Reply, exchange, full};
use super::proxy::{ACCESS_KEY, SECRET_KEY};

pub const BOUNDARY: &str = "----s3veilFormBoundary7MA4YWxkTrZu0gW";
const DATE: &str = "20260101T000000Z";
const SCOPE: &str = "20260101/us-east-1/s3/aws4_request";

/// A form: fields, a file, and fields behind it.
#[derive(Clone, Debug, Default)]
pub struct Form {
    fields: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    behind: Vec<(String, String)>,
}

impl Form {
    pub fn new(key: &str) -> Self {
        Self::default().field("key", key)
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn file(mut self, filename: &str, bytes: &[u8]) -> Self {
        self.files.push((filename.to_owned(), bytes.to_vec()));
        self
    }

    pub fn behind(mut self, name: &str, value: &str) -> Self {
        self.behind.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without the fields of a name.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(other, _)| other != name);
        self
    }

    /// Other values for the fields of a name.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields
            .iter_mut()
            .filter(|(other, _)| other == name)
            .for_each(|(_, old)| *old = value.to_owned());
        self
    }

    /// Signed for bucket `b`, with a condition for each of its fields, and more.
    pub fn signed(self, more: &[Value]) -> Self {
        let exact = self.fields.iter().map(|(name, value)| json!({ name.as_str(): value }));
        let conditions: Vec<Value> =
            [json!({ "bucket": "b" })].into_iter().chain(exact).chain(more.iter().cloned()).collect();
        self.signed_by(&json!({ "expiration": "2100-01-01T00:00:00Z", "conditions": conditions }))
    }

    /// Signed with this policy, and the conditions for the signature's own fields.
    pub fn signed_by(self, policy: &Value) -> Self {
        let credential = format!("{ACCESS_KEY}/{SCOPE}");
        let own = [
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", &credential),
            ("x-amz-date", DATE),
        ];
        let mut policy = policy.clone();
        if let Some(conditions) = policy["conditions"].as_array_mut() {
            conditions.extend(own.map(|(name, value)| json!({ name: value })));
        }
        let policy = STANDARD.encode(policy.to_string());
        let signature = hex::encode(signature(&policy));
        let form = own.into_iter().fold(self, |form, (name, value)| form.field(name, value));
        form.field("policy", &policy).field("x-amz-signature", &signature)
    }

    /// Signed with Signature Version 2.
    pub fn signed_the_old_way(self) -> Self {
        let exact = self.fields.iter().map(|(name, value)| json!({ name.as_str(): value }));
        let conditions: Vec<Value> = [json!({ "bucket": "b" })].into_iter().chain(exact).collect();
        let policy = json!({ "expiration": "2100-01-01T00:00:00Z", "conditions": conditions });
        let policy = STANDARD.encode(policy.to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET_KEY.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, policy.as_bytes()));
        self.field("AWSAccessKeyId", ACCESS_KEY).field("policy", &policy).field("signature", &signature)
    }

    /// As it goes over the wire.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut part = |disposition: &str, value: &[u8]| {
            body.extend_from_slice(
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        };
        self.fields.iter().for_each(|(name, value)| part(&format!("name=\"{name}\""), value.as_bytes()));
        for (filename, bytes) in &self.files {
            let kind = "Content-Type: application/octet-stream";
            part(&format!("name=\"file\"; filename=\"{filename}\"\r\n{kind}"), bytes);
        }
        self.behind.iter().for_each(|(name, value)| part(&format!("name=\"{name}\""), value.as_bytes()));
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        body
    }

    /// Posts it to bucket `b`, as a browser does: the request itself is not signed.
    pub async fn post(&self, to: SocketAddr) -> Reply {
        post(to, self.body()).await
    }
}

/// Posts a body as a form.
pub async fn post(to: SocketAddr, body: Vec<u8>) -> Reply {
    let request = Request::post("/b")
        .header("host", to.to_string())
        .header("content-type", content_type())
        .header("content-length", body.len())
        .body(full(body));
    exchange(to, request.unwrap()).await.expect("an answer")
}

pub fn content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

fn signature(policy: &str) -> Vec<u8> {
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let seed = format!("AWS4{SECRET_KEY}").into_bytes();
    let key = SCOPE.split('/').fold(seed, |key, step| sign(&key, step));
    sign(&key, policy)
}
