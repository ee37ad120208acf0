//! What AWS's refusals mean.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use http::StatusCode;

use crate::aws::chain::{has_no_connection, metadata_is_away};
use crate::kms::{Error, rest};
use crate::net::among;
use crate::s3::error::chain;

/// Refusals that are about who asks, not about what for: other credentials may help.
const CREDENTIALS: [&str; 9] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// What STS says when it will not give credentials, beside those above.
const NO_ROLE: [&str; 5] = [
    "AccessDenied",
    "IDPRejectedClaim",
    "InvalidIdentityToken",
    "MalformedPolicyDocument",
    "ValidationError",
];

/// Refusals that may differ next time, whatever their status.
const TRANSIENT: [&str; 9] = [
    "DependencyTimeoutException",
    "InternalFailure",
    "InternalServiceError",
    "KMSInternalException",
    "KeyUnavailableException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
];

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service answered with an error of this code.
    Refused {
        /// As in AWS's documentation: `DisabledException`, ...
        code: String,
        /// What it says beside.
        message: String,
        /// True if the answer may be another next time.
        transient: bool,
    },
    /// It was not asked, or there was no answer.
    Failed(Error),
    /// It was not asked, because nobody has credentials for s3veil.
    NotLoaded(Error),
}

impl Failure {
    pub(super) fn no_region(why: String) -> Self {
        Self::Failed(Error::Unavailable(why))
    }

    pub(super) fn of<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let SdkError::ServiceError(answer) = &error
            && !answer.raw().status().is_success()
        {
            let code = answer.err().code().unwrap_or("an error without a name");
            let status = StatusCode::from_u16(answer.raw().status().as_u16());
            return Self::Refused {
                code: code.to_owned(),
                message: answer.err().message().unwrap_or_default().to_owned(),
                transient: TRANSIENT.contains(&code) || status.is_ok_and(rest::is_transient),
            };
        }
        // Under a role, it is the service that gives roles that was not asked.
        let not_loaded = |why: &&CredentialsError| matches!(why, CredentialsError::CredentialsNotLoaded(_));
        if let Some(why) = among(&error).find(not_loaded) {
            return Self::NotLoaded(nobody_has(why));
        }
        Self::Failed(match among(&error).next() {
            Some(why) => no_credentials(why),
            // What can't be read in an answer of 200 is told as an error of the service.
            None if matches!(error, SdkError::ResponseError(_) | SdkError::ServiceError(_)) => {
                Error::Malformed(format!("AWS's answer is not what it should be: {}", chain(&error)))
            }
            None => Error::Unavailable(chain(&error)),
        })
    }

    /// The code, if the service answered with one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Failed(_) | Self::NotLoaded(_) => None,
        }
    }

    /// What the service says beside the code, in lower case.
    pub(super) fn says(&self, words: &str) -> bool {
        match self {
            Self::Refused { message, .. } => message.to_lowercase().contains(words),
            Self::Failed(_) | Self::NotLoaded(_) => false,
        }
    }

    /// Whether the service has answered that it did not do what it was asked. Otherwise it may have done it.
    pub(super) fn is_definite(&self) -> bool {
        matches!(self, Self::Refused { transient: false, .. })
    }

    /// Whether the chain must look anew, in files too, of which it keeps what it has read.
    pub(super) fn blames_credentials(&self) -> bool {
        match self {
            Self::Refused { code, .. } => CREDENTIALS.contains(&code.as_str()),
            Self::Failed(error) => matches!(error, Error::Denied(_)),
            // Nothing is lost: the chain gives the credentials that it had before, if there are any.
            Self::NotLoaded(_) => true,
        }
    }
}

/// What a failure means that is not about one EK.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) | Failure::NotLoaded(error) => error,
            Failure::Refused { code, message, transient } => {
                let text = format!("{code}: {message}");
                if transient {
                    Self::Unavailable(text)
                } else if CREDENTIALS.contains(&code.as_str()) {
                    Self::Denied(format!("AWS does not accept the credentials, or they have expired: {text}"))
                } else {
                    Self::Denied(text)
                }
            }
        }
    }
}

/// Nobody has credentials for s3veil, as far as all who might were reached.
fn nobody_has(why: &CredentialsError) -> Error {
    let text = chain(why);
    if metadata_is_away(why) {
        Error::Unavailable(format!(
            "no AWS credentials now, and the metadata service does not answer; where there is none, set `credentials` \
             or `profile`, and AWS_EC2_METADATA_DISABLED=true: {text}"
        ))
    } else {
        Error::Denied(format!(
            "no AWS credentials were found; set `credentials` or `profile`, or give this machine or pod a role: {text}"
        ))
    }
}

/// Nothing to sign with: who has credentials for s3veil refuses them, or does not answer.
fn no_credentials(why: &CredentialsError) -> Error {
    let text = chain(why);
    let says = |code: &&str| text.contains(*code);
    let refused = CREDENTIALS.iter().any(says) || NO_ROLE.iter().any(says);
    let configuration = matches!(why, CredentialsError::InvalidConfiguration(_));
    if configuration || refused && !has_no_connection(why) {
        Error::Denied(format!("no AWS credentials: {text}"))
    } else {
        Error::Unavailable(format!("no AWS credentials now: {text}"))
    }
}
