//! Clients' writes that stand behind one of ours, in a bucket that keeps versions.
//!
//! A store may give a version its time before it waits for its turn to be kept: MinIO does. A client's write that was waiting
//! while ours was kept, under a condition that still held, then stands behind it: acknowledged, and not what is read. That shows
//! in the listing of versions alone, once the client's write has ended. What was sealed is still there as a version, so ours
//! can go.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{Estate, may_pass, retried, target};
use crate::s3::listing::Listed;
use crate::s3::{Bucket, Error, Key, Result};

/// Entries that are passed over on the way to the next key, before it is asked for by its name: a page.
const APART: usize = 1_000;

/// A version that was written in place of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The key of both.
    pub key: String,
    /// The version that was read.
    pub from: String,
    /// The version that was written.
    pub to: String,
}

impl Step {
    /// By the heads of both; none where the store keeps no versions, or keeps one only.
    pub(super) fn of(key: &Key, from: &HeaderMap, to: &HeaderMap) -> Option<Self> {
        let version = |head: &HeaderMap| Some(head.get("x-amz-version-id")?.to_str().ok()?.to_owned());
        let (from, to) = (version(from)?, version(to)?);
        (to != "null").then(|| Self { key: key.as_str().to_owned(), from, to })
    }

    /// Whether others stand between the two, and ours before all: of the versions of the key, the newest first.
    fn has_overtaken(&self, versions: &[Version]) -> bool {
        let ours = versions.first().is_some_and(|first| first.latest && first.id == self.to);
        // Where the one that was read is gone, ours may be the last copy.
        let from = versions.iter().position(|version| version.id == self.from);
        ours && from.is_some_and(|from| from > 1)
    }
}

/// A version in a listing.
struct Version {
    id: String,
    latest: bool,
}

impl Estate {
    /// Removes those of our versions that stand before a client's write. By key, whether that could be done; whoever is not
    /// named has overtaken nobody.
    ///
    /// Errors: those of the store where it can't be seen. Not to be asked again for the same: what was removed then shows no more.
    pub async fn settle(&self, bucket: &Bucket, steps: &[Step]) -> Result<BTreeMap<String, Result<()>>> {
        let mut open: BTreeMap<&str, &Step> = steps.iter().map(|step| (&*step.key, step)).collect();
        let mut settled = BTreeMap::new();
        while !open.is_empty() {
            for step in self.overtakers(bucket, &mut open).await? {
                settled.insert(step.key.clone(), retried(|_| self.take_back(bucket, step)).await);
            }
        }
        Ok(settled)
    }

    /// Lists versions from the first key on, until the others are too far away. Takes the keys that were passed, and gives
    /// those of them that have overtaken others.
    async fn overtakers<'s>(
        &self,
        bucket: &Bucket,
        open: &mut BTreeMap<&str, &'s Step>,
    ) -> Result<Vec<&'s Step>> {
        let Some(((first, _), (last, _))) = open.first_key_value().zip(open.last_key_value()) else {
            return Ok(vec![]);
        };
        let before = just_before(first);
        let mut listed = std::pin::pin!(self.listed(bucket, "", true, before.as_deref()));
        let (mut versions, mut apart, mut end) = (BTreeMap::<String, Vec<Version>>::new(), 0, None);
        while let Some(one) = listed.next().await.transpose()? {
            let Listed { key, version_id, is_latest, .. } = &one;
            if open.contains_key(key.as_str()) {
                apart = 0;
                // Delete markers are listed apart from the others, in no order with them. The newest makes ours not the newest.
                if let Some(id) = version_id.clone().filter(|_| !one.is_marker()) {
                    let version = Version { id, latest: *is_latest == Some(true) };
                    versions.entry(key.clone()).or_default().push(version);
                }
                continue;
            }
            apart += 1;
            if key.as_str() > *last || (apart > APART && key.as_str() > *first) {
                end = Some(one.key);
                break;
            }
        }
        let left = end.map_or_else(BTreeMap::new, |end| open.split_off(end.as_str()));
        let passed = std::mem::replace(open, left);
        let has = |step: &&Step| versions.get(&step.key).is_some_and(|versions| step.has_overtaken(versions));
        Ok(passed.into_values().filter(has).collect())
    }

    /// Removes the version that was written. That which it was made from is there.
    async fn take_back(&self, bucket: &Bucket, step: &Step) -> Result<()> {
        let Some(key) = Key::parse(&step.key) else { return Ok(()) };
        let why = match self.delete(target(bucket, &key, Some(&step.to))).await {
            Err(why) if !may_pass(&why) => why,
            done => return done,
        };
        let message = format!(
            "A client wrote while the version {} was made from {}, and the store has put the client's behind it, where it can't be \
             removed. What the client wrote is the newest version but that one: copy it to the top.",
            step.to, step.from
        );
        Err(Error::new(why.code(), message).caused_by(why))
    }
}

/// A marker from which a listing begins with this key, or with few before it; none for the beginning.
fn just_before(key: &str) -> Option<String> {
    let mut before = key.to_owned();
    let last = before.pop()?;
    if let '!'..='~' = last {
        // Behind all that is likely to be there before the key.
        before.extend([char::from(last as u8 - 1), '~', '~', '~']);
    }
    Some(before).filter(|before| !before.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overtaken(newest_first: &str) -> bool {
        let step = Step { key: "k".into(), from: "f".into(), to: "t".into() };
        let versions = newest_first.chars().enumerate();
        let versions: Vec<_> = versions.map(|(at, id)| Version { id: id.into(), latest: at == 0 }).collect();
        step.has_overtaken(&versions)
    }

    #[test]
    fn a_clients_write_stands_between_what_was_read_and_what_was_written() {
        for good in ["tf", "tfc", "ctf", "ctcf", "t", "tc", "c", ""] {
            assert!(!overtaken(good), "{good}");
        }
        for bad in ["tcf", "tccfc"] {
            assert!(overtaken(bad), "{bad}");
        }
    }

    #[test]
    fn what_a_delete_marker_hides_is_let_be() {
        let step = Step { key: "k".into(), from: "f".into(), to: "t".into() };
        let versions = ["t", "c", "f"].map(|id| Version { id: id.into(), latest: false });
        assert!(!step.has_overtaken(&versions));
    }

    #[test]
    fn a_listing_begins_with_the_key() {
        assert_eq!(just_before("").as_deref(), None);
        assert_eq!(just_before("ü").as_deref(), None);
        for key in ["a", "a/b", "!", "0017", "a~", "aü", "a b"] {
            let before = just_before(key).unwrap_or_default();
            assert!(*before < *key, "{before} {key}");
        }
        assert!(*"0016" < *just_before("0017").unwrap());
    }
}
