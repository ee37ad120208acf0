//! What Azure's refusals mean.
//!
//! An error is `{"error": {"code": "Forbidden", "message": "…", "innererror": {"code": "KeyDisabled"}}}`; the inner code
//! says what the status does not. Source: Azure's REST error guidelines; the inner codes as its SDKs' issues quote them
//! (azure-sdk-for-python 45342, azure-sdk-for-js 24756, where it is spelt `innerError`).

use azure_core::error::ErrorKind;
use serde::Deserialize;

use super::transport::Away;
use crate::kms::{EkName, Error};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    error: Detail,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Detail {
    code: String,
    message: String,
    #[serde(alias = "innerError")]
    innererror: Option<Inner>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner {
    code: String,
}

/// What makes the error of a call that was about this EK.
pub(super) fn about(ek: &EkName) -> impl Fn(azure_core::Error) -> Error {
    move |why| of_ek(ek, &why)
}

fn of_ek(ek: &EkName, why: &azure_core::Error) -> Error {
    let ErrorKind::HttpResponse { status, raw_response, .. } = why.kind() else {
        return of_call(why);
    };
    let body = raw_response.as_ref().map(|raw| raw.body().as_ref()).unwrap_or_default();
    let Detail { code, message, innererror } = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
    let inner = innererror.unwrap_or_default().code;
    let status = u16::from(*status);
    let said = || {
        let words = [status.to_string(), code.clone(), inner.clone(), message.clone()];
        line(&words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
    };
    match (status, inner.as_str()) {
        // Not what a gateway in between does not find.
        (404, _) if matches!(code.as_str(), "KeyNotFound" | "SecretNotFound") => Error::NoSuchKey(ek.clone()),
        (403, "KeyDisabled" | "SecretDisabled") => Error::Disabled(ek.clone()),
        (400, _) => Error::Malformed(said()),
        (409, "ObjectIsDeletedButRecoverable") => Error::Exists(ek.clone()),
        // Azure is still deleting, purging or recovering it.
        (409, _) => Error::Unavailable(said()),
        _ => Error::Denied(said()),
    }
}

/// The error of a call that has no EK, or brought no answer of the vault.
pub(super) fn of_call(why: &azure_core::Error) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(why);
    while let Some(at) = cause {
        if at.is::<Away>() {
            return Error::Unavailable(line(&why.to_string()));
        }
        cause = at.source();
    }
    match why.kind() {
        ErrorKind::DataConversion => Error::Malformed(line(&why.to_string())),
        _ => Error::Denied(line(&why.to_string())),
    }
}

/// The first line of a text, as long as a log line may be.
fn line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use azure_core::http::RawResponse;
    use azure_core::http::headers::Headers;

    use super::*;

    fn answered(status: u16, body: &str) -> Error {
        let raw = RawResponse::from_bytes(status.into(), Headers::new(), body.as_bytes().to_vec());
        let kind = ErrorKind::HttpResponse {
            status: status.into(),
            error_code: None,
            raw_response: Some(Box::new(raw)),
        };
        of_ek(&EkName::parse("a").unwrap(), &azure_core::Error::new(kind, "refused"))
    }

    #[test]
    fn refusals() {
        let ek = EkName::parse("a").unwrap();
        let with = |field: &str, inner: &str| {
            format!(r#"{{"error":{{"code":"Forbidden","message":"No.","{field}":{{"code":"{inner}"}}}}}}"#)
        };
        assert_eq!(answered(403, &with("innererror", "KeyDisabled")), Error::Disabled(ek.clone()));
        assert_eq!(answered(403, &with("innerError", "SecretDisabled")), Error::Disabled(ek.clone()));
        assert_eq!(
            answered(403, &with("innererror", "ForbiddenByPolicy")),
            Error::Denied("403 Forbidden ForbiddenByPolicy No.".into())
        );
        assert_eq!(answered(403, "<html>"), Error::Denied("403".into()));
        for code in ["KeyNotFound", "SecretNotFound"] {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"A key with ... was not found"}}}}"#);
            assert_eq!(answered(404, &body), Error::NoSuchKey(ek.clone()));
        }
        for body in ["{}", "<html>", "", r#"{"error":{"code":"ResourceNotFound"}}"#] {
            assert!(matches!(answered(404, body), Error::Denied(why) if why.starts_with("404")), "{body}");
        }
        assert_eq!(answered(409, &with("innererror", "ObjectIsDeletedButRecoverable")), Error::Exists(ek));
        assert!(matches!(
            answered(409, &with("innererror", "ObjectIsBeingDeleted")),
            Error::Unavailable(why) if why.contains("ObjectIsBeingDeleted")
        ));
        assert!(matches!(answered(400, "{}"), Error::Malformed(_)));
    }
}
