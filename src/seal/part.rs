//! The parts of a composite object: their numbers, heads and lengths.
//!
//! A part is `magic ‖ salt (32) ‖ chunk*`, with its own key, counter and last flag. `docs/format.md`, "Parts".

use bytes::{Bytes, BytesMut};

use super::error::Error;
use super::len::{MAGIC_LEN, PlainLen, SealedLen, TAG};
use super::magic::MAGIC;

/// Sealed bytes of a part before its first chunk: the magic and the salt.
pub const PART_HEAD_LEN: u64 = MAGIC_LEN + 32;

/// The number of a part, 1 to 9,999. S3's 10,000 is kept for the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The largest number that a part may have.
    pub const MAX: PartNumber = PartNumber(9_999);

    /// A part number; `None` unless it is from 1 to 9,999.
    pub fn new(number: u16) -> Option<Self> {
        (1..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// What makes a part's key its own. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSalt([u8; 32]);

impl PartSalt {
    /// The salt in a part's head.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if this is not the head of a part.
    pub fn parse(head: &[u8]) -> Result<Self, Error> {
        let salt = head.strip_prefix(&MAGIC).and_then(|salt| salt.try_into().ok());
        salt.map(Self).ok_or(Error::Tampered)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The head of a part with this salt.
pub(super) fn head(salt: &[u8; 32]) -> Bytes {
    let mut head = BytesMut::with_capacity(PART_HEAD_LEN as usize);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(salt);
    head.freeze()
}

impl PlainLen {
    /// The length of a sealed part: `P + 16·max(1, ⌈P / 65,536⌉) + 48`.
    pub fn sealed_part(self) -> SealedLen {
        SealedLen::new(self.get() + TAG * self.chunks() + PART_HEAD_LEN)
    }
}

impl SealedLen {
    /// The plaintext length of a sealed part of this size; `None` if no part has it. The exact inverse of
    /// [`PlainLen::sealed_part`].
    pub fn part(self) -> Option<PlainLen> {
        let chunks = self.get().checked_sub(PART_HEAD_LEN)?;
        let plain = PlainLen::new(chunks.checked_sub(TAG * chunks.div_ceil(super::len::SEALED_CHUNK))?)?;
        (plain.sealed_part() == self).then_some(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{PartNumber, PartSalt, head};
    use crate::seal::len::{PlainLen, SealedLen};

    #[test]
    fn numbers_are_from_1_to_9_999() {
        assert_eq!([0, 1, 9_999, 10_000].map(|n| PartNumber::new(n).is_some()), [false, true, true, false]);
    }

    #[test]
    fn a_head_gives_its_salt_back() {
        assert_eq!(PartSalt::parse(&head(&[7; 32])).unwrap().bytes(), &[7; 32]);
        assert!(PartSalt::parse(&head(&[7; 32])[1..]).is_err() && PartSalt::parse(&[0; 48]).is_err());
    }

    #[test]
    fn worked_examples() {
        for (p, s) in [(0, 64), (1, 65), (65_536, 65_600), (65_537, 65_617), (5 << 20, 5_244_208)] {
            assert_eq!(PlainLen::new(p).unwrap().sealed_part(), SealedLen::new(s), "{p}");
        }
    }

    proptest! {
        #[test]
        fn lengths_invert(p in 0..PlainLen::MAX.get(), any in any::<u64>()) {
            let plain = PlainLen::new(p).unwrap();
            prop_assert_eq!(plain.sealed_part().part(), Some(plain));
            if let Some(plain) = SealedLen::new(any).part() {
                prop_assert_eq!(plain.sealed_part().get(), any);
            }
        }
    }
}
