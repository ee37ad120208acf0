//! The name of an EK. Checked once, so that it is safe in a path, a URL and a header.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const MAX_NAME_LEN: usize = 80;

/// The name of an EK: 1 to 80 of `0-9 A-Z a-z _ -`, `-` neither first nor last, and not `_` alone.
///
/// The rule is MinIO KES's, so that every name in a KES estate is one here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EkName(String);

/// The text is not a name for an EK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a key name: 1 to 80 letters, digits, '-' or '_', neither first nor last a '-', and not '_' alone"
)]
pub struct InvalidName;

impl EkName {
    /// The name, if it is one.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let fits = !name.is_empty() && name.len() <= MAX_NAME_LEN;
        let clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let framed = !name.starts_with('-') && !name.ends_with('-') && name != "_";
        if fits && clean && framed { Ok(Self(name.to_owned())) } else { Err(InvalidName) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for EkName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::parse(name)
    }
}

impl TryFrom<String> for EkName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::parse(&name)
    }
}

impl From<EkName> for String {
    fn from(name: EkName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        for good in ["a", "my-key", "_a", "a_", "__", "0", "A-b_C", &"x".repeat(80)] {
            assert_eq!(EkName::parse(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "_", "-", "-a", "a-", "a.b", "a/b", "..", "a b", "é", "a\0", "a\n", &"x".repeat(81)]
        {
            assert_eq!(EkName::parse(bad), Err(InvalidName), "{bad:?}");
        }
    }
}
