//! Ranges: from the plaintext that a client asks for to the sealed bytes that a store holds, and back.
//!
//! An *ask* is what a client wants before the object's length is known; a *range* is resolved against it. Ends are
//! exclusive. Numbers in an ask come from clients and may be any u64. `docs/format.md`, "Ranges".

use super::error::Error;
use super::len::{CHUNK, FRAME, MAGIC_LEN, PlainLen, SEALED_CHUNK, SealedLen, TAG, TRAILER_LEN};

/// Chunk indexes stop here when sealed positions are guessed, so that those stay under 2^63: more than any store has,
/// and as much as one that parses positions as signed numbers takes.
const LAST_GUESS: u64 = (1 << 46) - 1;

/// A range in plaintext bytes, before the object's length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainAsk {
    /// All bytes from this one on.
    From(u64),
    /// Bytes from `start` up to, not including, `end`.
    Between {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// The last so many bytes.
    Suffix(u64),
}

/// A range in sealed bytes, before the object's length is known: what to ask of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedAsk {
    /// All bytes from this one on.
    From(u64),
    /// Bytes from `start` up to, not including, `end`.
    Between {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// The last so many bytes.
    Suffix(u64),
}

/// A range in plaintext bytes of an object of known length. Empty only as the whole of an empty object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainRange {
    start: u64,
    end: u64,
}

/// A range in sealed bytes, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedRange {
    start: u64,
    end: u64,
}

/// A run of chunks, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    first: u64,
    count: u64,
}

impl PlainAsk {
    /// The sealed bytes that surely hold all the chunks of this ask, if the object is a sealed stream.
    ///
    /// From chunk `i = ⌊start / 65,536⌋` at `16 + 65,552·i` (0 for the first chunk, with the magic) to the end of the
    /// last byte's chunk. A suffix of `n` begins at most 65,535 bytes into its first chunk, so that with `m = n +
    /// 65,535` the last `m + 16·⌈m / 65,536⌉ + 80` sealed bytes hold it.
    pub fn sealed(self) -> SealedAsk {
        let index = |byte: u64| (byte / CHUNK).min(LAST_GUESS);
        match self {
            Self::From(start) => SealedAsk::From(chunk_start(index(start))),
            Self::Between { start, end } => SealedAsk::Between {
                start: chunk_start(index(start)),
                end: chunk_end(index(end.saturating_sub(1).max(start))),
            },
            Self::Suffix(len) => {
                let plain = len.min(LAST_GUESS * CHUNK) + CHUNK - 1;
                SealedAsk::Suffix(plain + TAG * plain.div_ceil(CHUNK) + FRAME)
            }
        }
    }

    /// The range within a plaintext of this length; `None` if no byte of it is there (S3's InvalidRange).
    pub fn resolve(self, total: PlainLen) -> Option<PlainRange> {
        let total = total.get();
        let (start, end) = match self {
            Self::From(start) => (start, total),
            Self::Between { start, end } => (start, end.min(total)),
            Self::Suffix(len) => (total.saturating_sub(len), total),
        };
        (start < end).then_some(PlainRange { start, end })
    }
}

impl PlainRange {
    /// The whole of a plaintext.
    pub fn whole(total: PlainLen) -> Self {
        Self { start: 0, end: total.get() }
    }

    /// The bytes from `start` up to, not including, `end`; of an empty part, none.
    pub(super) fn within(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// The first plaintext byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// One past the last plaintext byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// The number of plaintext bytes.
    #[allow(clippy::len_without_is_empty, reason = "empty only as the whole of an empty object")]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// The chunks that hold the range.
    pub fn chunks(self) -> ChunkSpan {
        let first = self.start / CHUNK;
        ChunkSpan { first, count: self.end.div_ceil(CHUNK).saturating_sub(first).max(1) }
    }
}

impl ChunkSpan {
    /// The index of the first chunk.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The number of chunks.
    pub fn count(self) -> u64 {
        self.count
    }

    /// The sealed bytes of these chunks in a stream of this plaintext length; with the magic, if the first chunk is
    /// among them.
    pub fn sealed(self, total: PlainLen) -> SealedRange {
        let end = chunk_end(self.first + self.count - 1).min(total.sealed().get() - TRAILER_LEN);
        SealedRange { start: chunk_start(self.first), end }
    }
}

impl SealedRange {
    /// The bytes from `start` up to, not including, `end`; `None` if there are none.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The whole of a sealed object; `None` for a size of 0, which no sealed object has.
    pub fn whole(total: SealedLen) -> Option<Self> {
        Self::new(0, total.get())
    }

    /// The sealed bytes of the trailer in a stream of this plaintext length.
    pub fn trailer(total: PlainLen) -> Self {
        let end = total.sealed().get();
        Self { start: end - TRAILER_LEN, end }
    }

    /// The first sealed byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// One past the last sealed byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// The number of sealed bytes.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// How many bytes to drop from the front of this range, which the store sent, so that `wanted` comes next.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if this range does not hold all of `wanted`.
    pub fn skip_to(self, wanted: SealedRange) -> Result<u64, Error> {
        let holds = self.start <= wanted.start && wanted.end <= self.end;
        if holds { Ok(wanted.start - self.start) } else { Err(Error::Tampered) }
    }
}

/// Where a chunk begins in a sealed stream: `16 + 65,552·i`, and 0 for the first, so that the magic is read and
/// checked with it.
fn chunk_start(index: u64) -> u64 {
    if index == 0 { 0 } else { MAGIC_LEN + index * SEALED_CHUNK }
}

/// Where a full chunk ends in a sealed stream.
fn chunk_end(index: u64) -> u64 {
    MAGIC_LEN + (index + 1) * SEALED_CHUNK
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{CHUNK, PlainAsk, PlainLen, PlainRange, SealedAsk, SealedRange};

    fn plain(bytes: u64) -> PlainLen {
        PlainLen::new(bytes).unwrap()
    }

    /// What a store does with an ask: the part of it that exists, or nothing.
    fn served(ask: SealedAsk, total: u64) -> Option<SealedRange> {
        match ask {
            SealedAsk::From(start) => SealedRange::new(start, total),
            SealedAsk::Between { start, end } => SealedRange::new(start, end.min(total)),
            SealedAsk::Suffix(len) => SealedRange::new(total.saturating_sub(len), total),
        }
    }

    fn near_boundary() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..8 * CHUNK,
            (0_u64..8, -2_i64..=2).prop_map(|(k, d)| (k * CHUNK).saturating_add_signed(d)),
            any::<u64>(),
            Just(u64::MAX),
        ]
    }

    fn ask() -> impl Strategy<Value = PlainAsk> {
        prop_oneof![
            near_boundary().prop_map(PlainAsk::From),
            (near_boundary(), near_boundary()).prop_map(|(start, end)| PlainAsk::Between { start, end }),
            near_boundary().prop_map(PlainAsk::Suffix),
        ]
    }

    proptest! {
        #[test]
        fn the_guess_holds_every_chunk(ask in ask(), total in 0..6 * CHUNK) {
            let total = plain(total);
            let guess = served(ask.sealed(), total.sealed().get());
            if let Some(range) = ask.resolve(total) {
                let wanted = range.chunks().sealed(total);
                let skip = guess.unwrap().skip_to(wanted).unwrap();
                // A range costs no byte before its first chunk; a suffix, less than two.
                let most = if matches!(ask, PlainAsk::Suffix(_)) { 2 * (CHUNK + 16) } else { 0 };
                prop_assert!(skip <= most, "{skip}");
                prop_assert!(range.start() / CHUNK == range.chunks().first());
            }
        }

        #[test]
        fn a_guess_is_never_empty_and_fits_a_signed_number(ask in ask()) {
            match ask.sealed() {
                SealedAsk::From(start) => prop_assert!(start < 1 << 63),
                SealedAsk::Between { start, end } => prop_assert!(start < end && end < 1 << 63),
                SealedAsk::Suffix(len) => prop_assert!(0 < len && len < 1 << 63),
            }
        }

        #[test]
        fn resolving_cuts_at_the_end(start in 0..9_u64, end in 0..12_u64) {
            let resolved = PlainAsk::Between { start, end }.resolve(plain(5));
            prop_assert_eq!(resolved.is_some(), start < end.min(5));
            prop_assert!(resolved.is_none_or(|r| r.len() == end.min(5) - start));
        }
    }

    #[test]
    fn the_worked_examples() {
        let between = |start, end| PlainAsk::Between { start, end }.sealed();
        assert_eq!(between(0, 1), SealedAsk::Between { start: 0, end: 65_568 });
        assert_eq!(between(65_535, 65_537), SealedAsk::Between { start: 0, end: 131_120 });
        assert_eq!(between(65_536, 65_537), SealedAsk::Between { start: 65_568, end: 131_120 });
        assert_eq!(PlainAsk::From(200_000).sealed(), SealedAsk::From(196_672));
        assert_eq!(PlainAsk::Suffix(1).sealed(), SealedAsk::Suffix(65_632));
        assert_eq!(PlainAsk::Suffix(100_000).sealed(), SealedAsk::Suffix(165_663));
    }

    /// The tightest suffix begins with the last byte of the first chunk: the magic comes too.
    #[test]
    fn a_suffix_that_begins_in_the_first_chunk_brings_the_magic() {
        for (total, start) in
            [(70_000, 65_535), (131_071, 65_535), (131_072, 65_535), (65_536, 65_535), (2, 1)]
        {
            let (total, ask) = (plain(total), PlainAsk::Suffix(total - start));
            let wanted = ask.resolve(total).unwrap().chunks().sealed(total);
            assert_eq!(wanted.start(), 0);
            assert!(served(ask.sealed(), total.sealed().get()).unwrap().skip_to(wanted).is_ok(), "{total}");
        }
    }

    #[test]
    fn nothing_is_in_an_empty_object_but_its_whole() {
        let empty = plain(0);
        assert_eq!(PlainAsk::From(0).resolve(empty), None);
        assert_eq!(PlainAsk::Suffix(1).resolve(empty), None);
        assert_eq!(PlainAsk::Suffix(0).resolve(plain(9)), None);
        let whole = PlainRange::whole(empty).chunks();
        assert_eq!((whole.first(), whole.count()), (0, 1));
        assert_eq!(whole.sealed(empty), SealedRange { start: 0, end: 32 });
        assert_eq!(SealedRange::trailer(empty), SealedRange { start: 32, end: 96 });
    }

    #[test]
    fn a_store_that_sends_less_than_asked_is_an_error() {
        let wanted = SealedRange { start: 10, end: 20 };
        assert_eq!(SealedRange { start: 4, end: 20 }.skip_to(wanted), Ok(6));
        assert!(SealedRange { start: 11, end: 20 }.skip_to(wanted).is_err());
        assert!(SealedRange { start: 4, end: 19 }.skip_to(wanted).is_err());
    }
}
