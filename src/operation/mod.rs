//! What is asked for: a verified request becomes a `Call` with its S3 operation. For a browser's form it is the form that
//! says so.
//!
//! Source: Amazon S3 API Reference, "Actions". A request names one operation by its method, by whether it names a
//! bucket and a key, and by at most one sub-resource in its query. Two sub-resources at once are refused: the store
//! behind might pick the other one.

mod classify;
mod form;

pub use classify::classify;
pub use form::{Done, Posted, read_form};

use http::{HeaderMap, Method};

use crate::auth::{Payload, Who};
use crate::s3::copy::Source;
use crate::s3::encryption::{self, CustomerKey, Side};
use crate::s3::headers::remove_all;
use crate::s3::{Bucket, Code, Error, Key, Query, Result};

/// The operations that s3veil tells apart; all others are `Other`, which can't carry an object's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// PUT of a whole object.
    PutObject,
    /// GET of an object, whole or in part.
    GetObject,
    /// HEAD of an object.
    HeadObject,
    /// `?attributes`.
    GetObjectAttributes,
    /// DELETE of an object.
    DeleteObject,
    /// POST `?delete`.
    DeleteObjects,
    /// GET of a bucket, version 1.
    ListObjects,
    /// GET of a bucket with `list-type=2`.
    ListObjectsV2,
    /// `?versions`.
    ListObjectVersions,
    /// PUT with `x-amz-copy-source`.
    CopyObject,
    /// POST `?uploads`.
    CreateMultipartUpload,
    /// PUT `?partNumber&uploadId`.
    UploadPart,
    /// The same with `x-amz-copy-source`.
    UploadPartCopy,
    /// POST `?uploadId`.
    CompleteMultipartUpload,
    /// DELETE `?uploadId`.
    AbortMultipartUpload,
    /// GET `?uploadId`.
    ListParts,
    /// GET bucket `?uploads`.
    ListMultipartUploads,
    /// DELETE of a bucket.
    DeleteBucket,
    /// PUT bucket `?encryption`.
    PutBucketEncryption,
    /// GET bucket `?encryption`.
    GetBucketEncryption,
    /// DELETE bucket `?encryption`.
    DeleteBucketEncryption,
    /// POST of a browser's form.
    PostObject,
    /// `?select`.
    SelectObjectContent,
    /// `?torrent`.
    GetObjectTorrent,
    /// `?renameObject` of a directory bucket.
    RenameObject,
    /// PUT object `?encryption`.
    UpdateObjectEncryption,
    /// `?session` of a directory bucket: credentials that lead past s3veil.
    CreateSession,
    /// A CORS preflight, never signed.
    Preflight,
    /// A sub-resource of an object that is not its body: its name in the query.
    ObjectResource(&'static str),
    /// Anything of a bucket or the service that carries no object.
    Other(&'static str),
}

impl Operation {
    /// The name in logs and metrics: S3's own where there is one.
    pub fn name(self) -> &'static str {
        use Operation::*;
        match self {
            PutObject => "PutObject",
            GetObject => "GetObject",
            HeadObject => "HeadObject",
            GetObjectAttributes => "GetObjectAttributes",
            DeleteObject => "DeleteObject",
            DeleteObjects => "DeleteObjects",
            ListObjects => "ListObjects",
            ListObjectsV2 => "ListObjectsV2",
            ListObjectVersions => "ListObjectVersions",
            CopyObject => "CopyObject",
            CreateMultipartUpload => "CreateMultipartUpload",
            UploadPart => "UploadPart",
            UploadPartCopy => "UploadPartCopy",
            CompleteMultipartUpload => "CompleteMultipartUpload",
            AbortMultipartUpload => "AbortMultipartUpload",
            ListParts => "ListParts",
            ListMultipartUploads => "ListMultipartUploads",
            DeleteBucket => "DeleteBucket",
            PutBucketEncryption => "PutBucketEncryption",
            GetBucketEncryption => "GetBucketEncryption",
            DeleteBucketEncryption => "DeleteBucketEncryption",
            PostObject => "PostObject",
            SelectObjectContent => "SelectObjectContent",
            GetObjectTorrent => "GetObjectTorrent",
            RenameObject => "RenameObject",
            UpdateObjectEncryption => "UpdateObjectEncryption",
            CreateSession => "CreateSession",
            Preflight => "Preflight",
            ObjectResource(name) | Other(name) => name,
        }
    }
}

/// A verified request whose operation is known.
#[derive(Debug)]
pub struct Call {
    operation: Operation,
    who: Who,
    method: Method,
    bucket: Option<Bucket>,
    key: Option<Key>,
    query: Query,
    headers: HeaderMap,
    payload: Option<Payload>,
    customer_key: Option<CustomerKey>,
    /// What a browser's form asks for.
    posted: Option<Posted>,
}

impl Call {
    /// The operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Who asks.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The method as it came.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The bucket, unless the service itself is asked.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// The key, unless a bucket or the service is asked.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Bucket and key of an operation on an object.
    pub fn object(&self) -> Result<(&Bucket, &Key)> {
        match (self.bucket(), self.key()) {
            (Some(bucket), Some(key)) => Ok((bucket, key)),
            _ => Err(Error::new(Code::InvalidRequest, "This operation needs a bucket and a key.")),
        }
    }

    /// The key that the client brings along for the object (SSE-C).
    pub fn customer_key(&self) -> Option<&CustomerKey> {
        self.customer_key.as_ref()
    }

    /// Leaves only what goes on to the store on a read of a sealed object: its encryption is s3veil's part, and a client's
    /// key not the store's to see.
    ///
    /// Errors: InvalidArgument for a method of encryption, which a read does not name.
    pub fn without_encryption(mut self) -> Result<Self> {
        encryption::refuse_on_read(&self.headers)?;
        remove_all(&mut self.headers, encryption::is_encryption);
        Ok(self)
    }

    /// The read of the object that this call copies, by the same client and with the key for it.
    ///
    /// Errors: InvalidArgument for a customer's key that is none.
    pub fn reading(&self, source: &Source, operation: Operation, headers: HeaderMap) -> Result<Self> {
        let version = source.version.iter().map(|version| ("versionId", version.as_str()));
        let mut query = Query::default();
        version.for_each(|(name, value)| query.push(name, value));
        Ok(Self {
            operation,
            who: self.who.clone(),
            method: method(operation),
            bucket: Some(source.bucket.clone()),
            key: Some(source.key.clone()),
            query,
            headers,
            payload: None,
            customer_key: CustomerKey::of(&self.headers, Side::Source)?,
            posted: None,
        })
    }

    /// A request of the write that a browser's form asks for, by the same client.
    pub fn writing(&self, operation: Operation, query: Query, headers: HeaderMap, payload: Payload) -> Self {
        Self {
            operation,
            who: self.who.clone(),
            method: method(operation),
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            query,
            headers,
            payload: Some(payload),
            customer_key: self.customer_key.clone(),
            posted: None,
        }
    }

    /// A call on an object by one of s3veil's own commands, for whoever holds its configuration: a read, or one of those that
    /// a browser's form makes.
    pub fn by_operator(
        operation: Operation,
        (bucket, key): (&Bucket, &Key),
        query: Query,
        headers: HeaderMap,
        payload: Payload,
    ) -> Self {
        Self {
            operation,
            who: Who::Trusted,
            method: method(operation),
            bucket: Some(bucket.clone()),
            key: Some(key.clone()),
            query,
            headers,
            payload: Some(payload),
            customer_key: None,
            posted: None,
        }
    }

    /// With this query.
    pub fn with_query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// What a browser's form asks for, for the one who writes its file.
    pub fn take_posted(&mut self) -> Posted {
        self.posted.take().expect("the form of a call is read once")
    }

    /// The query, without the signature.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The client's headers, those that it signed.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// How the body must be read, for the one who reads it.
    pub fn take_payload(&mut self) -> Payload {
        self.payload.take().expect("the body of a call is read once")
    }
}

/// The method of an operation that s3veil itself asks for.
fn method(operation: Operation) -> Method {
    match operation {
        Operation::GetObject => Method::GET,
        Operation::HeadObject => Method::HEAD,
        Operation::PutObject | Operation::UploadPart => Method::PUT,
        Operation::AbortMultipartUpload => Method::DELETE,
        _ => Method::POST,
    }
}
