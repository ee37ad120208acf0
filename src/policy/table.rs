//! The static policy table: bucket pattern and prefix → mode, EK, and whether plain objects may be read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::anonymous::Anonymous;
use crate::kms::EkName;
use crate::s3::{Bucket, Key};

/// One rule as typed in `proxy.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// A bucket's name; `*` stands for any run of characters.
    pub bucket: String,
    /// Keys that begin so. Empty: all keys.
    #[serde(default)]
    pub prefix: String,
    /// What happens to the objects.
    #[serde(default)]
    pub mode: Mode,
    /// The EK, for `mode = "seal"`.
    pub ek: Option<String>,
    /// The KMS that holds the EK; the only configured one if left out.
    pub kms: Option<String>,
    /// Whether objects without an envelope may be read.
    #[serde(default)]
    pub plaintext: Plaintext,
    /// The EKs, beside the rule's, that a request may name and PutBucketEncryption may set; `*` stands for any run of
    /// characters.
    #[serde(default)]
    pub client_eks: Vec<String>,
    /// Whether the rule's EK seals whatever a client asks for.
    #[serde(default)]
    pub locked: bool,
    /// Whether a client may bring its own key along (SSE-C); if left out, where the rule is not locked.
    pub customer_keys: Option<bool>,
    /// What happens to requests that nobody has signed.
    #[serde(default)]
    pub anonymous: Anonymous,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Objects are sealed on the way in and opened on the way out.
    #[default]
    Seal,
    /// Objects are written as they come; sealed ones are still opened.
    Passthrough,
    /// Nothing is read or written.
    Deny,
}

/// What happens to an object without an envelope, where a rule seals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// It is refused: someone wrote past s3veil, or stripped the envelope.
    #[default]
    Deny,
    /// It is served as it is, for buckets that hold objects from before.
    Read,
}

/// An EK and the KMS that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EkRef {
    /// The KMS, by its name in the configuration.
    pub kms: String,
    /// The EK's name in that KMS.
    pub ek: EkName,
}

/// One rule as meant.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    bucket: Pattern,
    prefix: String,
    pub(super) effect: Effect,
    pub(super) anonymous: Anonymous,
}

/// What a rule does, with what it needs for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Seal(Arc<Seal>),
    Passthrough,
    Deny,
}

/// How a rule seals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) ek: EkRef,
    pub(super) plaintext: Plaintext,
    pub(super) locked: bool,
    pub(super) customer_keys: bool,
    client_eks: Vec<Pattern>,
}

impl Seal {
    /// The patterns of EKs that a client may name.
    pub(super) fn client_eks(&self) -> impl Iterator<Item = &str> {
        self.client_eks.iter().map(|pattern| pattern.0.as_str())
    }

    /// Whether a client may name another EK than the rule's.
    pub(super) fn lets_choose(&self) -> bool {
        !self.client_eks.is_empty()
    }

    /// Whether an object may be sealed under this EK: the rule's own, or one that a client may name.
    pub(super) fn allows(&self, ek: &EkRef) -> bool {
        let named = || self.client_eks.iter().any(|pattern| pattern.matches(ek.ek.as_str()));
        *ek == self.ek || (ek.kms == self.ek.kms && !self.locked && named())
    }
}

/// All rules. The longest match wins: first the more literal bucket pattern, then the longer prefix.
#[derive(Clone, Debug)]
pub struct Table {
    /// Best first, so that the first match is the winner.
    pub(super) rules: Vec<Rule>,
}

impl Effect {
    /// Which of two effects keeps more from happening.
    fn strictness(&self) -> (u8, bool, bool) {
        match self {
            Self::Passthrough => (0, false, false),
            Self::Seal(seal) => (1, seal.plaintext == Plaintext::Deny, seal.locked),
            Self::Deny => (2, false, false),
        }
    }
}

impl Table {
    /// Compiles the rules. `kms_names` are the configured KMSs.
    ///
    /// Errors: a message that names the rule, the key, its value and the remedy.
    pub fn build(configs: Vec<RuleConfig>, kms_names: &[String]) -> Result<Self, String> {
        if configs.is_empty() {
            return Err(
                "policy: no [[policy]] rule. Add one, for instance bucket = \"*\", ek = \"NAME\"".into()
            );
        }
        let mut rules = Vec::new();
        for (index, config) in configs.into_iter().enumerate() {
            let rule = Rule::build(config, kms_names).map_err(|why| format!("policy[{index}].{why}"))?;
            if rules.iter().any(|other: &Rule| other.bucket == rule.bucket && other.prefix == rule.prefix) {
                return Err(format!(
                    "policy[{index}]: a second rule for bucket '{}' and prefix '{}'. Remove one of the two",
                    rule.bucket.0, rule.prefix
                ));
            }
            rules.push(rule);
        }
        rules.sort_by_key(|rule| std::cmp::Reverse((rule.bucket.weight(), rule.prefix.len())));
        Ok(Self { rules })
    }

    /// Every EK that a rule seals with, once.
    pub fn eks(&self) -> Vec<EkRef> {
        let mut eks: Vec<EkRef> = Vec::new();
        for rule in &self.rules {
            if let Effect::Seal(seal) = &rule.effect
                && !eks.contains(&seal.ek)
            {
                eks.push(seal.ek.clone());
            }
        }
        eks
    }

    /// The rule for one object. No rule: nothing is allowed. A key that the store could tidy up into another one falls
    /// under the stricter rule of the two, so that `/secret/k` is no way around the rule for `secret/`.
    pub(super) fn object(&self, bucket: &Bucket, key: &Key) -> &Effect {
        let mut effect = self.find(bucket, key.as_str());
        for tidied in key.tidied() {
            let other = self.find(bucket, &tidied);
            if other.strictness() > effect.strictness() {
                effect = other;
            }
        }
        effect
    }

    fn find(&self, bucket: &Bucket, key: &str) -> &Effect {
        self.rules.iter().find(|rule| rule.covers(bucket, key)).map_or(&Effect::Deny, |rule| &rule.effect)
    }

    /// All that an object of the bucket could fall under, keys that no rule names included.
    pub(super) fn bucket(&self, bucket: &Bucket) -> impl Iterator<Item = &Effect> {
        let any_key = self.reachable(bucket).any(|rule| rule.prefix.is_empty());
        let rest = (!any_key).then_some(&Effect::Deny);
        self.reachable(bucket).map(|rule| &rule.effect).chain(rest)
    }

    /// The rules that an object of the bucket could fall under. One for any key shadows what comes after it.
    pub(super) fn reachable(&self, bucket: &Bucket) -> impl Iterator<Item = &Rule> {
        let mut shadowed = false;
        let matching = self.rules.iter().filter(|rule| rule.bucket.matches(bucket.as_str()));
        matching.take_while(move |rule| {
            let seen = shadowed;
            shadowed |= rule.prefix.is_empty();
            !seen
        })
    }
}

impl Rule {
    fn build(config: RuleConfig, kms_names: &[String]) -> Result<Self, String> {
        let bucket = Pattern::parse(&config.bucket)?;
        if config.prefix.len() > crate::s3::address::MAX_KEY_LEN {
            return Err("prefix: longer than the longest key, 1,024 bytes. Shorten it".into());
        }
        let chooses = !config.client_eks.is_empty() || config.customer_keys == Some(true);
        if chooses && (config.locked || config.mode != Mode::Seal) {
            let key = if config.client_eks.is_empty() { "customer_keys" } else { "client_eks" };
            let why = if config.locked {
                "the rule is locked, so that clients choose no key"
            } else {
                "goes with mode = \"seal\" only"
            };
            return Err(format!("{key}: {why}. Remove one"));
        }
        let effect = match config.mode {
            Mode::Seal => Effect::Seal(Arc::new(Seal {
                ek: ek_ref(config.ek, config.kms, kms_names)?,
                plaintext: config.plaintext,
                locked: config.locked,
                customer_keys: config.customer_keys.unwrap_or(!config.locked),
                client_eks: config
                    .client_eks
                    .iter()
                    .map(|ek| Pattern::of_ek(ek))
                    .collect::<Result<_, _>>()?,
            })),
            mode if config.ek.is_some() || config.kms.is_some() => {
                let mode = if mode == Mode::Deny { "deny" } else { "passthrough" };
                return Err(format!(
                    "ek: goes with mode = \"seal\" only, and the mode is \"{mode}\". Remove one"
                ));
            }
            Mode::Passthrough => Effect::Passthrough,
            Mode::Deny => Effect::Deny,
        };
        if effect == Effect::Deny && config.anonymous == Anonymous::Forward {
            return Err("anonymous: \"forward\" does nothing where the mode is \"deny\". Remove one".into());
        }
        Ok(Self { bucket, prefix: config.prefix, effect, anonymous: config.anonymous })
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket.0
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn covers(&self, bucket: &Bucket, key: &str) -> bool {
        self.bucket.matches(bucket.as_str()) && key.starts_with(&self.prefix)
    }
}

fn ek_ref(ek: Option<String>, kms: Option<String>, kms_names: &[String]) -> Result<EkRef, String> {
    let ek = ek.ok_or("ek: missing. A rule that seals names its EK: ek = \"NAME\"")?;
    let name = EkName::parse(&ek).map_err(|why| format!("ek: '{ek}' {why}"))?;
    let kms = match (kms, kms_names) {
        (Some(kms), names) if names.contains(&kms) => kms,
        (Some(kms), names) => {
            return Err(format!(
                "kms: '{kms}' is not configured; there is {}. Correct the name",
                names.join(", ")
            ));
        }
        (None, [only]) => only.clone(),
        (None, names) => {
            return Err(format!("kms: missing, and there are several ({}). Name one", names.join(", ")));
        }
    };
    Ok(EkRef { kms, ek: name })
}

/// A name in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*'));
        if text.is_empty() || !clean {
            return Err(format!(
                "bucket: '{text}' is not a bucket name or pattern. Use letters, digits, '.-_' and '*'"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn of_ek(text: &str) -> Result<Self, String> {
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'));
        if text.is_empty() || !clean {
            return Err(format!(
                "client_eks: '{text}' is not the name of an EK or a pattern. Use letters, digits, '-_' and '*'"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// A literal name outweighs every pattern, and of two patterns the one with more literal characters wins.
    fn weight(&self) -> (bool, usize) {
        let stars = self.0.matches('*').count();
        (stars == 0, self.0.len() - stars)
    }

    fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut pieces: Vec<&str> = pieces.collect();
        let Some(last) = pieces.pop() else { return rest.is_empty() };
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> RuleConfig {
        toml::from_str(text).unwrap()
    }

    fn table(rules: &[&str]) -> Result<Table, String> {
        Table::build(rules.iter().map(|text| rule(text)).collect(), &["local".into()])
    }

    fn ek_of(table: &Table, bucket: &str, key: &str) -> String {
        match table.object(&Bucket::parse(bucket).unwrap(), &Key::parse(key).unwrap()) {
            Effect::Seal(seal) => seal.ek.ek.as_str().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, matches) in [
            ("*", "anything", true),
            ("logs", "logs", true),
            ("logs", "logs2", false),
            ("logs-*", "logs-", true),
            ("*-logs", "a-logs", true),
            ("*-logs", "a-logs-b", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn the_longest_match_wins() {
        let table = table(&[
            "bucket = '*'\nek = 'any'",
            "bucket = 'b'\nprefix = 'x/y/'\nek = 'xy'",
            "bucket = 'b'\nprefix = 'x/'\nek = 'x'",
            "bucket = 'b*'\nprefix = 'x/y/z/'\nek = 'pattern'",
            "bucket = 'open'\nmode = 'passthrough'",
        ])
        .unwrap();
        assert_eq!(ek_of(&table, "b", "x/y/1"), "xy");
        assert_eq!(ek_of(&table, "b", "x/1"), "x");
        assert_eq!(ek_of(&table, "b", "x/y/z/1"), "xy", "a literal bucket outweighs a longer prefix");
        assert_eq!(ek_of(&table, "b2", "x/y/z/1"), "pattern");
        assert_eq!(ek_of(&table, "b", "1"), "any");
        assert_eq!(ek_of(&table, "open", "1"), "Passthrough");
    }

    #[test]
    fn what_no_rule_names_is_denied() {
        assert_eq!(ek_of(&table(&["bucket = 'a'\nek = 'e'"]).unwrap(), "b", "k"), "Deny");
    }

    #[test]
    fn mistakes_name_the_rule_the_value_and_the_remedy() {
        for (rules, expected) in [
            (&[][..], "no [[policy]] rule"),
            (&["bucket = 'a'"], "policy[0].ek: missing"),
            (&["bucket = 'a b'\nek = 'e'"], "policy[0].bucket: 'a b'"),
            (&["bucket = 'a'\nek = 'a b'"], "policy[0].ek: 'a b'"),
            (
                &["bucket = 'a'\nek = 'e'\nkms = 'other'"],
                "policy[0].kms: 'other' is not configured; there is local",
            ),
            (&["bucket = 'a'\nek = 'e'\nmode = 'deny'"], "policy[0].ek: goes with mode = \"seal\" only"),
            (&["bucket = 'a'\nmode = 'deny'\nanonymous = 'forward'"], "policy[0].anonymous: \"forward\""),
            (&["bucket = 'a'\nek = 'e'", "bucket = 'a'\nek = 'f'"], "policy[1]: a second rule"),
            (
                &["bucket = 'a'\nek = 'e'\nlocked = true\nclient_eks = ['f']"],
                "policy[0].client_eks: the rule is locked",
            ),
            (
                &["bucket = 'a'\nek = 'e'\nlocked = true\ncustomer_keys = true"],
                "policy[0].customer_keys: the rule is locked",
            ),
            (
                &["bucket = 'a'\nmode = 'passthrough'\nclient_eks = ['f']"],
                "policy[0].client_eks: goes with mode = \"seal\" only",
            ),
            (&["bucket = 'a'\nek = 'e'\nclient_eks = ['a b']"], "policy[0].client_eks: 'a b' is not"),
        ] {
            let error = table(rules).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
