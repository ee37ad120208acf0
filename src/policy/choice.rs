//! With which key an object is sealed: the request's own, the bucket's default, or the rule's.
//!
//! Source for the precedence: Amazon S3 User Guide, "Setting default server-side encryption behavior for Amazon S3
//! buckets". A rule that is `locked` knows its own EK only.

use super::bucket::BucketDefault;
use super::table::{EkRef, Seal};
use crate::kms::name::MAX_NAME_LEN;
use crate::kms::{Context, EkName, InvalidContext};
use crate::operation::Call;
use crate::s3::encryption::{CustomerKey, Method, Requested};
use crate::s3::{Code, Error, Result};
use crate::seal::Sse;

/// What mc and others write before a key's name.
const ARN: &str = "arn:aws:kms:";

/// The longest that a client may write for a key. Source: AWS KMS API Reference, KeyId.
const LONGEST: usize = 2048;

/// Leave to write a sealed object, with the key for it.
#[derive(Debug)]
pub struct Write {
    ek: EkRef,
    how: How,
}

#[derive(Debug)]
enum How {
    Ek { sse: Sse, context: Option<Context> },
    Customer(CustomerKey),
}

impl Write {
    /// For `s3veil rotate`: what a client once chose goes on, but for the EK, which is the operator's choice.
    pub fn by_operator(ek: EkRef, sse: Sse, context: Option<Context>) -> Self {
        Self { ek, how: How::Ek { sse, context } }
    }

    /// The EK that seals it. Under a client's key: the one that keeps the key of an upload until it is complete.
    pub fn ek(&self) -> &EkRef {
        &self.ek
    }

    /// What the client is told.
    pub fn sse(&self) -> Sse {
        match self.how {
            How::Ek { sse, .. } => sse,
            How::Customer(_) => Sse::Customer,
        }
    }

    /// The client's encryption context.
    pub fn context(&self) -> Option<&Context> {
        match &self.how {
            How::Ek { context, .. } => context.as_ref(),
            How::Customer(_) => None,
        }
    }

    /// The client's own key, which then seals instead of an EK.
    pub fn customer(&self) -> Option<&CustomerKey> {
        match &self.how {
            How::Ek { .. } => None,
            How::Customer(key) => Some(key),
        }
    }
}

/// What a write asks for, before the bucket's default is known.
pub(super) struct Choice<'a> {
    seal: &'a Seal,
    requested: Requested,
}

impl<'a> Choice<'a> {
    /// Errors: InvalidArgument for headers that S3 does not take.
    pub(super) fn of(seal: &'a Seal, call: &Call) -> Result<Self> {
        Ok(Self { seal, requested: Requested::of(call.headers())? })
    }

    /// Whether the bucket's default says anything here. Where a client can't choose an EK it does not: so a write costs one
    /// request to the store, as long as nobody is let choose.
    pub(super) fn asks_default(&self) -> bool {
        match &self.requested.method {
            _ if self.seal.locked => false,
            Some(Method::Customer) => self.seal.customer_keys,
            Some(Method::Kms { key: Some(_), .. }) => false,
            Some(Method::S3 | Method::Kms { key: None, .. }) | None => self.seal.lets_choose(),
        }
    }

    /// The key. `default` is the bucket's, where it was asked for.
    ///
    /// Errors: AccessDenied for a key that the rule does not let a client name, KMS.NotFoundException for what is no
    /// key's name, InvalidArgument for a context that is none.
    pub(super) fn write(self, call: &Call, default: Option<&BucketDefault>) -> Result<Write> {
        let Self { seal, requested } = self;
        // The rules may have changed since it was set.
        let of_default = || default.and_then(|default| default.ek.as_ref()).filter(|ek| seal.allows(ek));
        let ek = || of_default().unwrap_or(&seal.ek).clone();
        let kms = |bucket_key: bool| if bucket_key { Sse::KmsBucketKey } else { Sse::Kms };
        let by_bucket_key =
            requested.bucket_key.unwrap_or_else(|| default.is_some_and(|default| default.asked.bucket_key));
        match requested.method {
            Some(Method::Customer) => {
                let blocked = default.is_some_and(|default| default.asked.customer_keys_blocked);
                if blocked || seal.locked || !seal.customer_keys {
                    return Err(no_customer_keys());
                }
                let key = call.customer_key().cloned().ok_or_else(no_customer_keys)?;
                Ok(Write { ek: seal.ek.clone(), how: How::Customer(key) })
            }
            Some(Method::S3) => Ok(Write { ek: ek(), how: How::Ek { sse: Sse::S3, context: None } }),
            Some(Method::Kms { key, context }) => {
                let ek = key.map_or_else(|| Ok(ek()), |key| named(seal, &key))?;
                let context =
                    context.as_deref().map_or(Ok(None), Context::of_client).map_err(context_wrong)?;
                Ok(Write { ek, how: How::Ek { sse: kms(by_bucket_key), context } })
            }
            None => {
                let sse = match default {
                    Some(default) if !default.asked.kms => Sse::S3,
                    _ => kms(by_bucket_key),
                };
                Ok(Write { ek: ek(), how: How::Ek { sse, context: None } })
            }
        }
    }
}

/// The EK that a client names: a name, an alias, or an ARN of either.
///
/// Errors: AccessDenied, KMS.NotFoundException.
pub(super) fn named(seal: &Seal, key_id: &str) -> Result<EkRef> {
    let ek = ek_name(key_id)?;
    let ek = EkRef { kms: seal.ek.kms.clone(), ek };
    match seal.allows(&ek) {
        true => Ok(ek),
        false => Err(Error::new(
            Code::AccessDenied,
            format!(
                "The policy of s3veil does not let a client choose the key '{}' here. Leave the key out, or have it added \
                 to client_eks of the rule.",
                ek.ek
            ),
        )),
    }
}

/// `NAME`, `alias/NAME`, `arn:aws:kms:NAME` (as MinIO and mc have it), `arn:aws:kms:REGION:ACCOUNT:alias/NAME`.
fn ek_name(key_id: &str) -> Result<EkName> {
    let name = key_id.strip_prefix(ARN).map_or(key_id, |rest| rest.rsplit(':').next().unwrap_or(rest));
    let name = ["alias/", "key/"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let name = if key_id.len() > LONGEST { "" } else { name };
    EkName::parse(name).map_err(|why| {
        let shown: String = key_id.chars().take(MAX_NAME_LEN).collect();
        Error::new(Code::KmsNotFound, format!("Invalid keyId '{shown}': it is {why}.")).caused_by(why)
    })
}

fn context_wrong(why: InvalidContext) -> Error {
    Error::new(
        Code::InvalidArgument,
        format!("The header x-amz-server-side-encryption-context is wrong: {why}. Correct it."),
    )
}

fn no_customer_keys() -> Error {
    Error::new(
        Code::AccessDenied,
        "Server Side Encryption with Customer provided keys is not allowed here. Leave the key out: the object is sealed \
         under the bucket's own.",
    )
}

#[cfg(test)]
mod tests {
    use super::ek_name;

    #[test]
    fn the_ways_to_name_an_ek() {
        for id in [
            "my-key",
            "alias/my-key",
            "arn:aws:kms:my-key",
            "arn:aws:kms:eu-central-1:111122223333:alias/my-key",
            "arn:aws:kms:eu-central-1:111122223333:key/my-key",
        ] {
            assert_eq!(ek_name(id).unwrap().as_str(), "my-key", "{id}");
        }
        let long = format!("arn:aws:kms:{}:alias/my-key", "x".repeat(2048));
        for id in [long.as_str(), "", "arn:aws:kms:", "a b", "alias/alias/x", "../x"] {
            assert!(ek_name(id).is_err(), "{id}");
        }
    }
}
