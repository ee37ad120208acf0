//! What stands for a cloud's KMS in a build without it: its settings are read over, and said to be of no use here.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::{ConfigError, Kms};

/// The settings of a KMS that this build does not have.
#[derive(Debug)]
pub struct NotBuilt;

impl<'de> Deserialize<'de> for NotBuilt {
    fn deserialize<D: Deserializer<'de>>(settings: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(settings).map(|_| Self)
    }
}

impl NotBuilt {
    /// Errors: always.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        Err("kind: this s3veil was built without it. Take a full build, or add --features aws, google or azure"
            .to_owned()
            .into())
    }

    /// As [`NotBuilt::build`].
    pub fn build_keys(self) -> Result<Box<dyn Kms>, ConfigError> {
        self.build()
    }

    /// As [`NotBuilt::build`].
    pub fn build_secrets(self) -> Result<Box<dyn Kms>, ConfigError> {
        self.build()
    }
}
