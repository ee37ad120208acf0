//! What an object is, by its envelope: nothing is opened, and no KMS is asked.

use super::super::open;
use super::{Estate, key_of, target};
use crate::s3::listing::Listed;
use crate::s3::{Bucket, Error, Result};
use crate::seal::{Header, Layout, Sse};

/// What an object is.
#[derive(Debug)]
pub enum Seen {
    /// It has no envelope.
    Plain,
    /// Sealed under an EK.
    Sealed {
        /// The KMS, by its name in the configuration that sealed it.
        kms: String,
        /// The EK.
        ek: String,
        /// It was a multipart upload.
        composite: bool,
    },
    /// Sealed under its client's own key (SSE-C).
    Customer,
    /// Its envelope is none.
    Broken(Error),
    /// It was deleted meanwhile, or is a delete marker.
    Gone,
}

impl Seen {
    pub(super) fn of(header: &Header) -> Self {
        match header.sse {
            Sse::Customer => Self::Customer,
            _ => Self::Sealed {
                kms: header.kms.clone(),
                ek: header.ek.clone(),
                composite: header.layout == Layout::Composite,
            },
        }
    }
}

impl Estate {
    /// Looks at an object, or at a version of it.
    pub async fn look(&self, bucket: &Bucket, listed: &Listed) -> Result<Seen> {
        if listed.is_marker() {
            return Ok(Seen::Gone);
        }
        let key = key_of(listed)?;
        let Some(stored) = self.head(target(bucket, &key, listed.version_id.as_deref())).await? else {
            return Ok(Seen::Gone);
        };
        Ok(match open::parsed(&stored) {
            Ok(None) => Seen::Plain,
            Ok(Some(envelope)) => Seen::of(envelope.header()),
            Err(error) => Seen::Broken(error),
        })
    }
}
