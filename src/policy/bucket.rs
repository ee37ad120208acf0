//! The default that PutBucketEncryption sets for a bucket, and whoever knows it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::EkRef;
use super::table::{Effect, Seal};
use crate::kms::EkName;
use crate::s3::bucket_encryption::BucketEncryption;
use crate::s3::{Bucket, Result};

/// What a bucket's clients have set, checked against the rules when it was set and again at each use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDefault {
    /// What the client wrote.
    pub asked: BucketEncryption,
    /// The EK that it names, where it names one.
    pub ek: Option<EkRef>,
}

/// Knows the defaults of buckets.
pub trait Defaults: Sync {
    /// A bucket's default, not older than a few seconds.
    ///
    /// Errors: those of the store and the KMS. Without an answer nothing may be written: it could be under the wrong key.
    fn of<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Option<Arc<BucketDefault>>>>;
}

/// Leave to set a bucket's default, as far as its rules let one.
#[derive(Clone, Debug)]
pub struct Settable {
    rules: Vec<Arc<Seal>>,
}

impl Settable {
    /// For a bucket that these rules are for; `None` if none of them seals.
    pub(super) fn of<'t>(effects: impl Iterator<Item = &'t Effect>) -> Option<Self> {
        let sealing = effects.filter_map(|effect| match effect {
            Effect::Seal(seal) => Some(seal.clone()),
            Effect::Passthrough | Effect::Deny => None,
        });
        let rules: Vec<_> = sealing.collect();
        (!rules.is_empty()).then_some(Self { rules })
    }

    /// The EK that a client names.
    ///
    /// Errors: AccessDenied if no rule lets a client name it, KMS.NotFoundException for what is no name of one.
    pub fn named(&self, key_id: &str) -> Result<EkRef> {
        let mut refused = None;
        for seal in &self.rules {
            match super::choice::named(seal, key_id) {
                Ok(ek) => return Ok(ek),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.expect("there is a rule, and it refused"))
    }

    /// The EK of the broadest rule: what seals without a default, and the default itself where it is kept.
    pub fn own(&self) -> &EkRef {
        &self.rules.last().expect("there is a rule").ek
    }

    /// The names of the EKs that clients get without a default, for messages.
    pub fn static_eks(&self) -> Vec<&EkName> {
        let mut eks: Vec<&EkName> = Vec::new();
        for seal in &self.rules {
            if !eks.contains(&&seal.ek.ek) {
                eks.push(&seal.ek.ek);
            }
        }
        eks
    }
}
