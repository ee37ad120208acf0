//! The credential of a signature: access key and scope, `AKID/20130524/us-east-1/s3/aws4_request`.
//!
//! Source: AWS Signature Version 4 for S3, "Using the Authorization Header", Credential.

use std::fmt;

/// The access key that a request names, and where and when its signing key counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    /// The access key.
    pub(super) access_key: String,
    /// The scope.
    pub(super) scope: Scope,
}

/// Day and region of a signing key. Service and terminator are always `s3` and `aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// `20130524`
    pub(super) day: String,
    /// `us-east-1`
    pub(super) region: String,
}

impl Credential {
    /// Takes a credential apart, from its end: an access key may hold slashes. The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut fields = text.rsplitn(5, '/');
        let (Some(terminator), Some(service), Some(region), Some(day), Some(access_key)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("the Credential must be \"<access-key>/<yyyymmdd>/<region>/s3/aws4_request\"");
        };
        if terminator != "aws4_request" {
            return Err("the Credential must end in \"aws4_request\"");
        }
        if service != "s3" {
            return Err("incorrect service, this endpoint belongs to \"s3\"");
        }
        if day.len() != 8 || !day.bytes().all(|b| b.is_ascii_digit()) {
            return Err("the Credential's date must be \"<yyyymmdd>\"");
        }
        if access_key.is_empty() || region.is_empty() {
            return Err("the Credential lacks the access key or the region");
        }
        let scope = Scope { day: day.to_owned(), region: region.to_owned() };
        Ok(Self { access_key: access_key.to_owned(), scope })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/s3/aws4_request", self.day, self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_from_its_end() {
        let credential = Credential::parse("A/B/20130524/us-east-1/s3/aws4_request").unwrap();
        assert_eq!(credential.access_key, "A/B");
        assert_eq!(credential.scope.to_string(), "20130524/us-east-1/s3/aws4_request");
    }

    #[test]
    fn what_is_no_credential() {
        for text in [
            "A/20130524/us-east-1/s3",
            "A/20130524/us-east-1/s3/aws5_request",
            "A/20130524/us-east-1/ec2/aws4_request",
            "A/2013-5-24/us-east-1/s3/aws4_request",
            "/20130524/us-east-1/s3/aws4_request",
            "A/20130524//s3/aws4_request",
        ] {
            assert!(Credential::parse(text).is_err(), "{text}");
        }
    }
}
