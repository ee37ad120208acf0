//! The document of PutBucketEncryption. Input: the document.
//!
//! Holds: what was understood, written again, is understood the same.

use s3veil::s3::Code;
use s3veil::s3::bucket_encryption::BucketEncryption;

use super::input::keeps_in_xml;

/// Reads a document, and writes what it says.
pub fn run(data: &[u8]) {
    let read = match BucketEncryption::parse(data) {
        Ok(read) => read,
        Err(error) => {
            let codes = [Code::MalformedXML, Code::InvalidArgument, Code::NotImplemented];
            return assert!(codes.contains(&error.code()));
        }
    };
    let id = read.key_id.as_deref().unwrap_or("none");
    assert!(!id.is_empty() && (read.kms || read.key_id.is_none()));
    if keeps_in_xml(id) && id.trim() == id {
        assert_eq!(BucketEncryption::parse(read.to_xml().as_bytes()).expect("written well"), read);
    }
}

/// Documents of every kind, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let by = |inner: &str| {
        format!(
            "<ServerSideEncryptionConfiguration xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Rule>\
             <ApplyServerSideEncryptionByDefault>{inner}</Rule></ServerSideEncryptionConfiguration>"
        )
    };
    let end = "</ApplyServerSideEncryptionByDefault>";
    [
        by(&format!("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>a&amp;b</KMSMasterKeyID>{end}")),
        by(&format!("<SSEAlgorithm>AES256</SSEAlgorithm>{end}<BucketKeyEnabled>true</BucketKeyEnabled>")),
        by(&format!(
            "<SSEAlgorithm>aws:kms</SSEAlgorithm>{end}<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType>\
             </BlockedEncryptionTypes>"
        )),
        by(&format!("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>{end}")),
        by(&format!("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>{end}")),
        by(end),
        "<ServerSideEncryptionConfiguration/>".to_owned(),
        "<c><Rule/><Rule/></c>".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}
