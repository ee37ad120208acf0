//! The signature of a browser form (PostObject): it stands in the form's fields and covers the policy, as text.
//!
//! ```text
//! signature = HMAC(signing key, base64(policy document))
//! ```
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Browser-Based Uploads Using POST".

use std::sync::Arc;

use crate::s3::{Code, Error, Result};

use super::claim::{parse_signature, unsupported};
use super::config::Mode;
use super::identity::Who;
use super::scope::Credential;
use super::timestamp::Timestamp;
use super::verify::{Authenticator, check_token};

/// The fields of a form that concern its signature.
#[derive(Clone, Copy, Debug)]
pub struct SignedForm<'a> {
    /// `policy`: the document in base64, as it was sent.
    pub policy: &'a str,
    /// `x-amz-algorithm`
    pub algorithm: &'a str,
    /// `x-amz-credential`
    pub credential: &'a str,
    /// `x-amz-date`
    pub date: &'a str,
    /// `x-amz-signature`
    pub signature: &'a str,
    /// `x-amz-security-token`
    pub token: Option<&'a str>,
}

impl Authenticator {
    /// Verifies the signature of a browser form. Its policy's expiration and conditions are the caller's to judge: they
    /// alone say how long the form is good, and for what.
    pub fn verify_form(&self, form: &SignedForm<'_>) -> Result<Who> {
        if self.mode() == Mode::Trusted {
            return Ok(Who::Trusted);
        }
        if form.algorithm != "AWS4-HMAC-SHA256" {
            return Err(unsupported());
        }
        let credential = Credential::parse(form.credential).map_err(wrong)?;
        let time = Timestamp::parse(form.date)
            .ok_or_else(|| wrong("x-amz-date must be \"yyyyMMdd'T'HHmmss'Z'\""))?;
        self.check_scope(&credential, &time, wrong)?;
        let signature =
            parse_signature(form.signature).ok_or_else(|| wrong("x-amz-signature must be 64 hex digits"))?;
        let (identity, _) = self.check_signature(&credential, form.policy, &signature)?;
        check_token(form.token, identity)?;
        Ok(Who::Identity(Arc::clone(identity)))
    }
}

fn wrong(what: impl AsRef<str>) -> Error {
    Error::new(Code::InvalidArgument, format!("The form's signature can't be read; {}.", what.as_ref()))
}
