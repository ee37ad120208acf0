//! What Google's answers mean: errors, checksums, names.

use std::error::Error as _;

use crc_fast::CrcAlgorithm;
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error as GoogleError;
use google_cloud_gax::error::rpc::Code;
use http::StatusCode;

use crate::kms::rest::is_transient;
use crate::kms::{EkName, Error};
use crate::s3::error::chain;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No such key, secret or version; or a destroyed one.
    Missing,
    /// The key version or secret version is disabled.
    Disabled,
    /// There is one of that name.
    Exists,
    /// What was sent is not acceptable.
    Invalid,
    /// Not allowed, by rights, by credentials, or because the API is not enabled.
    Refused,
    /// May differ next time.
    Away,
    /// An answer that is none.
    Garbled,
}

/// Sorts an error of Google's.
///
/// Sources: <https://cloud.google.com/kms/docs/reference/rest>, "Error responses" (`google.rpc.Code`);
/// <https://cloud.google.com/kms/docs/data-integrity-guidelines> for checksums.
pub(super) fn problem(why: &GoogleError) -> Problem {
    if why.is_authentication() {
        let credentials = why.source().and_then(|source| source.downcast_ref::<CredentialsError>());
        let may_pass = credentials.is_some_and(CredentialsError::is_transient);
        return if may_pass { Problem::Away } else { Problem::Refused };
    }
    if why.is_deserialization() {
        return Problem::Garbled;
    }
    if why.is_binding() || why.is_serialization() {
        return Problem::Invalid;
    }
    let Some(status) = why.status() else {
        // Not Google's own form: a wrong `endpoint`, or something in between.
        let answered = why.http_status_code().and_then(|status| StatusCode::from_u16(status).ok());
        return if answered.is_none_or(is_transient) { Problem::Away } else { Problem::Refused };
    };
    match status.code {
        Code::NotFound => Problem::Missing,
        Code::AlreadyExists => Problem::Exists,
        Code::FailedPrecondition => precondition(&status.message),
        Code::InvalidArgument if status.message.contains("checksum") => Problem::Away,
        Code::InvalidArgument => Problem::Invalid,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Problem::Away,
        // PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED, and what Google adds.
        _ => Problem::Refused,
    }
}

/// One code for several things; only the text tells them apart: `NAME is not enabled, current state is: DISABLED.` from
/// Cloud KMS, `Secret Version [NAME] is in DISABLED state.` from Secret Manager, `... API has not been used ...` from both.
fn precondition(text: &str) -> Problem {
    let state = |wanted: &[&str]| {
        text.split_whitespace()
            // A key may be called DISABLED.
            .filter(|word| !word.contains('/'))
            .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
            .any(|word| wanted.contains(&word))
    };
    if state(&["DESTROYED", "DESTROY_SCHEDULED"]) {
        Problem::Missing
    } else if state(&["DISABLED"]) {
        Problem::Disabled
    } else if state(&["PENDING_GENERATION"]) {
        Problem::Away
    } else {
        Problem::Refused
    }
}

/// Whether Google did not take the token. A login that failed is another thing.
pub(super) fn is_unauthenticated(why: &GoogleError) -> bool {
    why.status().is_some_and(|status| status.code == Code::Unauthenticated)
        || why.http_status_code() == Some(401)
}

/// The error of a call about an EK.
pub(super) fn refusal(why: &GoogleError, ek: &EkName) -> Error {
    match problem(why) {
        Problem::Missing => Error::NoSuchKey(ek.clone()),
        Problem::Disabled => Error::Disabled(ek.clone()),
        Problem::Exists => Error::Exists(ek.clone()),
        Problem::Invalid | Problem::Refused | Problem::Away | Problem::Garbled => general(why),
    }
}

/// The error of a call about the key ring or project: when that is missing, no EK is to blame.
pub(super) fn general(why: &GoogleError) -> Error {
    match problem(why) {
        Problem::Away => Error::Unavailable(chain(why)),
        Problem::Garbled => Error::Malformed(chain(why)),
        Problem::Missing | Problem::Disabled | Problem::Exists | Problem::Invalid | Problem::Refused => {
            Error::Denied(chain(why))
        }
    }
}

/// The checksum that Google sends beside bytes, and wants beside them.
pub(super) fn crc32c(bytes: &[u8]) -> i64 {
    let sum = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes);
    i64::try_from(sum).expect("a CRC-32C has 32 bits")
}

/// Checks bytes from Google against the checksum that came with them.
///
/// Errors: [`Error::Unavailable`] where they differ, as Google says to ask again; [`Error::Malformed`] without one.
pub(super) fn check(what: &str, bytes: &[u8], sum: Option<i64>) -> Result<(), Error> {
    match sum {
        Some(sum) if sum == crc32c(bytes) => Ok(()),
        Some(_) => {
            Err(Error::Unavailable(format!("{what} was changed on its way from Google: wrong CRC-32C")))
        }
        None => Err(Error::Malformed(format!("{what} came without a CRC-32C"))),
    }
}

/// Whether two names are of one thing. A project has two names, an id and a number, and Google may answer with either.
pub(super) fn same_resource(one: &str, other: &str) -> bool {
    let split = |name: &str| -> Option<(String, String)> {
        let (project, rest) = name.strip_prefix("projects/")?.split_once('/')?;
        Some((project.to_owned(), rest.to_owned()))
    };
    let numeric = |project: &str| project.bytes().all(|b| b.is_ascii_digit());
    match (split(one), split(other)) {
        (Some((a, one)), Some((b, other))) => one == other && (a == b || numeric(&a) != numeric(&b)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    fn error(code: Code, message: &str) -> GoogleError {
        GoogleError::service(Status::default().set_code(code).set_message(message))
    }

    #[test]
    fn one_code_and_its_meanings() {
        for (text, expected) in [
            (
                "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1 is not enabled, current state is: \
                 DISABLED.",
                Problem::Disabled,
            ),
            (
                "projects/p/k/DISABLED/1 is not enabled, current state is: DESTROY_SCHEDULED.",
                Problem::Missing,
            ),
            ("projects/p/k/DESTROYED/1 is not enabled, current state is: DISABLED.", Problem::Disabled),
            ("x is not enabled, current state is: DESTROYED.", Problem::Missing),
            ("x is not enabled, current state is: PENDING_GENERATION.", Problem::Away),
            ("Secret Version [projects/1/secrets/s/versions/1] is in DISABLED state.", Problem::Disabled),
            ("Secret Version [projects/1/secrets/s/versions/1] is in DESTROYED state.", Problem::Missing),
            (
                "Cloud Key Management Service (KMS) API has not been used in project 1 before or it is disabled. Enable \
                 it by visiting https://console.developers.google.com/apis/api/cloudkms.googleapis.com",
                Problem::Refused,
            ),
        ] {
            assert_eq!(problem(&error(Code::FailedPrecondition, text)), expected, "{text}");
        }
    }

    #[test]
    fn codes() {
        for (code, text, expected) in [
            (Code::NotFound, "", Problem::Missing),
            (Code::AlreadyExists, "", Problem::Exists),
            (Code::PermissionDenied, "", Problem::Refused),
            (Code::Unauthenticated, "", Problem::Refused),
            (Code::Unimplemented, "", Problem::Refused),
            (Code::ResourceExhausted, "", Problem::Away),
            (Code::Internal, "", Problem::Away),
            (Code::Unavailable, "", Problem::Away),
            (
                Code::InvalidArgument,
                "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
                Problem::Invalid,
            ),
            (
                Code::InvalidArgument,
                "The checksum in field plaintext_crc32c did not match the data in field plaintext.",
                Problem::Away,
            ),
        ] {
            assert_eq!(problem(&error(code, text)), expected, "{code:?} {text}");
        }
        for (status, expected) in [
            (401, Problem::Refused),
            (404, Problem::Refused),
            (408, Problem::Away),
            (429, Problem::Away),
            (501, Problem::Refused),
            (502, Problem::Away),
        ] {
            let plain =
                GoogleError::http(status, http::HeaderMap::new(), bytes::Bytes::from_static(b"<html>"));
            assert_eq!(problem(&plain), expected, "{status}");
        }
        for (may_pass, expected) in [(true, Problem::Away), (false, Problem::Refused)] {
            let login = GoogleError::authentication(CredentialsError::from_msg(may_pass, "no"));
            assert_eq!(problem(&login), expected);
        }
    }

    /// RFC 3720, appendix B.4: 32 bytes of zeroes, and 32 of ones.
    #[test]
    fn checksums() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(check("it", &[0; 32], Some(0x8a91_36aa)), Ok(()));
        assert!(matches!(check("it", &[1; 32], Some(0x8a91_36aa)), Err(Error::Unavailable(_))));
        assert!(matches!(check("it", &[0; 32], None), Err(Error::Malformed(_))));
    }

    #[test]
    fn names_of_one_thing() {
        for (one, other, expected) in [
            ("projects/p/secrets/s", "projects/p/secrets/s", true),
            ("projects/p/secrets/s", "projects/123/secrets/s", true),
            ("projects/456/secrets/s", "projects/123/secrets/s", false),
            ("projects/p/secrets/s", "projects/q/secrets/s", false),
            ("projects/p/secrets/s", "projects/p/secrets/t", false),
            ("projects/p/secrets/s", "", false),
        ] {
            assert_eq!(same_resource(one, other), expected, "{one} {other}");
        }
    }
}
