//! What AWS calls an EK's keys.

use serde::Deserialize;

use crate::kms::{EkName, Error};

/// The keys of one EK as typed: an id, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a key's ARN, id or alias, or a list of them with the one in use first")]
pub enum KeysConfig {
    /// The key.
    One(String),
    /// The key that wraps now, and those that did before.
    Several(Vec<String>),
}

/// The keys of one EK.
#[derive(Clone, Debug)]
pub(super) struct EkKeys {
    /// Wraps and unwraps.
    pub now: KeyId,
    /// Wrapped once, and still unwrap. By id: an alias may be moved.
    pub former: Vec<KeyId>,
}

/// A key as AWS is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyId {
    /// `alias/NAME`, or its ARN: the key that it points to when AWS is asked.
    Alias(String),
    /// One key for ever, by its id or ARN.
    Key(String),
}

impl EkKeys {
    /// Errors: what is wrong with the value, and the remedy.
    pub(super) fn parse(config: KeysConfig) -> Result<Self, String> {
        let texts = match config {
            KeysConfig::One(text) => vec![text],
            KeysConfig::Several(texts) => texts,
        };
        let mut ids = texts.into_iter().map(KeyId::parse);
        let now = ids.next().ok_or("it is empty. Write the key's ARN, its id or alias/NAME")??;
        let former = ids.collect::<Result<Vec<_>, _>>()?;
        if let Some(KeyId::Alias(alias)) = former.iter().find(|id| matches!(id, KeyId::Alias(_))) {
            return Err(format!("'{alias}' is an alias, and only the first may be one. Write the key's id"));
        }
        Ok(Self { now, former })
    }

    /// The key of an EK that the configuration does not list: its name is a key's id, or else an alias.
    pub(super) fn of(ek: &EkName) -> Self {
        let name = ek.as_str();
        let now = if is_id(name) { KeyId::Key(name.into()) } else { KeyId::Alias(format!("alias/{name}")) };
        Self { now, former: Vec::new() }
    }

    /// All of them, the one in use first.
    pub(super) fn all(&self) -> impl Iterator<Item = &KeyId> {
        std::iter::once(&self.now).chain(&self.former)
    }

    /// What to ask to unwrap what a key of this id has wrapped. None if that can't be one of the EK's.
    pub(super) fn by_version(&self, version: &str) -> Option<&KeyId> {
        let named = self.all().find(|key| key.id() == Some(version));
        // AWS refuses what another key than the alias' has wrapped.
        named.or_else(|| is_id(version).then_some(&self.now).filter(|key| matches!(key, KeyId::Alias(_))))
    }
}

impl KeyId {
    fn parse(text: String) -> Result<Self, String> {
        let name = text.strip_prefix("arn:").map_or(Some(&*text), |arn| {
            let mut parts = arn.splitn(5, ':').skip(1);
            parts.next().filter(|service| *service == "kms").and(parts.nth(2))
        });
        match name {
            Some(name) if name.strip_prefix("alias/").is_some_and(|alias| !alias.is_empty()) => {
                Ok(Self::Alias(text))
            }
            Some(name) if is_id(name.strip_prefix("key/").unwrap_or(name)) => Ok(Self::Key(text)),
            _ => Err(format!("'{text}' is not a key. Write the key's ARN, its id or alias/NAME")),
        }
    }

    /// As AWS takes it.
    pub(super) fn as_str(&self) -> &str {
        let (Self::Alias(text) | Self::Key(text)) = self;
        text
    }

    /// The id of the one key that this is.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Alias(_) => None,
            Self::Key(text) => Some(id_of(text).unwrap_or(text)),
        }
    }

    /// The id of the key that AWS says it has used.
    ///
    /// Errors: [`Error::Malformed`] when that is another than was asked for.
    pub(super) fn answered(&self, arn: Option<&str>) -> Result<String, Error> {
        let arn = arn.unwrap_or_default();
        let asked = match self {
            Self::Alias(_) => true,
            Self::Key(text) if text.starts_with("arn:") => text == arn,
            Self::Key(text) => id_of(arn) == Some(text),
        };
        match id_of(arn) {
            Some(id) if asked && is_id(id) => Ok(id.to_owned()),
            _ => Err(Error::Malformed(format!("AWS answers with the key '{arn}' for '{}'", self.as_str()))),
        }
    }
}

/// The id in a key's ARN: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
fn id_of(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split_once(":key/").map(|(_, id)| id)
}

/// Whether this has the form of a key's id: a UUID, or `mrk-` and its 32 digits for a multi-Region key.
fn is_id(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match text.strip_prefix("mrk-") {
        Some(digits) => digits.len() == 32 && hex(digits),
        None => {
            let lengths = text.split('-').map(str::len);
            lengths.eq([8, 4, 4, 4, 12]) && text.split('-').all(hex)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    const MRK: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";
    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn the_forms_of_a_key() {
        for text in [ID, MRK, ARN, "arn:aws-cn:kms:cn-north-1:1:key/mrk-1234abcd12ab34cd56ef1234567890ab"] {
            assert_eq!(KeyId::parse(text.into()), Ok(KeyId::Key(text.into())));
        }
        for text in ["alias/main", "alias/team/main", "arn:aws:kms:eu-central-1:111122223333:alias/main"] {
            assert_eq!(KeyId::parse(text.into()), Ok(KeyId::Alias(text.into())));
        }
        for text in
            ["", "main", "alias/", "arn:aws:s3:::bucket", "arn:aws:kms:r:1:key/main", "arn:", &ID[1..]]
        {
            let error = KeyId::parse(text.into()).unwrap_err();
            assert!(error.contains(&format!("'{text}'")) && error.contains("Write"), "{error}");
        }
    }

    #[test]
    fn an_ek_is_its_alias_unless_it_is_an_id() {
        let of = |name: &str| EkKeys::of(&EkName::parse(name).unwrap()).now;
        assert_eq!(of("main"), KeyId::Alias("alias/main".into()));
        assert_eq!(of(ID), KeyId::Key(ID.into()));
        assert_eq!(of(MRK), KeyId::Key(MRK.into()));
    }

    #[test]
    fn only_the_keys_of_an_ek_unwrap() {
        let other = "ffffffff-12ab-34cd-56ef-1234567890ab";
        let several =
            |texts: &[&str]| EkKeys::parse(KeysConfig::Several(texts.iter().map(|t| (*t).into()).collect()));
        let keys = several(&["alias/main", ARN]).unwrap();
        assert_eq!(keys.by_version(ID), Some(&KeyId::Key(ARN.into())));
        assert_eq!(keys.by_version(other), Some(&KeyId::Alias("alias/main".into())));
        assert_eq!(keys.by_version("no such version"), None);
        assert_eq!(several(&[ARN]).unwrap().by_version(other), None);
        assert!(several(&[]).unwrap_err().contains("Write"));
        assert!(several(&[ARN, "alias/old"]).unwrap_err().contains("alias/old"));
    }

    #[test]
    fn an_answer_with_another_key_is_a_lie() {
        let key = KeyId::Key(ID.into());
        assert_eq!(key.answered(Some(ARN)).as_deref(), Ok(ID));
        assert_eq!(KeyId::Alias("alias/a".into()).answered(Some(ARN)).as_deref(), Ok(ID));
        let elsewhere = ARN.replace("eu-central-1", "us-east-1");
        assert!(KeyId::Key(ARN.into()).answered(Some(&elsewhere)).is_err());
        for lie in [None, Some(""), Some(ID), Some("arn:aws:kms:r:1:key/x")] {
            assert!(key.answered(lie).is_err(), "{lie:?}");
        }
    }
}
