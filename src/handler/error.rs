//! The only mapping from inner errors to S3's. Exhaustive: a new inner error asks for its code here.

use crate::s3::{Code, Error};
use crate::{backend, body, kms, seal};

/// Seconds after which a client may try again when the store or the KMS is away.
const RETRY_AFTER: u32 = 2;

impl From<backend::Error> for Error {
    fn from(error: backend::Error) -> Self {
        match &error {
            backend::Error::Unreachable(_) => {
                Error::new(Code::ServiceUnavailable, "The store can't be reached. Please try again.")
                    .retry_after(RETRY_AFTER)
            }
            backend::Error::Timeout => {
                Error::new(Code::ServiceUnavailable, "The store did not answer in time. Please try again.")
                    .retry_after(RETRY_AFTER)
            }
            backend::Error::Elsewhere(..) => Error::new(
                Code::StoreRedirects,
                "The store redirects to another address. Correct the store's endpoint or region in s3veil.",
            ),
            backend::Error::Sign(why) => Error::new(Code::InvalidArgument, why.to_string()),
            backend::Error::Address(_) => Error::new(Code::InvalidURI, "Couldn't parse the specified URI."),
            backend::Error::NoCredentials { .. } => Error::new(
                Code::ServiceUnavailable,
                "s3veil has no credentials for the store now. Please try again.",
            )
            .retry_after(RETRY_AFTER),
            backend::Error::Credentials(_) => {
                Error::new(Code::InternalError, "The store credentials of this identity are not configured.")
            }
        }
        .caused_by(error)
    }
}

impl From<kms::Error> for Error {
    fn from(error: kms::Error) -> Self {
        match &error {
            kms::Error::NoSuchKey(ek) => Error::new(
                Code::KmsNotFound,
                format!("The key '{ek}' does not exist in the KMS. If it was deleted, what it sealed is gone for good."),
            ),
            kms::Error::Disabled(ek) => {
                Error::new(Code::KmsDisabled, format!("The key '{ek}' is disabled. Enable it to read and write."))
            }
            kms::Error::Denied(_) => {
                Error::new(Code::KmsDenied, "The KMS does not let s3veil use the key. Check its policy in the KMS.")
            }
            kms::Error::Unavailable(_) => {
                Error::new(Code::KmsUnavailable, "The KMS can't be reached. Please try again.").retry_after(RETRY_AFTER)
            }
            kms::Error::Malformed(_) => Error::new(
                Code::KmsInvalid,
                "The object's data key is not one that the KMS wrapped for this key and bucket.",
            ),
            kms::Error::NoSuchKms(name) => Error::new(
                Code::KmsNotFound,
                format!("The object's key is in the KMS '{name}', which is not configured. Add [kms.{name}]."),
            ),
            kms::Error::Exists(_) | kms::Error::Unsupported { .. } => {
                Error::new(Code::InternalError, "The KMS answered what was not asked.")
            }
        }
        .caused_by(error)
    }
}

impl From<body::Broken> for Error {
    fn from(error: body::Broken) -> Self {
        match error {
            body::Broken::Seal(error) => error.into(),
            body::Broken::Store(_) => {
                Error::new(Code::ServiceUnavailable, "The store broke off its answer. Please try again.")
                    .retry_after(RETRY_AFTER)
                    .caused_by(error)
            }
        }
    }
}

impl From<seal::Error> for Error {
    fn from(error: seal::Error) -> Self {
        Error::new(
            Code::ObjectIntegrityError,
            "The sealed object does not authenticate: it was altered, cut or moved in the store, or belongs to \
             another bucket or key. Restore it from a good copy.",
        )
        .caused_by(error)
    }
}
