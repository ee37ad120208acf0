//! The rules as an operator is shown them.

use serde::Serialize;

use super::Policy;
use super::anonymous::Anonymous;
use super::table::{Effect, Mode, Plaintext, Rule};

/// One rule, with all that was left to a default.
#[derive(Debug, Serialize)]
pub struct RuleView<'a> {
    bucket: &'a str,
    prefix: Option<&'a str>,
    mode: Mode,
    ek: Option<&'a str>,
    kms: Option<&'a str>,
    plaintext: Option<Plaintext>,
    locked: bool,
    client_eks: Vec<&'a str>,
    customer_keys: bool,
    anonymous: Anonymous,
}

impl Policy {
    /// The rules, best first: the first that matches is the one that counts.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.table.rules.iter().map(RuleView::of)
    }
}

impl<'a> RuleView<'a> {
    fn of(rule: &'a Rule) -> Self {
        let (mode, seal) = match &rule.effect {
            Effect::Seal(seal) => (Mode::Seal, Some(seal)),
            Effect::Passthrough => (Mode::Passthrough, None),
            Effect::Deny => (Mode::Deny, None),
        };
        Self {
            bucket: rule.bucket(),
            prefix: Some(rule.prefix()).filter(|prefix| !prefix.is_empty()),
            mode,
            ek: seal.map(|seal| seal.ek.ek.as_str()),
            kms: seal.map(|seal| seal.ek.kms.as_str()),
            plaintext: seal.map(|seal| seal.plaintext),
            locked: seal.is_some_and(|seal| seal.locked),
            client_eks: seal.map(|seal| seal.client_eks().collect()).unwrap_or_default(),
            customer_keys: seal.is_some_and(|seal| seal.customer_keys),
            anonymous: rule.anonymous,
        }
    }
}
