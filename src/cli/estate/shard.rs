//! A share of the keys, by their hashes: whoever knows the number of shares knows them all.

use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Part `index` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub index: u64,
    pub count: u64,
}

impl Shard {
    pub fn has(self, key: &str) -> bool {
        self.count == 1 || hash("shard", key) % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write I/N with I from 0 to N - 1, for instance 0/8";
        let (index, count) = text.split_once('/').ok_or(wrong)?;
        let (index, count) = (index.parse().map_err(|_| wrong)?, count.parse().map_err(|_| wrong)?);
        if index < count { Ok(Self { index, count }) } else { Err(wrong) }
    }
}

/// A share of all objects, at random but always the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample(f64);

impl Sample {
    pub fn has(self, key: &str) -> bool {
        (hash("sample", key) as f64 / u64::MAX as f64) < self.0
    }
}

impl FromStr for Sample {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write a share in percent, for instance 1%";
        let percent: f64 = text.strip_suffix('%').ok_or(wrong)?.parse().map_err(|_| wrong)?;
        if percent > 0.0 && percent <= 100.0 { Ok(Self(percent / 100.0)) } else { Err(wrong) }
    }
}

/// Another one for each purpose, lest a share of a share be all or nothing.
fn hash(purpose: &str, key: &str) -> u64 {
    let digest = Sha256::new().chain_update(purpose).chain_update([0]).chain_update(key).finalize();
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_in_one_shard_and_the_shards_are_about_alike() {
        let shards: Vec<Shard> = (0..4).map(|index| Shard { index, count: 4 }).collect();
        let mut sizes = [0; 4];
        for number in 0..4_000 {
            let key = format!("folder/{number}");
            let of: Vec<usize> = (0..4).filter(|index| shards[*index].has(&key)).collect();
            assert_eq!(of.len(), 1);
            sizes[of[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (900..1_100).contains(size)), "{sizes:?}");
    }

    #[test]
    fn a_sample_is_about_as_large_as_asked() {
        let sample: Sample = "10%".parse().unwrap();
        let of = (0..10_000).filter(|number| sample.has(&format!("{number}"))).count();
        assert!((900..1_100).contains(&of), "{of}");
        assert!((0..100).all(|number| "100%".parse::<Sample>().unwrap().has(&format!("{number}"))));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "1", "8/8", "-1/8", "1/0", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        for text in ["1", "0%", "101%", "x%", "-1%", "NaN%"] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
    }
}
