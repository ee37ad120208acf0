//! The signature of a browser form (PostObject): it stands in the form's fields and covers the policy, as text.
//!
//! ```text
//! version 4: signature = hex(HMAC-SHA256(signing key, base64(policy document)))
//! version 2: signature = base64(HMAC-SHA1(secret key, base64(policy document)))
//! ```
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Browser-Based Uploads Using POST"; Amazon S3 User Guide,
//! "Browser-based uploads using POST (AWS signature version 2)".

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::s3::{Code, Error, Result};

use super::claim::{parse_signature, unsupported};
use super::config::Mode;
use super::identity::Who;
use super::scope::Credential;
use super::signature;
use super::timestamp::Timestamp;
use super::verify::{Authenticator, check_token, unknown_key};

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

/// The same of Signature Version 2.
#[derive(Clone, Copy)]
pub(super) struct OldForm<'a> {
    pub(super) policy: &'a str,
    pub(super) access_key: &'a str,
    pub(super) signature: &'a str,
    pub(super) token: Option<&'a str>,
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

    /// The same for a form that is signed with Signature Version 2.
    pub(super) fn verify_old_form(&self, form: &OldForm<'_>) -> Result<Who> {
        if !self.takes_old_forms() {
            return Err(Error::new(
                Code::InvalidRequest,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256 (x-amz-algorithm, \
                 x-amz-credential, x-amz-date and x-amz-signature), or set auth.sigv2_forms = true in s3veil.",
            ));
        }
        let (identity, secret) = self.find(form.access_key);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let given = STANDARD.decode(form.signature.trim()).unwrap_or_default();
        // Compared for an unknown access key too, so that both take as long; in constant time.
        let fits = hmac::verify(&key, form.policy.as_bytes(), &given).is_ok();
        let identity = identity.ok_or_else(unknown_key)?;
        if !fits {
            return Err(signature::mismatch());
        }
        check_token(form.token, identity)?;
        Ok(Who::Identity(Arc::clone(identity)))
    }
}

fn wrong(what: impl AsRef<str>) -> Error {
    Error::new(Code::InvalidArgument, format!("The form's signature can't be read; {}.", what.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Config;

    fn authenticator(more: &str, access_key: &str, secret_key: &str) -> Authenticator {
        let text = format!(
            "{more}\n[[identities]]\nname = 'alice'\naccess_key = '{access_key}'\nsecret_key = '{secret_key}'"
        );
        toml::from_str::<Config>(&text).unwrap().build().unwrap()
    }

    /// "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)".
    #[test]
    fn the_published_example_of_version_4() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let authenticator = authenticator("region = 'us-east-1'", "AKIAIOSFODNN7EXAMPLE", secret);
        let policy = STANDARD.encode(EXAMPLE_4.replace('\n', "\r\n"));
        let form = SignedForm {
            policy: &policy,
            algorithm: "AWS4-HMAC-SHA256",
            credential: "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
            date: "20151229T000000Z",
            signature: "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
            token: None,
        };
        assert!(
            matches!(authenticator.verify_form(&form).unwrap(), Who::Identity(who) if who.name == "alice")
        );
        let other = SignedForm { policy: &policy[1..], ..form };
        assert_eq!(authenticator.verify_form(&other).unwrap_err().code(), Code::SignatureDoesNotMatch);
    }

    /// "Browser-based uploads using POST (AWS signature version 2)", file upload.
    #[test]
    fn the_published_example_of_version_2() {
        let (access_key, secret) = ("AKIAIOSFODNN7EXAMPLE", "uV3F3YluFJax1cknvbcGwgjvx4QpvB+leU8dUj2o");
        let policy = STANDARD.encode(EXAMPLE_2);
        let form =
            OldForm { policy: &policy, access_key, signature: "0RavWzkygo6QX9caELEqKi9kDbU=", token: None };
        let on = authenticator("sigv2_forms = true", access_key, secret);
        assert!(matches!(on.verify_old_form(&form).unwrap(), Who::Identity(who) if who.name == "alice"));
        for (wrong, code) in [
            (OldForm { policy: &policy[4..], ..form }, Code::SignatureDoesNotMatch),
            (OldForm { signature: "", ..form }, Code::SignatureDoesNotMatch),
            (OldForm { signature: "0RavWzkygo6QX9caELEqKi9kDbU", ..form }, Code::SignatureDoesNotMatch),
            (OldForm { access_key: "other", ..form }, Code::InvalidAccessKeyId),
            (OldForm { token: Some("t"), ..form }, Code::InvalidToken),
        ] {
            assert_eq!(on.verify_old_form(&wrong).unwrap_err().code(), code);
        }
        let off = authenticator("", access_key, secret);
        assert_eq!(off.verify_old_form(&form).unwrap_err().code(), Code::InvalidRequest);
    }

    const EXAMPLE_4: &str = r#"{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}"#;

    const EXAMPLE_2: &str = r#"{ "expiration": "2007-12-01T12:00:00.000Z",
  "conditions": [
    {"bucket": "johnsmith"},
    ["starts-with", "$key", "user/eric/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://johnsmith.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    ["starts-with", "$x-amz-meta-tag", ""]
  ]
}
"#;
}
