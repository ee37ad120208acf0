//! The error codes of S3 that s3veil itself gives, each with its status and whose fault it is.
//!
//! Source: Amazon S3 API Reference, "Error responses". The blame is the metric's label and decides the log level.

use http::StatusCode;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request is wrong, or not allowed.
    Client,
    /// The key management service refused, or is away.
    Kms,
    /// s3veil itself.
    Proxy,
    /// The store behind s3veil: away, slow, or its bytes did not authenticate.
    Store,
}

impl Blame {
    /// In a word, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Kms => "kms",
            Self::Proxy => "proxy",
            Self::Store => "store",
        }
    }
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $name:ident $(= $wire:literal)? , $status:literal, $blame:ident; )*) => {
        /// An S3 error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[$doc])* $name, )* }

        impl Code {
            /// Every code, for tests and documentation.
            pub const ALL: &'static [Code] = &[ $( Code::$name, )* ];

            /// The code as it stands in the XML.
            pub fn as_str(self) -> &'static str {
                match self { $( Code::$name => codes!(@wire $name $($wire)?), )* }
            }

            /// The code that a store has given, if it is one of these.
            pub fn from_store(text: &str) -> Option<Self> {
                // Of those that are called alike the plain one, which stands first.
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $( Code::$name => $status, )* };
                StatusCode::from_u16(status).expect("the table holds valid statuses")
            }

            /// Whose fault it is.
            pub fn blame(self) -> Blame {
                match self { $( Code::$name => Blame::$blame, )* }
            }
        }
    };
    (@wire $name:ident $wire:literal) => { $wire };
    (@wire $name:ident) => { stringify!($name) };
}

codes! {
    /// The identity, the policy or an unsigned header forbids it.
    AccessDenied, 403, Client;
    /// The Authorization header can't be read, or its scope is wrong.
    AuthorizationHeaderMalformed, 400, Client;
    /// The query parameters of a presigned URL can't be read.
    AuthorizationQueryParametersError, 400, Client;
    /// Content-MD5 or a checksum does not match the body.
    BadDigest, 400, Client;
    /// The body is over what S3 takes in one request, or what a form's policy allows.
    EntityTooLarge, 400, Client;
    /// A part that is not the last is too short, or a form's file shorter than its policy allows.
    EntityTooSmall, 400, Client;
    /// The body ended before its declared length.
    IncompleteBody, 400, Client;
    /// A form has no file, or several.
    IncorrectNumberOfFilesInPostRequest, 400, Client;
    /// Something failed inside s3veil.
    InternalError, 500, Proxy;
    /// A sealed object does not authenticate: it was altered, cut or moved.
    ObjectIntegrityError = "InternalError", 500, Store;
    /// The store sends clients elsewhere, past s3veil.
    StoreRedirects = "InternalError", 500, Store;
    /// No identity has this access key.
    InvalidAccessKeyId, 403, Client;
    /// An argument is wrong.
    InvalidArgument, 400, Client;
    /// The bucket name is not valid.
    InvalidBucketName, 400, Client;
    /// SSE-C by another algorithm than AES256.
    InvalidEncryptionAlgorithm = "InvalidEncryptionAlgorithmError", 400, Client;
    /// Content-MD5 is not a digest.
    InvalidDigest, 400, Client;
    /// A part of the list is not there, or has another ETag.
    InvalidPart, 400, Client;
    /// The list of parts does not ascend.
    InvalidPartOrder, 400, Client;
    /// The part number can't be had.
    InvalidPartNumber, 416, Client;
    /// A form's policy is not one.
    InvalidPolicyDocument, 400, Client;
    /// The range lies past the object's end.
    InvalidRange, 416, Client;
    /// The request contradicts itself.
    InvalidRequest, 400, Client;
    /// The session token is not the identity's.
    InvalidToken, 400, Client;
    /// The path is not percent-encoded UTF-8.
    InvalidURI, 400, Client;
    /// The key is longer than 1,024 bytes.
    KeyTooLongError, 400, Client;
    /// The body is not multipart/form-data.
    MalformedPOSTRequest, 400, Client;
    /// The trailers of an aws-chunked body are not the declared ones.
    MalformedTrailerError, 400, Client;
    /// The XML of the request is not what the operation takes.
    MalformedXML, 400, Client;
    /// A form's fields before its file are over 20 KB.
    MaxPostPreDataLengthExceeded = "MaxPostPreDataLengthExceededError", 400, Client;
    /// The user-defined metadata, the envelope included, is over 2 KB.
    MetadataTooLarge, 400, Client;
    /// The method does not go with the resource.
    MethodNotAllowed, 405, Client;
    /// A body without a length.
    MissingContentLength, 411, Client;
    /// No default encryption was set for the bucket.
    NoEncryptionConfiguration = "ServerSideEncryptionConfigurationNotFoundError", 404, Client;
    /// A header that the operation needs is missing.
    MissingSecurityHeader, 400, Client;
    /// The multipart upload does not exist, or has ended.
    NoSuchUpload, 404, Client;
    /// The version does not exist.
    NoSuchVersion, 404, Client;
    /// The object does not exist.
    NoSuchKey, 404, Client;
    /// Not served by s3veil, said in words.
    NotImplemented, 501, Client;
    /// A condition of the request does not hold.
    PreconditionFailed, 412, Client;
    /// The client stopped sending.
    RequestTimeout, 400, Client;
    /// The request's time is more than 15 minutes off.
    RequestTimeTooSkewed, 403, Client;
    /// The computed signature is another.
    SignatureDoesNotMatch, 403, Client;
    /// The store or the KMS is away: try again.
    ServiceUnavailable, 503, Store;
    /// An object was replaced while it was read or copied.
    ObjectReplaced = "ServiceUnavailable", 503, Store;
    /// The KMS is away: try again.
    KmsUnavailable = "ServiceUnavailable", 503, Kms;
    /// Too many requests at once: try again.
    SlowDown, 503, Proxy;
    /// A form names no key.
    UserKeyMustBeSpecified, 400, Client;
    /// The body is not what x-amz-content-sha256 says.
    XAmzContentSHA256Mismatch, 400, Client;
    /// The EK does not exist.
    KmsNotFound = "KMS.NotFoundException", 400, Kms;
    /// The EK is disabled.
    KmsDisabled = "KMS.DisabledException", 400, Kms;
    /// The EK may not be used.
    KmsDenied = "KMS.AccessDeniedException", 400, Kms;
    /// The wrapped key is not one that the KMS made.
    KmsInvalid = "KMS.InvalidCiphertextException", 400, Kms;
}
