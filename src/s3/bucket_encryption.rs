//! The document of PutBucketEncryption and GetBucketEncryption.
//!
//! Source: Amazon S3 API Reference, PutBucketEncryption, ServerSideEncryptionConfiguration.

use serde::{Deserialize, Serialize};

use super::multipart::{NAMESPACE, from_client};
use super::xml::push;
use super::{Code, Error, Result};

/// A bucket's default encryption, as S3's document says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct BucketEncryption {
    /// `aws:kms` if true, `AES256` if not.
    pub kms: bool,
    /// `KMSMasterKeyID`, as the client wrote it.
    pub key_id: Option<String>,
    /// `BucketKeyEnabled`.
    pub bucket_key: bool,
    /// Whether `BlockedEncryptionTypes` names SSE-C.
    pub customer_keys_blocked: bool,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "ApplyServerSideEncryptionByDefault")]
    apply: Option<Apply>,
    #[serde(rename = "BucketKeyEnabled")]
    bucket_key: Option<bool>,
    #[serde(rename = "BlockedEncryptionTypes")]
    blocked: Option<Blocked>,
}

#[derive(Deserialize)]
struct Apply {
    #[serde(rename = "SSEAlgorithm")]
    algorithm: String,
    #[serde(rename = "KMSMasterKeyID")]
    key_id: Option<String>,
}

#[derive(Deserialize)]
struct Blocked {
    #[serde(rename = "EncryptionType", default)]
    types: Vec<String>,
}

impl BucketEncryption {
    /// Reads a client's document.
    ///
    /// Errors: MalformedXML; InvalidArgument for a method that is not served, or a key that does not go with it.
    pub fn parse(document: &[u8]) -> Result<Self> {
        let mut rules = from_client::<Configuration>(document)?.rules.into_iter();
        let (Some(Rule { apply: Some(apply), bucket_key, blocked }), None) = (rules.next(), rules.next())
        else {
            return Err(malformed());
        };
        let key_id = apply.key_id.filter(|id| !id.is_empty());
        let kms = match apply.algorithm.as_str() {
            "aws:kms" => true,
            "AES256" if key_id.is_none() => false,
            "AES256" => {
                return Err(Error::new(
                    Code::InvalidArgument,
                    "A KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms. Remove it.",
                ));
            }
            "aws:kms:dsse" => {
                return Err(Error::new(
                    Code::NotImplemented,
                    "aws:kms:dsse is not served: objects are sealed once. Use aws:kms.",
                ));
            }
            _ => return Err(malformed()),
        };
        let customer_keys_blocked = match blocked.map(|blocked| blocked.types).unwrap_or_default().as_slice()
        {
            [] => false,
            [one] if one == "NONE" => false,
            all if all.iter().all(|one| one == "SSE-C") => true,
            _ => return Err(malformed()),
        };
        Ok(Self { kms, key_id, bucket_key: bucket_key.unwrap_or(false), customer_keys_blocked })
    }

    /// The document of GetBucketEncryption.
    pub fn to_xml(&self) -> String {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ServerSideEncryptionConfiguration xmlns=\"{NAMESPACE}\"><Rule>\
             <ApplyServerSideEncryptionByDefault>"
        );
        push(&mut xml, "SSEAlgorithm", if self.kms { "aws:kms" } else { "AES256" });
        if let Some(id) = &self.key_id {
            push(&mut xml, "KMSMasterKeyID", id);
        }
        xml.push_str("</ApplyServerSideEncryptionByDefault>");
        push(&mut xml, "BucketKeyEnabled", if self.bucket_key { "true" } else { "false" });
        if self.customer_keys_blocked {
            xml.push_str(
                "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>",
            );
        }
        xml.push_str("</Rule></ServerSideEncryptionConfiguration>");
        xml
    }
}

fn malformed() -> Error {
    Error::new(
        Code::MalformedXML,
        "The XML you provided was not well-formed or did not validate against our published schema: one Rule with an \
         ApplyServerSideEncryptionByDefault, its SSEAlgorithm aws:kms or AES256.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(inner: &str) -> Result<BucketEncryption> {
        let text = format!(
            "<ServerSideEncryptionConfiguration xmlns='{NAMESPACE}'><Rule>{inner}</Rule></ServerSideEncryptionConfiguration>"
        );
        BucketEncryption::parse(text.as_bytes())
    }

    fn by(inner: &str) -> Result<BucketEncryption> {
        rule(&format!("<ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault>"))
    }

    #[test]
    fn a_document_comes_back_as_it_was_meant() {
        let kms = by("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>a&amp;b</KMSMasterKeyID>").unwrap();
        assert_eq!((kms.kms, kms.key_id.as_deref(), kms.bucket_key), (true, Some("a&b"), false));
        let all = rule(
            "<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>\
             <BucketKeyEnabled>true</BucketKeyEnabled>\
             <BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>",
        )
        .unwrap();
        assert!(!all.kms && all.bucket_key && all.customer_keys_blocked);
        for one in [kms, all] {
            assert_eq!(BucketEncryption::parse(one.to_xml().as_bytes()).unwrap(), one);
        }
    }

    #[test]
    fn what_s3_does_not_take() {
        for (document, code) in [
            (by("<SSEAlgorithm>rot13</SSEAlgorithm>"), Code::MalformedXML),
            (by(""), Code::MalformedXML),
            (rule(""), Code::MalformedXML),
            (
                by("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"),
                Code::InvalidArgument,
            ),
            (by("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>"), Code::NotImplemented),
            (BucketEncryption::parse(b""), Code::MalformedXML),
            (BucketEncryption::parse(b"<ServerSideEncryptionConfiguration/>"), Code::MalformedXML),
        ] {
            assert_eq!(document.unwrap_err().code(), code);
        }
    }
}
