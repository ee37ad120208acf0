//! From method, address and query to the operation. The one table of S3's routes.

use http::{Method, header};

use super::{Call, Operation};
use crate::auth::{Verified, VerifiedParts};
use crate::s3::{Code, Error, Result};

/// Sub-resources of an object that are not its body, forwarded as they come. All may carry `versionId`.
const OBJECT_RESOURCES: [&str; 5] = ["acl", "legal-hold", "restore", "retention", "tagging"];

/// Sub-resources of an object that s3veil tells apart by operation.
const OBJECT_OPERATIONS: [&str; 7] =
    ["attributes", "encryption", "renameObject", "select", "torrent", "uploadId", "uploads"];

/// Sub-resources of a bucket, forwarded as they come.
const BUCKET_RESOURCES: [&str; 30] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "replication-metrics",
    "requestPayment",
    "tagging",
    "versioning",
    "website",
    "usage",
];

/// Says which operation a request asks for.
///
/// Errors: InvalidArgument for two sub-resources at once, MethodNotAllowed for a method that does not go with the
/// resource, NotImplemented for a POST that S3 does not know.
pub fn classify(verified: Verified) -> Result<Call> {
    let operation = match (verified.bucket(), verified.key()) {
        _ if verified.method() == Method::OPTIONS => Operation::Preflight,
        (Some(_), Some(_)) => object(&verified)?,
        (Some(_), None) => bucket(&verified)?,
        (None, _) => service(&verified)?,
    };
    let VerifiedParts { who, method, bucket, key, query, headers, payload } = verified.into_parts();
    Ok(Call { operation, who, method, bucket, key, query, headers, payload: Some(payload) })
}

fn object(verified: &Verified) -> Result<Operation> {
    let copy = verified.headers().contains_key("x-amz-copy-source");
    let resource = only(verified, &[&OBJECT_RESOURCES[..], &OBJECT_OPERATIONS[..]])?;
    let method = verified.method().as_str();
    let operation = match (method, resource) {
        ("PUT", None) if copy => Operation::CopyObject,
        ("PUT", Some("uploadId")) if copy => Operation::UploadPartCopy,
        _ if copy => {
            return Err(Error::new(
                Code::InvalidArgument,
                "x-amz-copy-source goes with CopyObject and UploadPartCopy only. Remove the header.",
            ));
        }
        ("PUT", None) => Operation::PutObject,
        ("GET", None) => Operation::GetObject,
        ("HEAD", None) => Operation::HeadObject,
        ("DELETE", None) => Operation::DeleteObject,
        ("PUT", Some("uploadId")) => Operation::UploadPart,
        ("GET", Some("uploadId")) => Operation::ListParts,
        ("POST", Some("uploadId")) => Operation::CompleteMultipartUpload,
        ("DELETE", Some("uploadId")) => Operation::AbortMultipartUpload,
        ("POST", Some("uploads")) => Operation::CreateMultipartUpload,
        ("GET", Some("attributes")) => Operation::GetObjectAttributes,
        ("POST", Some("select")) => Operation::SelectObjectContent,
        ("GET", Some("torrent")) => Operation::GetObjectTorrent,
        ("PUT", Some("renameObject")) => Operation::RenameObject,
        ("PUT", Some("encryption")) => Operation::UpdateObjectEncryption,
        (_, Some(name)) => resource_of(&OBJECT_RESOURCES, name, verified).map(Operation::ObjectResource)?,
        (_, None) => return Err(not_allowed(verified)),
    };
    Ok(operation)
}

fn bucket(verified: &Verified) -> Result<Operation> {
    let listed = ["delete", "session", "uploads", "versions"];
    let resource = only(verified, &[&BUCKET_RESOURCES[..], &listed[..]])?;
    let operation = match (verified.method().as_str(), resource) {
        ("GET", None) if verified.query().get("list-type") == Some("2") => Operation::ListObjectsV2,
        ("GET", None) => Operation::ListObjects,
        ("GET", Some("versions")) => Operation::ListObjectVersions,
        ("GET", Some("uploads")) => Operation::ListMultipartUploads,
        ("GET", Some("session")) => Operation::CreateSession,
        ("POST", Some("delete")) => Operation::DeleteObjects,
        ("POST", None) if is_form(verified) => Operation::PostObject,
        ("PUT", None) => Operation::Other("CreateBucket"),
        ("DELETE", None) => Operation::Other("DeleteBucket"),
        ("HEAD", None) => Operation::Other("HeadBucket"),
        (_, Some(name)) => resource_of(&BUCKET_RESOURCES, name, verified).map(Operation::Other)?,
        (_, None) => return Err(not_allowed(verified)),
    };
    Ok(operation)
}

fn service(verified: &Verified) -> Result<Operation> {
    match *verified.method() {
        Method::GET => Ok(Operation::Other("ListBuckets")),
        _ => Err(not_allowed(verified)),
    }
}

/// The one sub-resource of `names` in the query.
fn only<'n>(verified: &Verified, names: &[&[&'n str]]) -> Result<Option<&'n str>> {
    let mut found = names.iter().copied().flatten().copied().filter(|name| verified.query().has(name));
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(second) => Err(Error::new(
            Code::InvalidArgument,
            format!(
                "The query names two sub-resources, '{}' and '{second}'. Send one request for each.",
                first.unwrap_or_default()
            ),
        )),
    }
}

/// The sub-resource, if it is one that may be forwarded with any method of its kind.
fn resource_of(names: &[&'static str], name: &str, verified: &Verified) -> Result<&'static str> {
    names.iter().find(|known| **known == name).copied().ok_or_else(|| not_allowed(verified))
}

fn is_form(verified: &Verified) -> bool {
    let kind = verified.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"multipart/form-data"))
}

fn not_allowed(verified: &Verified) -> Error {
    Error::new(
        Code::MethodNotAllowed,
        format!("The method {} is not allowed against this resource.", verified.method()),
    )
}
