//! Requests that nobody has signed: refused, unless the rule for what they ask lets them go on, unsigned, so that the store's own
//! policy decides.

use serde::{Deserialize, Serialize};

use super::Policy;
use super::table::{Effect, Table};
use crate::operation::{Call, Operation};
use crate::s3::copy::Source;
use crate::s3::{Bucket, Code, Error, Key, Result};

/// What a rule does with requests that nobody has signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// They are refused.
    #[default]
    Refuse,
    /// They go to the store without any signature.
    Forward,
}

impl Policy {
    /// Whether an anonymous call may go on: to be judged like any other, here and by the store.
    ///
    /// Errors: AccessDenied.
    pub(super) fn admit_anonymous(&self, call: &Call) -> Result<()> {
        let table = &self.table;
        let admitted = match (call.bucket(), call.key()) {
            (Some(bucket), Some(key)) => table.admits_to_object(bucket, key),
            (Some(bucket), None) => table.admits_to_bucket(bucket),
            // What belongs to no bucket is nobody's but an identity's.
            (None, _) => false,
        };
        // A copy reads as well, and it may read elsewhere.
        let copies = matches!(call.operation(), Operation::CopyObject | Operation::UploadPartCopy);
        if admitted && copies {
            let source = Source::of(call.headers())?;
            return if table.admits_to_object(&source.bucket, &source.key) { Ok(()) } else { Err(refused()) };
        }
        if admitted { Ok(()) } else { Err(refused()) }
    }
}

impl Table {
    /// The rule for the key says so, and the rules for all that the store could tidy it up into.
    fn admits_to_object(&self, bucket: &Bucket, key: &Key) -> bool {
        let admits = |key: &str| {
            let rule = self.rules.iter().find(|rule| rule.covers(bucket, key));
            rule.is_some_and(|rule| rule.anonymous == Anonymous::Forward)
        };
        admits(key.as_str()) && key.tidied().iter().all(|key| admits(key))
    }

    /// A call for a bucket concerns every key in it: each rule says so that lets anything through.
    fn admits_to_bucket(&self, bucket: &Bucket) -> bool {
        let mut open = self.reachable(bucket).filter(|rule| rule.effect != Effect::Deny).peekable();
        open.peek().is_some() && open.all(|rule| rule.anonymous == Anonymous::Forward)
    }
}

fn refused() -> Error {
    Error::new(
        Code::AccessDenied,
        "Anonymous requests are refused. Sign the request with an identity of s3veil, or set anonymous = \"forward\" in \
         the [[policy]] rules for what it asks.",
    )
}

/// Whoever sees to a bucket's key has a name.
pub(super) fn keyless() -> Error {
    Error::new(
        Code::AccessDenied,
        "Anonymous requests neither see nor change a bucket's encryption. Sign the request.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &[&str]) -> Table {
        let rules = rules.iter().map(|text| toml::from_str(text).unwrap()).collect();
        Table::build(rules, &["local".into()]).unwrap()
    }

    #[test]
    fn each_rule_speaks_for_its_keys() {
        let table = table(&[
            "bucket = '*'\nek = 'any'",
            "bucket = 'open'\nek = 'e'\nanonymous = 'forward'",
            "bucket = 'open'\nprefix = 'no/'\nmode = 'deny'",
            "bucket = 'half'\nek = 'e'",
            "bucket = 'half'\nprefix = 'pub/'\nmode = 'passthrough'\nanonymous = 'forward'",
            "bucket = 'rest'\nprefix = 'pub/'\nek = 'e'\nanonymous = 'forward'",
        ]);
        let bucket = |name| Bucket::parse(name).unwrap();
        for (name, key, admitted) in [
            ("private", "k", false),
            ("open", "k", true),
            ("open", "no/k", false),
            ("open", "/no/k", false),
            ("half", "k", false),
            ("half", "pub/k", true),
            ("half", "pub/../k", false),
            ("half", "x/../pub/k", false),
            ("rest", "k", false),
            ("rest", "pub/k", true),
        ] {
            let key = Key::parse(key).unwrap();
            assert_eq!(table.admits_to_object(&bucket(name), &key), admitted, "{name} {key:?}");
        }
        // `rest` falls under the pattern's rule for all other keys.
        for (name, admitted) in [("private", false), ("open", true), ("half", false), ("rest", false)] {
            assert_eq!(table.admits_to_bucket(&bucket(name)), admitted, "{name}");
        }
    }

    #[test]
    fn a_bucket_without_any_rule_admits_nobody() {
        let table = table(&["bucket = 'a'\nmode = 'deny'"]);
        for name in ["aaa", "bbb"] {
            assert!(!table.admits_to_bucket(&Bucket::parse(name).unwrap()));
        }
    }
}
