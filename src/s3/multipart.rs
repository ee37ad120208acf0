//! The documents of multipart uploads, as clients and stores write them.
//!
//! Source: Amazon S3 API Reference, CreateMultipartUpload, CompleteMultipartUpload, ListParts, CopyObject.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::checksum::{Algorithm, Checksum};
use super::query::encode_path;
use super::xml::{push, writable};
use super::{Code, Error, Result};

/// S3's namespace.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The most parts of an upload (S3), of which s3veil needs one.
pub const MAX_PARTS: usize = 10_000;

/// A store's answer to CreateMultipartUpload.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Initiated {
    /// The upload's id.
    pub upload_id: String,
}

/// Our answer to CreateMultipartUpload.
#[derive(Debug, Serialize)]
#[serde(rename = "InitiateMultipartUploadResult", rename_all = "PascalCase")]
pub struct InitiateResult<'a> {
    #[serde(rename = "@xmlns")]
    xmlns: &'static str,
    bucket: &'a str,
    key: &'a str,
    upload_id: &'a str,
}

impl<'a> InitiateResult<'a> {
    /// An upload of this id.
    pub fn new(bucket: &'a str, key: &'a str, upload_id: &'a str) -> Self {
        Self { xmlns: NAMESPACE, bucket, key, upload_id }
    }
}

/// The list that a client completes an upload with.
#[derive(Debug, Deserialize)]
pub struct CompleteRequest {
    /// Its parts, in the client's order.
    #[serde(rename = "Part", default, deserialize_with = "few")]
    pub parts: Vec<CompletedPart>,
}

/// As many parts as an upload can have: an element takes many times more room when it is read than in the document.
fn few<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<CompletedPart>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<CompletedPart>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_PARTS} parts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> std::result::Result<Self::Value, A::Error> {
            let mut parts = Vec::new();
            while let Some(part) = from.next_element()? {
                if parts.len() == MAX_PARTS {
                    return Err(A::Error::invalid_length(parts.len() + 1, &self));
                }
                parts.push(part);
            }
            Ok(parts)
        }
    }

    from.deserialize_seq(Few)
}

/// A part as the client names it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CompletedPart {
    /// Its number.
    pub part_number: u32,
    /// Its ETag, with quotes or without.
    #[serde(rename = "ETag")]
    pub etag: String,
    #[serde(rename = "ChecksumCRC32")]
    crc32: Option<String>,
    #[serde(rename = "ChecksumCRC32C")]
    crc32c: Option<String>,
    #[serde(rename = "ChecksumCRC64NVME")]
    crc64nvme: Option<String>,
    #[serde(rename = "ChecksumSHA1")]
    sha1: Option<String>,
    #[serde(rename = "ChecksumSHA256")]
    sha256: Option<String>,
    #[serde(rename = "ChecksumSHA512")]
    sha512: Option<String>,
    #[serde(rename = "ChecksumMD5")]
    md5: Option<String>,
    #[serde(rename = "ChecksumXXHASH64")]
    xxhash64: Option<String>,
    #[serde(rename = "ChecksumXXHASH3")]
    xxhash3: Option<String>,
    #[serde(rename = "ChecksumXXHASH128")]
    xxhash128: Option<String>,
}

impl CompletedPart {
    /// The part's checksum of this algorithm.
    ///
    /// Errors: MalformedXML for one that is not of that algorithm.
    pub fn checksum(&self, algorithm: Algorithm) -> Result<Option<Checksum>> {
        let text = match algorithm {
            Algorithm::Crc32 => &self.crc32,
            Algorithm::Crc32c => &self.crc32c,
            Algorithm::Crc64Nvme => &self.crc64nvme,
            Algorithm::Sha1 => &self.sha1,
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Sha512 => &self.sha512,
            Algorithm::Md5 => &self.md5,
            Algorithm::Xxhash64 => &self.xxhash64,
            Algorithm::Xxhash3 => &self.xxhash3,
            Algorithm::Xxhash128 => &self.xxhash128,
        };
        let Some(text) = text else { return Ok(None) };
        Checksum::parse(algorithm, text).map(Some).ok_or_else(malformed)
    }
}

/// Our list for the store.
#[derive(Debug, Serialize)]
#[serde(rename = "CompleteMultipartUpload")]
pub struct Complete<'a> {
    #[serde(rename = "@xmlns")]
    xmlns: &'static str,
    #[serde(rename = "Part")]
    parts: Vec<CompletePart<'a>>,
}

/// A part of [`Complete`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CompletePart<'a> {
    part_number: u32,
    #[serde(rename = "ETag")]
    etag: &'a str,
}

impl<'a> Complete<'a> {
    /// A list of numbers and ETags.
    pub fn new(parts: impl IntoIterator<Item = (u32, &'a str)>) -> Self {
        let parts = parts.into_iter().map(|(part_number, etag)| CompletePart { part_number, etag });
        Self { xmlns: NAMESPACE, parts: parts.collect() }
    }
}

/// The list that completes an upload, as a client sends it: number, ETag and checksum of each part.
pub fn complete_request(parts: &[(u32, String, Option<Checksum>)]) -> String {
    let mut xml = format!("<CompleteMultipartUpload xmlns=\"{NAMESPACE}\">");
    for (number, etag, checksum) in parts {
        xml.push_str("<Part>");
        push(&mut xml, "PartNumber", &number.to_string());
        push(&mut xml, "ETag", etag);
        if let Some(checksum) = checksum {
            push(&mut xml, checksum.algorithm().element(), &checksum.to_base64());
        }
        xml.push_str("</Part>");
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

/// A store's answer to CompleteMultipartUpload, also with status 200: the result, or an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Completed {
    /// The object's ETag.
    #[serde(rename = "ETag", default)]
    pub etag: Option<String>,
    /// An error's code.
    #[serde(default)]
    pub code: Option<String>,
}

/// Our answer to CompleteMultipartUpload. The checksum, with its type, as S3 writes them. The location is without a host: the
/// store would name its own.
pub fn complete_result(
    (bucket, key): (&str, &str),
    etag: &str,
    checksum: Option<(Algorithm, &str, &str)>,
) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CompleteMultipartUploadResult xmlns=\"{NAMESPACE}\">"
    );
    push(&mut xml, "Location", &format!("/{bucket}/{}", encode_path(key)));
    push(&mut xml, "Bucket", bucket);
    push(&mut xml, "Key", key);
    push(&mut xml, "ETag", etag);
    if let Some((algorithm, value, kind)) = checksum {
        push(&mut xml, algorithm.element(), value);
        push(&mut xml, "ChecksumType", kind);
    }
    xml.push_str("</CompleteMultipartUploadResult>");
    xml
}

/// A page of ListParts, as a store gives it and as we do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename = "ListPartsResult", rename_all = "PascalCase")]
pub struct PartList {
    #[serde(rename = "@xmlns", default = "namespace")]
    xmlns: String,
    /// The bucket.
    #[serde(default)]
    pub bucket: String,
    /// The key.
    #[serde(default)]
    pub key: String,
    /// The upload.
    #[serde(default)]
    pub upload_id: String,
    /// Parts of this and lower numbers are on earlier pages.
    #[serde(default)]
    pub part_number_marker: u32,
    /// The last number on this page, if more follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_part_number_marker: Option<u32>,
    /// The most parts of a page.
    #[serde(default)]
    pub max_parts: u32,
    /// Whether more follow.
    #[serde(default)]
    pub is_truncated: bool,
    /// The storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The algorithm of the checksum that the client chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_algorithm: Option<String>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_type: Option<String>,
    /// Who began the upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<User>,
    /// Who owns the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<User>,
    /// The parts.
    #[serde(rename = "Part", default)]
    pub parts: Vec<ListedPart>,
}

/// A user of the store, as the store names him.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct User {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
}

fn namespace() -> String {
    NAMESPACE.to_owned()
}

/// A part of [`PartList`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedPart {
    /// Its number.
    pub part_number: u32,
    /// When it was sent, in ISO 8601.
    #[serde(default)]
    pub last_modified: String,
    /// Its ETag; empty from a store that lists none.
    #[serde(rename = "ETag", default)]
    pub etag: String,
    /// Its size: sealed bytes from the store, plaintext bytes from us.
    pub size: u64,
}

/// Reads a client's document.
///
/// Errors: MalformedXML.
pub fn from_client<'d, T: Deserialize<'d>>(document: &'d [u8]) -> Result<T> {
    let text = std::str::from_utf8(document).map_err(|_| malformed())?;
    if text.contains("<!DOCTYPE") {
        return Err(malformed());
    }
    quick_xml::de::from_str(text).map_err(|_| malformed())
}

/// Reads a store's document.
///
/// Errors: InternalError.
pub fn from_store<'d, T: Deserialize<'d>>(document: &'d [u8]) -> Result<T> {
    let wrong = || Error::new(Code::InternalError, "The store's answer can't be read.");
    let text = std::str::from_utf8(document).map_err(|why| wrong().caused_by(why))?;
    quick_xml::de::from_str(text).map_err(|why| wrong().caused_by(why))
}

/// The code of a store's error, if the document is one.
pub fn error_code(document: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "Code")]
        code: String,
    }
    from_store::<Refusal>(document).ok().map(|refusal| refusal.code)
}

/// The id in an answer to CreateMultipartUpload that can't be read as a whole: to abort what it says is begun.
pub fn damaged_upload_id(document: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(document).ok()?;
    let (id, _) = text.split_once("<UploadId>")?.1.split_once("</UploadId>")?;
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>&".contains(&byte));
    plain.then(|| id.to_owned())
}

/// Writes a document.
pub fn to_xml(document: &impl Serialize) -> String {
    let xml = quick_xml::se::to_string(document).expect("our documents are elements and text");
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", writable(xml.into()))
}

/// An ETag without its quotes, as it is compared.
pub fn bare(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

fn malformed() -> Error {
    Error::new(
        Code::MalformedXML,
        "The XML you provided was not well-formed or did not validate against our published schema: a \
         CompleteMultipartUpload with Parts, each with PartNumber and ETag.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_list_is_read() {
        let list: CompleteRequest = from_client(
            b"<CompleteMultipartUpload xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Part><ETag>&quot;a&#34;</ETag>\
              <PartNumber>1</PartNumber><ChecksumCRC32>jNwbgw==</ChecksumCRC32></Part><Part><PartNumber>2</PartNumber>\
              <ETag>b</ETag></Part></CompleteMultipartUpload>",
        )
        .unwrap();
        assert_eq!((list.parts.len(), list.parts[0].part_number, bare(&list.parts[0].etag)), (2, 1, "a"));
        assert!(list.parts[0].checksum(Algorithm::Crc32).unwrap().is_some());
        assert!(list.parts[1].checksum(Algorithm::Crc32).unwrap().is_none());
        for bad in [&b"<a"[..], b"", b"<C><Part><PartNumber>x</PartNumber><ETag>e</ETag></Part></C>", b"\xff"]
        {
            assert_eq!(from_client::<CompleteRequest>(bad).unwrap_err().code(), Code::MalformedXML);
        }
        let of = |count| {
            from_client::<CompleteRequest>(format!("<C>{}</C>", "<Part/>".repeat(count)).as_bytes()).map(drop)
        };
        assert!(of(MAX_PARTS).is_ok() && of(MAX_PARTS + 1).is_err());
    }

    #[test]
    fn our_documents_are_those_of_s3() {
        let xml = to_xml(&Complete::new([(1, "\"a\""), (10_000, "b")]));
        assert!(xml.ends_with(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><PartNumber>1</PartNumber>\
             <ETag>\"a\"</ETag></Part><Part><PartNumber>10000</PartNumber><ETag>b</ETag></Part></CompleteMultipartUpload>"
        ), "{xml}");
        let checksum = Some((Algorithm::Crc32, "AAAA", "FULL_OBJECT"));
        let xml = complete_result(("b", "k&"), "e", checksum);
        for part in [
            "<Location>/b/k%26</Location>",
            "<Key>k&amp;</Key>",
            "<ChecksumCRC32>AAAA</ChecksumCRC32>",
            "<ChecksumType>FULL_OBJECT",
        ] {
            assert!(xml.contains(part), "{xml}");
        }
    }

    #[test]
    fn a_stores_documents_are_read() {
        let page: PartList = from_store(
            b"<?xml version='1.0'?><ListPartsResult xmlns='x'><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId><Owner>\
              <ID>1</ID></Owner><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker><Part>\
              <PartNumber>1</PartNumber><ETag>&quot;e&quot;</ETag><Size>5</Size><LastModified>2026-01-01T00:00:00.000Z\
              </LastModified></Part><Part><PartNumber>2</PartNumber><ETag>f</ETag><Size>6</Size></Part></ListPartsResult>",
        )
        .unwrap();
        assert_eq!((page.parts.len(), page.is_truncated, page.next_part_number_marker), (2, true, Some(2)));
        assert!(to_xml(&page).contains("<Part><PartNumber>1</PartNumber>"));
        let error: Completed =
            from_store(b"<Error><Code>SlowDown</Code><Message>m</Message></Error>").unwrap();
        assert_eq!((error.code.as_deref(), error.etag), (Some("SlowDown"), None));
    }
}
