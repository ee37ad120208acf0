//! The headers of server-side encryption: what a request asks for, and the key that a client brings along (SSE-C).
//!
//! Source: Amazon S3 User Guide, "Protecting data with encryption"; Amazon S3 API Reference, PutObject and GetObject.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Code, Error, Result};

const METHOD: &str = "x-amz-server-side-encryption";
const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";

/// What the headers of a client's key begin with: of the object itself, and of the source of a copy.
const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
const SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer-";

/// What a write asks for.
#[derive(Debug)]
pub struct Requested {
    /// The method; the bucket's default where none is named.
    pub method: Option<Method>,
    /// Whether by a Bucket Key; the bucket's default where that is not said.
    pub bucket_key: Option<bool>,
}

/// A method of encryption that a request names.
#[derive(Debug, PartialEq, Eq)]
pub enum Method {
    /// `AES256`.
    S3,
    /// `aws:kms`.
    Kms {
        /// The key, as the client wrote it.
        key: Option<String>,
        /// The encryption context, as the client wrote it.
        context: Option<String>,
    },
    /// The client's own key, which [`CustomerKey::of`] reads.
    Customer,
}

impl Requested {
    /// Reads the headers of a write.
    ///
    /// Errors: InvalidArgument for what S3 does not have, or that does not go together.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let named = text(headers, METHOD)?;
        let (key, context) = (text(headers, KEY_ID)?, text(headers, CONTEXT)?);
        let bucket_key = match text(headers, BUCKET_KEY)? {
            None => None,
            Some(flag) if flag.eq_ignore_ascii_case("true") => Some(true),
            Some(flag) if flag.eq_ignore_ascii_case("false") => Some(false),
            Some(_) => return Err(invalid(format!("{BUCKET_KEY} must be true or false."))),
        };
        let of_kms = key.is_some() || context.is_some();
        let method = match named {
            Some(_) if names_customer(headers, CUSTOMER) => {
                return Err(invalid(
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method \
                     specified",
                ));
            }
            Some("aws:kms") => {
                Some(Method::Kms { key: key.map(str::to_owned), context: context.map(str::to_owned) })
            }
            Some("AES256") | None if of_kms => {
                return Err(invalid(format!(
                    "{KEY_ID} and {CONTEXT} go with {METHOD}: aws:kms only. Add it, or remove them."
                )));
            }
            Some("AES256") => Some(Method::S3),
            None if names_customer(headers, CUSTOMER) => Some(Method::Customer),
            None => None,
            Some(_) => {
                return Err(invalid(
                    "The encryption method specified is not supported. Use aws:kms or AES256.",
                ));
            }
        };
        Ok(Self { method, bucket_key })
    }
}

/// A read names no method: the object has its own.
///
/// Errors: InvalidArgument, as at S3.
pub fn refuse_on_read(headers: &HeaderMap) -> Result<()> {
    match [METHOD, KEY_ID, CONTEXT].into_iter().find(|name| headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(invalid(format!("{name} header is not supported for this operation."))),
    }
}

/// Whose key headers speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The object that the request names.
    Own,
    /// The source of a copy.
    Source,
}

/// The key of SSE-C: 256 bits that the client sends along with each request. Never kept beyond it.
#[derive(Clone)]
pub struct CustomerKey {
    key: Zeroizing<[u8; 32]>,
    /// As S3 shows it in answers, in base64.
    md5: String,
}

impl CustomerKey {
    /// The key of a request, if it has one.
    ///
    /// Errors: InvalidArgument and InvalidEncryptionAlgorithmError as S3 gives them.
    pub fn of(headers: &HeaderMap, side: Side) -> Result<Option<Self>> {
        let begins = side.begins();
        if !names_customer(headers, begins) {
            return Ok(None);
        }
        let field = |name: &str| text(headers, &format!("{begins}{name}"));
        let method = "Requests specifying Server Side Encryption with Customer provided keys must provide";
        match field("algorithm")? {
            Some("AES256") => {}
            Some(_) => {
                return Err(Error::new(
                    Code::InvalidEncryptionAlgorithm,
                    "The encryption request you specified is not valid. The valid value is AES256.",
                ));
            }
            None => return Err(invalid(format!("{method} a valid encryption algorithm."))),
        }
        let key = field("key")?.ok_or_else(|| invalid(format!("{method} an appropriate secret key.")))?;
        let key = Self::parse(key).ok_or_else(|| {
            invalid("The secret key was invalid for the specified algorithm: it is the base64 of 32 bytes.")
        })?;
        let claimed = field("key-md5")?
            .ok_or_else(|| invalid(format!("{method} the client calculated MD5 of the secret key.")))?;
        match key.md5.as_bytes().ct_eq(claimed.as_bytes()).into() {
            true => Ok(Some(key)),
            false => {
                Err(invalid("The calculated MD5 hash of the key did not match the hash that was provided."))
            }
        }
    }

    /// A key in base64.
    pub fn parse(base64: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(base64).ok()?);
        let key = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
        let md5 = BASE64_STANDARD.encode(Md5::digest(key.as_slice()));
        Some(Self { key, md5 })
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// Their MD5 in base64, which answers show.
    pub fn md5(&self) -> &str {
        &self.md5
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(***)")
    }
}

impl Side {
    fn begins(self) -> &'static str {
        match self {
            Self::Own => CUSTOMER,
            Self::Source => SOURCE_CUSTOMER,
        }
    }
}

/// Whether a header speaks of encryption, the object's or that of a copy's source.
pub fn is_encryption(name: &str) -> bool {
    name.starts_with(METHOD) || name.starts_with(SOURCE_CUSTOMER)
}

fn names_customer(headers: &HeaderMap, begins: &str) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(begins))
}

/// The only value of a header.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.trim())),
        _ => Err(invalid(format!("{name} is sent more than once, or is not readable text. Correct it."))),
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::try_from(*n).unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn methods_and_what_goes_with_them() {
        let of = |pairs: &[(&str, &str)]| Requested::of(&headers(pairs)).map(|asked| asked.method);
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[(METHOD, "AES256")]).unwrap(), Some(Method::S3));
        let (key, context) = (Some("k".to_owned()), Some("e30=".to_owned()));
        assert_eq!(
            of(&[(METHOD, "aws:kms"), (KEY_ID, "k"), (CONTEXT, "e30=")]).unwrap(),
            Some(Method::Kms { key, context })
        );
        for wrong in [
            &[(METHOD, "aws:kms:dsse")][..],
            &[(METHOD, "")],
            &[(KEY_ID, "k")],
            &[(CONTEXT, "e30=")],
            &[(METHOD, "AES256"), (KEY_ID, "k")],
            &[(METHOD, "AES256"), (METHOD, "aws:kms")],
            &[(BUCKET_KEY, "yes")],
            &[(METHOD, "AES256"), ("x-amz-server-side-encryption-customer-algorithm", "AES256")],
        ] {
            assert_eq!(of(wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong:?}");
        }
    }

    #[test]
    fn a_customers_key() {
        // The key of AWS's documentation of SSE-C in S3's ranges: any 32 bytes do.
        let (key, md5) = ("pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=", "DWygnHRtgiJ77HCm+1rvHw==");
        let all = [("algorithm", "AES256"), ("key", key), ("key-md5", md5)];
        let of = |fields: &[(&str, &str)], side: Side| {
            let named: Vec<_> =
                fields.iter().map(|(name, value)| (format!("{}{name}", side.begins()), *value)).collect();
            let pairs: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            CustomerKey::of(&headers(&pairs), side)
        };
        for side in [Side::Own, Side::Source] {
            assert_eq!(of(&all, side).unwrap().unwrap().md5(), md5);
            assert!(of(&[], side).unwrap().is_none());
            for at in 0..3 {
                let mut fields = all.to_vec();
                fields.remove(at);
                assert_eq!(of(&fields, side).unwrap_err().code(), Code::InvalidArgument, "{at}");
            }
        }
        for (at, value, code) in [
            (0, "AES128", Code::InvalidEncryptionAlgorithm),
            (1, "AAAA", Code::InvalidArgument),
            (1, "not base64", Code::InvalidArgument),
            (2, "DWygnHRtgiJ77HCm+1rvHg==", Code::InvalidArgument),
        ] {
            let mut fields = all;
            fields[at].1 = value;
            let error = of(&fields, Side::Own).unwrap_err();
            assert_eq!(error.code(), code, "{value}");
            assert!(!format!("{error:?}").contains(key));
        }
        assert_eq!(format!("{:?}", of(&all, Side::Own).unwrap()), "Some(CustomerKey(***))");
    }
}
