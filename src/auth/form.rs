//! Who a browser's form comes from, by its own fields, and what its policy lets it write.
//!
//! A form without a signature of its own is as good as the request that brings it, if that request's signature covers the
//! body: the key and the headers of the write stand in it.
//!
//! Source: Amazon S3 API Reference, "Browser-Based Uploads Using POST".

use std::time::SystemTime;

use http::HeaderMap;

use crate::body::form::Fields;
use crate::s3::headers::strip_aws_chunked;
use crate::s3::{Bucket, Code, Error, Key, Result};

use super::config::Mode;
use super::identity::Who;
use super::payload::Payload;
use super::policy::{Lengths, Policy};
use super::post::{OldForm, SignedForm};
use super::verify::Authenticator;
use super::{address, fields, headers};

/// Fields of either signature. Where one is, the form says that it is signed.
const SIGNED: [&str; 8] = [
    "awsaccesskeyid",
    "policy",
    "signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-signature",
];

/// A form whose sender is known. Only [`Authenticator::verify_posted`] makes one.
#[derive(Debug)]
pub struct VerifiedForm {
    /// Who sends it.
    pub who: Who,
    /// The key that it writes.
    pub key: Key,
    /// The headers of the write that it asks for.
    pub headers: HeaderMap,
    /// What its file must prove; how long it is, only its end says.
    pub payload: Payload,
    /// How long its file may be.
    pub lengths: Lengths,
}

impl Authenticator {
    /// Verifies a form for a bucket, which came in a request of `sender`. `covered`: that request's signature covers it.
    pub fn verify_posted(
        &self,
        (sender, covered): (&Who, bool),
        bucket: &Bucket,
        fields: &Fields,
        now: SystemTime,
    ) -> Result<VerifiedForm> {
        let who = self.sender(sender, covered, fields)?;
        let lengths = match fields.get("policy") {
            Some(policy) => Policy::parse(policy)?.check(bucket, fields, now)?,
            None => Lengths::ANY,
        };
        let key = address::parse_key(fields.get("key").unwrap_or_default())?.ok_or_else(|| {
            Error::new(
                Code::UserKeyMustBeSpecified,
                "The bucket POST must contain the field name 'key', with a value. If it is specified, please check the \
                 order of the fields: the file comes last.",
            )
        })?;
        let mut headers = fields::headers(fields)?;
        headers::hide_keys(&mut headers);
        headers::refuse_reserved(&headers)?;
        strip_aws_chunked(&mut headers);
        let payload = Payload::of_file(&headers)?;
        Ok(VerifiedForm { who, key, headers, payload, lengths })
    }

    fn sender(&self, sender: &Who, covered: bool, fields: &Fields) -> Result<Who> {
        // Signatures are ignored, wherever they stand.
        if self.mode() == Mode::Trusted {
            return Ok(Who::Trusted);
        }
        let signed = SIGNED.iter().any(|name| fields.get(name).is_some());
        match (sender, signed) {
            (Who::Anonymous, true) => self.signer(fields),
            (Who::Anonymous, false) => Ok(Who::Anonymous),
            (_, true) => Err(Error::new(
                Code::InvalidArgument,
                "Only one auth mechanism allowed: sign the form, or the request that brings it.",
            )),
            (_, false) if covered => Ok(sender.clone()),
            (_, false) => Err(Error::new(
                Code::AccessDenied,
                "The request's signature does not cover the form. Sign the hash of its body (x-amz-content-sha256) in the \
                 Authorization header, or put a policy and its signature into the form.",
            )),
        }
    }

    /// The identity whose signature stands in the form.
    fn signer(&self, fields: &Fields) -> Result<Who> {
        let old = ["awsaccesskeyid", "signature"].iter().any(|name| fields.get(name).is_some());
        let new = ["x-amz-algorithm", "x-amz-credential", "x-amz-signature"];
        let new = new.iter().any(|name| fields.get(name).is_some());
        if old && new {
            return Err(Error::new(
                Code::InvalidArgument,
                "Only one auth mechanism allowed: the form has the fields of Signature Version 2 and those of version 4.",
            ));
        }
        let field = |name: &'static str| fields.get(&name.to_ascii_lowercase()).ok_or_else(|| missing(name));
        let token = fields.get("x-amz-security-token");
        if old {
            return self.verify_old_form(&OldForm {
                policy: field("policy")?,
                access_key: field("AWSAccessKeyId")?,
                signature: field("signature")?,
                token,
            });
        }
        self.verify_form(&SignedForm {
            policy: field("policy")?,
            algorithm: field("x-amz-algorithm")?,
            credential: field("x-amz-credential")?,
            date: field("x-amz-date")?,
            signature: field("x-amz-signature")?,
            token,
        })
    }
}

/// The error for half a signature.
fn missing(name: &str) -> Error {
    Error::new(
        Code::InvalidArgument,
        format!(
            "Bucket POST must contain a field named '{name}'. If it is specified, please check the order of the fields: \
             the file comes last."
        ),
    )
    .detail("ArgumentName", name)
}
