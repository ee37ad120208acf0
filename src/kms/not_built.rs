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

#[cfg(test)]
mod tests {
    use super::*;

    /// As `KmsConfig` has it.
    #[derive(Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case")]
    enum Section {
        AwsKms(NotBuilt),
    }

    #[test]
    fn its_settings_are_read_over_and_the_remedy_is_said() {
        let section = "kind = 'aws-kms'\nregion = 'x'\nkeys = { a = ['b'] }";
        let Section::AwsKms(kms) = toml::from_str(section).unwrap();
        for built in [kms.build(), NotBuilt.build_keys(), NotBuilt.build_secrets()] {
            let why = built.err().unwrap().to_string();
            assert!(why.contains("built without it") && why.contains("--features aws"), "{why}");
        }
    }
}
