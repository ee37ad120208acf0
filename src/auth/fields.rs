//! What of a form's fields the other rooms may see: the headers of the write that they ask for, and what its file must
//! prove. A list of what is let through: a field becomes a header of a request to the store.
//!
//! Source: Amazon S3 API Reference, "POST Object", form fields.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::body::form::Fields;
use crate::s3::{Code, Error, Result, xml};

/// Fields that are headers of the same name.
const SAME: [&str; 12] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
    "x-amz-acl",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
];

/// What the names of others begin with.
const PREFIXES: [&str; 5] =
    ["x-amz-checksum-", "x-amz-grant-", "x-amz-meta-", "x-amz-object-lock-", "x-amz-server-side-encryption"];

/// Fields of the signature.
const SPENT: [&str; 5] =
    ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-security-token", "x-amz-signature"];

/// The headers that a form's fields stand for. Of the other fields some are read elsewhere, and S3 ignores the rest.
///
/// Errors: InvalidArgument for a value that no header can have, and for a field of S3's own that no form has;
/// MalformedXML for tags that are none.
pub(super) fn headers(fields: &Fields) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter() {
        let (header, text) = match name {
            "acl" => ("x-amz-acl", value.into()),
            "tagging" => ("x-amz-tagging", xml::tags_of_client(value.as_bytes())?.into()),
            _ if SAME.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => {
                (name, std::borrow::Cow::Borrowed(value))
            }
            _ if name.starts_with("x-amz-") && !SPENT.contains(&name) => {
                return Err(refused(name, "is not one of PostObject's: leave it out"));
            }
            _ => continue,
        };
        let (Ok(header), Ok(value)) =
            (HeaderName::try_from(header), HeaderValue::from_bytes(text.as_bytes()))
        else {
            return Err(refused(name, "can't stand for a header: change its name or value"));
        };
        if headers.insert(header, value).is_some() {
            return Err(refused(name, "says what another field says: send one of them"));
        }
    }
    Ok(headers)
}

fn refused(name: &str, what: &str) -> Error {
    Error::new(Code::InvalidArgument, format!("The form's field '{name}' {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_headers() {
        let fields = Fields::from([
            ("key", "k"),
            ("acl", "private"),
            ("Content-Type", "text/plain"),
            ("x-amz-meta-É", "never a header's name, but never one that is let in either"),
            ("x-amz-date", "20300101T000000Z"),
            ("success_action_status", "201"),
            ("tagging", "<Tagging><TagSet><Tag><Key>a b</Key><Value>1</Value></Tag></TagSet></Tagging>"),
        ]);
        assert_eq!(headers(&fields).unwrap_err().code(), Code::InvalidArgument);
        let fields = Fields::from([
            ("key", "k"),
            ("acl", "private"),
            ("Content-Type", "text/plain"),
            ("x-amz-meta-a", "é"),
            ("x-amz-date", "20300101T000000Z"),
            ("success_action_status", "201"),
            ("tagging", "<Tagging><TagSet><Tag><Key>a b</Key><Value>1</Value></Tag></TagSet></Tagging>"),
        ]);
        let headers = headers(&fields).unwrap();
        let value = |name: &str| String::from_utf8(headers[name].as_bytes().to_vec()).unwrap();
        assert_eq!(headers.len(), 4);
        assert_eq!(value("x-amz-acl"), "private");
        assert_eq!(value("content-type"), "text/plain");
        assert_eq!(value("x-amz-meta-a"), "é");
        assert_eq!(value("x-amz-tagging"), "a%20b=1");
    }

    #[test]
    fn what_no_form_may_ask() {
        for fields in [
            [("x-amz-copy-source", "/b/k"), ("key", "k")],
            [("x-amz-write-offset-bytes", "1"), ("key", "k")],
            [("x-amz-acl", "private"), ("acl", "public-read")],
            [("x-amz-meta-a", "one\r\nx-amz-acl: public-read"), ("key", "k")],
        ] {
            assert_eq!(
                headers(&Fields::from(fields)).unwrap_err().code(),
                Code::InvalidArgument,
                "{fields:?}"
            );
        }
        let fields = Fields::from([("tagging", "<Tagging>")]);
        assert_eq!(headers(&fields).unwrap_err().code(), Code::MalformedXML);
    }
}
