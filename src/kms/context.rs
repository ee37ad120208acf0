//! The encryption context: what a wrapped DEK is bound to at the KMS.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::s3::Bucket;

/// The entry that names the bucket.
///
/// It is the one that Amazon S3 sends for a Bucket Key, so a key policy written for S3 (`kms:EncryptionContext:
/// aws:s3:arn`) means the same here. Source: Amazon S3 User Guide, "Reducing the cost of SSE-KMS with Bucket Keys".
const BUCKET_ENTRY: &str = "aws:s3:arn";

/// The encryption context: names and values that a DEK is wrapped under, and must be unwrapped with.
///
/// Not secret: a KMS writes it into its audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, String>);

impl Context {
    /// The context of every DEK of a bucket: `{"aws:s3:arn": "arn:aws:s3:::bucket"}`.
    pub fn of_bucket(bucket: &Bucket) -> Self {
        Self::default().with(BUCKET_ENTRY, format!("arn:aws:s3:::{bucket}"))
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
