//! The encryption context: what a wrapped DEK is bound to at the KMS.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use sha2::{Digest as _, Sha256};

use crate::s3::Bucket;

/// The entry that names the bucket.
///
/// It is the one that Amazon S3 sends for a Bucket Key, so a key policy written for S3 (`kms:EncryptionContext:
/// aws:s3:arn`) means the same here. Source: Amazon S3 User Guide, "Reducing the cost of SSE-KMS with Bucket Keys".
const BUCKET_ENTRY: &str = "aws:s3:arn";

/// The longest context of a client, in base64. It is kept in the object's metadata, of which S3 takes 2 KB.
const LONGEST: usize = 1536;

/// Names that begin so are AWS's own, and no client's.
const RESERVED: &str = "aws:";

/// The encryption context: names and values that a DEK is wrapped under, and must be unwrapped with.
///
/// Not secret: a KMS writes it into its audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context(BTreeMap<String, String>);

/// What a DEK is bound to at its KMS: the bucket, and the context that a client gave for an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    /// The bucket.
    pub bucket: Bucket,
    /// The client's own entries.
    pub client: Option<Context>,
}

impl Bound {
    /// All entries, as a KMS gets them.
    pub fn context(&self) -> Context {
        self.client.clone().unwrap_or_default().with(BUCKET_ENTRY, format!("arn:aws:s3:::{}", self.bucket))
    }
}

impl From<&Bucket> for Bound {
    fn from(bucket: &Bucket) -> Self {
        Self { bucket: bucket.clone(), client: None }
    }
}

/// A client's encryption context can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContext {
    /// It is something else.
    #[error("it is not the base64 of a JSON object of strings, each name once")]
    Form,
    /// It can't have room in an object's metadata.
    #[error("it is longer than {LONGEST} characters")]
    Long,
    /// It names what is not its own.
    #[error("names that begin with '{RESERVED}' are AWS's own")]
    Reserved,
}

impl Context {
    /// The context of every DEK of a bucket: `{"aws:s3:arn": "arn:aws:s3:::bucket"}`.
    pub fn of_bucket(bucket: &Bucket) -> Self {
        Bound::from(bucket).context()
    }

    /// A client's context, as `x-amz-server-side-encryption-context` has it: base64 of a JSON object of strings. `None`
    /// for an object without entries.
    ///
    /// Errors: a text that is none, in any reading that another program could have of it.
    pub fn of_client(header: &str) -> Result<Option<Self>, InvalidContext> {
        if header.len() > LONGEST {
            return Err(InvalidContext::Long);
        }
        let json = BASE64_STANDARD.decode(header).map_err(|_| InvalidContext::Form)?;
        let mut json = serde_json::Deserializer::from_slice(&json);
        let entries = json.deserialize_map(Entries).map_err(|_| InvalidContext::Form)?;
        json.end().map_err(|_| InvalidContext::Form)?;
        match entries.keys().any(|name| name.to_ascii_lowercase().starts_with(RESERVED)) {
            true => Err(InvalidContext::Reserved),
            false => Ok(Some(Self(entries)).filter(|context| !context.0.is_empty())),
        }
    }

    /// The header that [`Context::of_client`] reads, in its one form.
    pub fn to_header(&self) -> String {
        BASE64_STANDARD.encode(self.canonical())
    }

    /// What the envelope of an object keeps of it: SHA-256 of its one form.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical()).into()
    }

    /// The same context with one more entry. An entry of that name is replaced.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The entries, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The one JSON form of this context, for use as associated data.
    ///
    /// Byte for byte what MinIO hands to KES: sorted by name, no spaces, escaped as Go's `encoding/json` did when that
    /// form was fixed (`<`, `>`, `&`, U+2028 and U+2029 too; `\b` and `\f` without their short forms).
    pub fn canonical(&self) -> Vec<u8> {
        let mut json = String::from("{");
        for (name, value) in self.entries() {
            if json.len() > 1 {
                json.push(',');
            }
            quote(&mut json, name);
            json.push(':');
            quote(&mut json, value);
        }
        json.push('}');
        json.into_bytes()
    }
}

/// Reads an object of strings in which no name stands twice: another reader could take the other one.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            if entries.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(entries)
    }
}

fn quote(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(json, "\\u{:04x}", u32::from(c)).expect("a String takes every write");
            }
            _ => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_bucket() {
        let bucket = Bucket::parse("photos").unwrap();
        assert_eq!(Context::of_bucket(&bucket).canonical(), br#"{"aws:s3:arn":"arn:aws:s3:::photos"}"#);
    }

    #[test]
    fn a_clients_context_has_one_form() {
        let header = |json: &str| Context::of_client(&BASE64_STANDARD.encode(json));
        let context = header(r#" {"b":"2", "a":"\u0031é"} "#).unwrap().unwrap();
        assert_eq!(context.canonical(), r#"{"a":"1é","b":"2"}"#.as_bytes());
        assert_eq!(Context::of_client(&context.to_header()).unwrap(), Some(context.clone()));
        let other = header(r#"{"a":"1é","b":"3"}"#).unwrap().unwrap();
        assert_ne!(context.digest(), other.digest());
        assert_eq!(header("{}").unwrap(), None);
        for wrong in
            ["", "[]", "\"a\"", r#"{"a":1}"#, r#"{"a":"1","a":"1"}"#, r#"{"a":"1"} x"#, r#"{"a":{"b":"c"}}"#]
        {
            assert_eq!(header(wrong).unwrap_err(), InvalidContext::Form, "{wrong}");
        }
        assert_eq!(header(r#"{"aws:s3:arn":"x"}"#).unwrap_err(), InvalidContext::Reserved);
        assert_eq!(header(r#"{"AWS:x":"y"}"#).unwrap_err(), InvalidContext::Reserved);
        assert_eq!(header(&format!(r#"{{"a":"{}"}}"#, "b".repeat(1200))).unwrap_err(), InvalidContext::Long);
        assert_eq!(Context::of_client("not base64!").unwrap_err(), InvalidContext::Form);
    }

    #[test]
    fn a_clients_entries_stand_beside_the_buckets() {
        let client = Some(Context::default().with("z", "1"));
        let bound = Bound { bucket: Bucket::parse("photos").unwrap(), client };
        assert_eq!(bound.context().canonical(), br#"{"aws:s3:arn":"arn:aws:s3:::photos","z":"1"}"#);
    }

    /// Expected from the rule of `internal/kms/context.go` in minio/minio.
    #[test]
    fn canonical_form() {
        let context = |entries: &[(&str, &str)]| {
            entries.iter().fold(Context::default(), |context, (name, value)| context.with(*name, *value))
        };
        for (entries, expected) in [
            (&[][..], r#"{}"#),
            (&[("a", "b")], r#"{"a":"b"}"#),
            (&[("", "")], r#"{"":""}"#),
            (&[("B", "2"), ("A", "1"), ("b", "3"), ("a", "4")], r#"{"A":"1","B":"2","a":"4","b":"3"}"#),
            (
                &[("<a>", "&\u{2028}\u{8}\u{1f}\u{7f}é")],
                "{\"\\u003ca\\u003e\":\"\\u0026\\u2028\\u0008\\u001f\u{7f}é\"}",
            ),
            (&[("\"\\", "\n\r\t")], r#"{"\"\\":"\n\r\t"}"#),
        ] {
            assert_eq!(String::from_utf8(context(entries).canonical()).unwrap(), expected);
        }
    }
}
