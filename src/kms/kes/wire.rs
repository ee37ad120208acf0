//! What KES is asked and what it answers: paths, JSON, and what each error means.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::kms::rest::Reply;
use crate::kms::{Context, EkName, Error, WrappedDek};
use crate::secret::Secret;

/// The path of an operation on a key. A name needs no escaping.
pub(super) fn path(operation: &str, ek: &EkName) -> String {
    format!("/v1/key/{operation}/{ek}")
}

#[derive(Serialize)]
pub(super) struct Generate {
    context: String,
}

impl Generate {
    pub(super) fn new(context: &Context) -> Self {
        Self { context: BASE64_STANDARD.encode(context.canonical()) }
    }
}

#[derive(Deserialize)]
pub(super) struct Generated {
    pub(super) plaintext: Secret,
    pub(super) ciphertext: Secret,
}

#[derive(Serialize)]
pub(super) struct Decrypt {
    ciphertext: String,
    context: String,
}

impl Decrypt {
    pub(super) fn new(wrapped: &WrappedDek, context: &Context) -> Self {
        Self {
            ciphertext: BASE64_STANDARD.encode(wrapped.as_bytes()),
            context: BASE64_STANDARD.encode(context.canonical()),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Decrypted {
    pub(super) plaintext: Secret,
}

#[derive(Deserialize)]
pub(super) struct Described {
    pub(super) name: String,
    /// RFC 3339.
    pub(super) created_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Listed {
    /// Go writes an empty list as `null`.
    #[serde(default)]
    pub(super) names: Option<Vec<String>>,
    #[serde(default)]
    pub(super) continue_at: String,
}

/// An error as KES writes it; older versions under the other name.
#[derive(Deserialize)]
struct Failure {
    #[serde(alias = "error")]
    message: String,
}

/// What an answer that is not 200 means.
///
/// The text decides, for KES gives one status to several errors, and 404 also comes from anything else that
/// listens there: an EK must not count as erased because of a wrong port. Source: minio/kms-go, `kes/error.go`; other texts are
/// those of older versions.
pub(super) fn error(reply: &Reply, ek: Option<&EkName>) -> Error {
    let message = reply.json::<Failure>().map(|failure| failure.message).unwrap_or_default();
    meaning(reply.status, message.trim(), ek).unwrap_or_else(|| Error::Unavailable(reply.summary()))
}

fn meaning(status: StatusCode, message: &str, ek: Option<&EkName>) -> Option<Error> {
    match (message, ek) {
        ("key does not exist", Some(ek)) => Some(Error::NoSuchKey(ek.clone())),
        ("key already exists" | "key does already exist", Some(ek)) => Some(Error::Exists(ek.clone())),
        ("decryption failed: ciphertext is not authentic", _) => {
            Some(Error::Malformed("a DEK that KES did not wrap with this key and context".into()))
        }
        _ if message.starts_with("tls: ") || message.starts_with("insecure connection") => {
            Some(Error::Denied(format!("KES: {message}")))
        }
        // "not authorized: insufficient permissions", once "prohibited by policy"; a proxy before KES says neither.
        _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            let what = if message.is_empty() { status.as_str() } else { message };
            Some(Error::Denied(format!("KES: {what}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_status_and_text() {
        let ek = EkName::parse("my-key").unwrap();
        let of =
            |status: u16, message: &str| meaning(StatusCode::from_u16(status).unwrap(), message, Some(&ek));
        assert_eq!(of(404, "key does not exist"), Some(Error::NoSuchKey(ek.clone())));
        for text in ["key already exists", "key does already exist"] {
            assert_eq!(of(400, text), Some(Error::Exists(ek.clone())));
        }
        let denied = |error| matches!(error, Some(Error::Denied(_)));
        for text in ["not authorized: insufficient permissions", "prohibited by policy", ""] {
            assert!(denied(of(403, text)), "{text}");
        }
        assert!(denied(of(400, "tls: client certificate is required")));
        let tampered = of(400, "decryption failed: ciphertext is not authentic");
        assert!(matches!(tampered, Some(Error::Malformed(_))));
        // Not KES's word that the key is gone.
        for text in ["", "enclave does not exist", "404 page not found"] {
            assert_eq!(of(404, text), None, "{text}");
        }
    }
}
