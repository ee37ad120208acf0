//! What AWS's refusals mean.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ConnectorError, ProvideErrorMetadata, SdkError};

use crate::kms::Error;
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

/// Refusals that may differ next time, and are not a status of 5xx.
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
        /// True for a status of 429 or 5xx.
        away: bool,
    },
    /// It was not asked, or there was no answer.
    Failed(Error),
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
            let (code, message) = (answer.err().code(), answer.err().message());
            let status = answer.raw().status().as_u16();
            return Self::Refused {
                code: code.unwrap_or("an error without a name").to_owned(),
                message: message.unwrap_or_default().to_owned(),
                away: status == 429 || status >= 500,
            };
        }
        Self::Failed(match find::<CredentialsError>(&error) {
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
            Self::Failed(_) => None,
        }
    }

    /// What the service says beside the code, in lower case.
    pub(super) fn says(&self, words: &str) -> bool {
        match self {
            Self::Refused { message, .. } => message.to_lowercase().contains(words),
            Self::Failed(_) => false,
        }
    }

    pub(super) fn blames_credentials(&self) -> bool {
        match self {
            Self::Refused { code, .. } => CREDENTIALS.contains(&code.as_str()),
            Self::Failed(error) => matches!(error, Error::Denied(_)),
        }
    }
}

/// What a failure means that is not about one EK.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) => error,
            Failure::Refused { code, message, away } => {
                let text = format!("{code}: {message}");
                if away || TRANSIENT.contains(&code.as_str()) {
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

/// Nothing to sign with: nobody has credentials for s3veil, or who has them does not answer.
fn no_credentials(why: &CredentialsError) -> Error {
    let text = chain(why);
    match why {
        CredentialsError::CredentialsNotLoaded(_) => Error::Denied(format!(
            "no AWS credentials were found; set `credentials` or `profile`, or give this machine or pod a role: {text}"
        )),
        CredentialsError::InvalidConfiguration(_) => Error::Denied(format!("no AWS credentials: {text}")),
        _ => {
            let says = |code: &&str| text.contains(*code);
            let refused = CREDENTIALS.iter().any(says) || NO_ROLE.iter().any(says);
            if refused && find::<ConnectorError>(why).is_none() {
                Error::Denied(format!("no AWS credentials: {text}"))
            } else {
                Error::Unavailable(format!("no AWS credentials now: {text}"))
            }
        }
    }
}

/// The first of this kind among an error and its causes.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}
