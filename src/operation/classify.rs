//! From method, address and query to the operation. The one table of S3's routes.

use http::{Method, header};

use super::{Call, Operation};
use crate::auth::{Verified, VerifiedParts};
use crate::s3::encryption::{CustomerKey, Side};
use crate::s3::{Code, Error, Result};

/// A sub-resource and the methods that S3 has for it. With any other a store may not see the sub-resource at all, and
/// take the request for one of the object or the bucket itself: `PUT ?restore` would store the body as it came.
type Resource = (&'static str, &'static [&'static str]);

/// Sub-resources of an object that are not its body, forwarded as they come. All may carry `versionId`.
const OBJECT_RESOURCES: [Resource; 5] = [
    ("acl", &["GET", "PUT"]),
    ("legal-hold", &["GET", "PUT"]),
    ("restore", &["POST"]),
    ("retention", &["GET", "PUT"]),
    ("tagging", &["GET", "PUT", "DELETE"]),
];

/// Sub-resources of an object that s3veil tells apart by operation.
const OBJECT_OPERATIONS: [&str; 7] =
    ["attributes", "encryption", "renameObject", "select", "torrent", "uploadId", "uploads"];

/// Sub-resources of a bucket, forwarded as they come.
const BUCKET_RESOURCES: [Resource; 29] = [
    ("abac", &["GET", "PUT"]),
    ("accelerate", &["GET", "PUT"]),
    ("acl", &["GET", "PUT"]),
    ("analytics", &["GET", "PUT", "DELETE"]),
    ("cors", &["GET", "PUT", "DELETE"]),
    ("events", &["GET"]),
    ("intelligent-tiering", &["GET", "PUT", "DELETE"]),
    ("inventory", &["GET", "PUT", "DELETE"]),
    ("lifecycle", &["GET", "PUT", "DELETE"]),
    ("location", &["GET"]),
    ("logging", &["GET", "PUT"]),
    ("metadataConfiguration", &["GET", "POST", "DELETE"]),
    ("metadataInventoryTable", &["PUT"]),
    ("metadataJournalTable", &["PUT"]),
    ("metadataTable", &["GET", "POST", "DELETE"]),
    ("metrics", &["GET", "PUT", "DELETE"]),
    ("notification", &["GET", "PUT", "DELETE"]),
    ("object-lock", &["GET", "PUT"]),
    ("ownershipControls", &["GET", "PUT", "DELETE"]),
    ("policy", &["GET", "PUT", "DELETE"]),
    ("policyStatus", &["GET"]),
    ("publicAccessBlock", &["GET", "PUT", "DELETE"]),
    ("replication", &["GET", "PUT", "DELETE"]),
    ("replication-metrics", &["GET"]),
    ("requestPayment", &["GET", "PUT"]),
    ("tagging", &["GET", "PUT", "DELETE"]),
    ("versioning", &["GET", "PUT"]),
    ("website", &["GET", "PUT", "DELETE"]),
    ("usage", &["GET"]),
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
    let customer_key = if key.is_some() { CustomerKey::of(&headers, Side::Own)? } else { None };
    let payload = Some(payload);
    Ok(Call { operation, who, method, bucket, key, query, headers, payload, customer_key, posted: None })
}

fn object(verified: &Verified) -> Result<Operation> {
    let copy = verified.headers().contains_key("x-amz-copy-source");
    let resource = only(verified, OBJECT_RESOURCES.iter().map(|known| known.0).chain(OBJECT_OPERATIONS))?;
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
    let listed = ["delete", "encryption", "session", "uploads", "versions"];
    let resource = only(verified, BUCKET_RESOURCES.iter().map(|known| known.0).chain(listed))?;
    // A store may know a form by its content type alone, whatever the query says.
    if resource.is_some() && is_form(verified) {
        return Err(Error::new(
            Code::InvalidRequest,
            "A form is posted to the bucket itself. Remove the sub-resource, or the Content-Type multipart/form-data.",
        ));
    }
    let operation = match (verified.method().as_str(), resource) {
        ("GET", None) if verified.query().get("list-type") == Some("2") => Operation::ListObjectsV2,
        ("GET", None) => Operation::ListObjects,
        ("GET", Some("versions")) => Operation::ListObjectVersions,
        ("GET", Some("uploads")) => Operation::ListMultipartUploads,
        ("GET", Some("session")) => Operation::CreateSession,
        ("GET", Some("encryption")) => Operation::GetBucketEncryption,
        ("PUT", Some("encryption")) => Operation::PutBucketEncryption,
        ("DELETE", Some("encryption")) => Operation::DeleteBucketEncryption,
        ("POST", Some("delete")) => Operation::DeleteObjects,
        ("POST", None) if is_form(verified) => Operation::PostObject,
        ("PUT", None) => Operation::Other("CreateBucket"),
        ("DELETE", None) => Operation::DeleteBucket,
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
fn only<'n>(verified: &Verified, names: impl Iterator<Item = &'n str>) -> Result<Option<&'n str>> {
    let mut found = names.filter(|name| verified.query().has(name));
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

/// The sub-resource, if it is one that is forwarded with this method.
fn resource_of(known: &[Resource], name: &str, verified: &Verified) -> Result<&'static str> {
    let method = verified.method().as_str();
    let fits = known.iter().find(|(known, methods)| *known == name && methods.contains(&method));
    fits.map(|(name, _)| *name).ok_or_else(|| not_allowed(verified))
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
