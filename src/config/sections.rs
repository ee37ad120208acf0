//! The sections of a configuration as they count, environment and flags included: to tell which are others by now.

use std::collections::BTreeMap;

use figment::Figment;
use figment::value::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What is taken anew without another store, KMS or cache: who may ask, for what, how he connects.
const FRONT: [&str; 5] = ["auth", "policy", "admin", "tls", "limits"];

/// What a running process keeps as it was at its start.
const FIXED: [&str; 3] = ["listen", "log", "traces"];

/// The values of the top-level keys, compared as they were parsed: spaces, comments and the order of keys don't count. It holds
/// hashes only, for there are secrets among them.
#[derive(Clone, Debug)]
pub struct Sections(BTreeMap<String, [u8; 32]>);

impl Sections {
    /// Those of a configuration.
    ///
    /// Errors: what can't be read in it. Without its values nothing in it would count as changed.
    pub(super) fn of(figment: &Figment) -> Result<Self, Box<figment::Error>> {
        let values = figment.extract::<BTreeMap<String, Value>>()?;
        Ok(Self(values.into_iter().map(|(name, value)| (name, hash(&value))).collect()))
    }

    /// Whether the store, the KMSs, the caches and all else that requests are done with are the same. A section that is not
    /// known to be another kind counts as one of these.
    pub fn same_rooms(&self, other: &Self) -> bool {
        let rooms = |sections: &Self| {
            let mut rooms = sections.0.clone();
            rooms.retain(|name, _| !FRONT.contains(&name.as_str()) && !FIXED.contains(&name.as_str()));
            rooms
        };
        rooms(self) == rooms(other)
    }

    /// Whether a section is the same.
    pub fn same(&self, name: &str, other: &Self) -> bool {
        self.0.get(name) == other.0.get(name)
    }
}

fn hash(value: &Value) -> [u8; 32] {
    let text = serde_json::to_vec(value).expect("what TOML and the environment hold is JSON");
    Sha256::digest(Zeroizing::new(text)).into()
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format as _, Toml};

    use super::*;

    fn sections(text: &str) -> Sections {
        Sections::of(&Figment::from(Toml::string(text))).unwrap()
    }

    #[test]
    fn values_count_and_their_text_does_not() {
        const ONE: &str = "listen = '1'\ncache.a = 1.5\n[store]\nendpoint = 'x'\nn = 1\n[auth]\nmode = 'a'";
        let one = sections(ONE);
        let other =
            "# words\ncache = { a = 1.5 }\nlisten=\"1\"\nauth.mode='a'\nstore = { n = 1, endpoint = 'x' }";
        for name in ["listen", "cache", "store", "auth", "absent"] {
            assert!(one.same(name, &sections(other)), "{name}");
        }
        for (from, to, same_rooms) in [
            ("'a'", "'b'", true),
            ("'1'", "'2'", true),
            ("[auth]", "[policy]\n[auth]", true),
            ("'x'", "'y'", false),
            ("1.5", "2.5", false),
            ("cache.a = 1.5\n", "", false),
            ("[auth]", "[limits]\n[tls]\n[auth]", true),
            ("[auth]", "[unheard]\n[auth]", false),
        ] {
            let other = sections(&ONE.replacen(from, to, 1));
            assert_eq!(one.same_rooms(&other), same_rooms, "{from} {to}");
        }
        assert!(!format!("{:?}", sections("auth = 'very-secret'")).contains("very-secret"));
    }

    #[test]
    fn what_can_not_be_read_is_not_the_same_as_nothing() {
        assert!(Sections::of(&Figment::from(Toml::string("listen = '1'\n[store"))).is_err());
    }
}
