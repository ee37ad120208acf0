//! The manifest of a composite object: its parts in order, and the checksum of the whole.
//!
//! The object is `part* ‖ manifest block`, the block `salt (32) ‖ sealed manifest ‖ footer (16)`. The manifest is CBOR
//! (RFC 8949), padded with zeros so that the size of the object is one that no stream has. `docs/format.md`, "Manifest".

use bytes::Bytes;
use minicbor::{Decoder, Encoder};

use super::error::Error;
use super::key::Oek;
use super::len::{FRAME, PlainLen, SEALED_CHUNK, SealedLen, TAG};
use super::part::{PART_HEAD_LEN, PartNumber};
use super::range::{PlainRange, SealedRange};
use super::trailer::SumAlgorithm;

/// Sealed bytes of the footer, which every composite object ends with.
pub const FOOTER_LEN: u64 = 16;
/// The most sealed bytes of a manifest block: 9,999 parts with checksums have about 460 KiB, and padding follows.
pub const BLOCK_MAX: u64 = 1 << 20;

const SALT_LEN: usize = 32;
/// What a footer begins with; the length of the block follows, big-endian.
const FOOTER_MAGIC: [u8; 8] = *b"\x93s3veil\x01";

/// What a composite object consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    parts: Vec<Part>,
    checksum: Option<ObjectSum>,
    upload: [u8; 32],
    /// Where each part begins and where the last ends, in plaintext and in sealed bytes.
    starts: Vec<(u64, u64)>,
}

/// One part, as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, as the client gave it.
    pub number: PartNumber,
    /// Its length in plaintext bytes.
    pub length: PlainLen,
    /// Its checksum, with the algorithm of the object's.
    pub checksum: Option<Vec<u8>>,
}

/// The checksum of a composite object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSum {
    /// The algorithm, of the object's checksum and of the parts'.
    pub algorithm: SumAlgorithm,
    /// Of what it is a checksum.
    pub kind: SumKind,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// S3's two types of checksum of a multipart upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SumKind {
    /// Of the bytes of the object.
    FullObject = 1,
    /// Of the checksums of its parts.
    Composite = 2,
}

/// A sealed manifest block.
#[derive(Clone, Debug)]
pub struct Block(Bytes);

impl Block {
    /// The sealed bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// What a range takes of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    index: usize,
    number: PartNumber,
    length: PlainLen,
    /// Within the part.
    range: PlainRange,
    with_head: bool,
}

/// Where a range of a composite object lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The chunks, and the heads of all parts but perhaps the first.
    pub sealed: SealedRange,
    /// The head of the first part, if the range begins past it: its salt is read from there.
    pub head: Option<SealedRange>,
}

impl Manifest {
    /// A manifest of these parts. `upload` is the SHA-256 of the upload's id, by which a completion that is repeated is
    /// known.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if there is no part, if their numbers do not ascend, if all together are longer than
    /// [`PlainLen::MAX`], or if a checksum is not of its algorithm's length.
    pub fn new(parts: Vec<Part>, checksum: Option<ObjectSum>, upload: [u8; 32]) -> Result<Self, Error> {
        Self::checked(parts, checksum, upload).ok_or(Error::Misuse("these parts are not those of an object"))
    }

    fn checked(parts: Vec<Part>, checksum: Option<ObjectSum>, upload: [u8; 32]) -> Option<Self> {
        let ascending = parts.windows(2).all(|two| two[0].number < two[1].number);
        let size = checksum.as_ref().map(|sum| sum.algorithm.value_len());
        let fits = |value: &[u8]| Some(value.len()) == size;
        let sums = parts.iter().filter_map(|part| part.checksum.as_deref());
        let right = sums.chain(checksum.as_ref().map(|sum| sum.value.as_slice())).all(fits);
        if parts.is_empty() || !ascending || !right {
            return None;
        }
        let mut starts = vec![(0, 0)];
        let (mut plain, mut sealed) = (0_u64, 0_u64);
        for part in &parts {
            plain = PlainLen::new(plain.checked_add(part.length.get())?)?.get();
            sealed = sealed.checked_add(part.length.sealed_part().get())?;
            starts.push((plain, sealed));
        }
        Some(Self { parts, checksum, upload, starts })
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The checksum of the object, if it has one.
    pub fn checksum(&self) -> Option<&ObjectSum> {
        self.checksum.as_ref()
    }

    /// The SHA-256 of the id of the upload that wrote the object.
    pub fn upload(&self) -> &[u8; 32] {
        &self.upload
    }

    /// The length of the object in plaintext bytes.
    pub fn length(&self) -> PlainLen {
        PlainLen::new(self.end().0).expect("checked when the manifest was made")
    }

    /// The range of a part in the object's plaintext; `None` if there is none of this index.
    pub fn part_range(&self, index: usize) -> Option<PlainRange> {
        let (start, end) = (self.starts.get(index)?.0, self.starts.get(index + 1)?.0);
        Some(PlainRange::within(start, end))
    }

    /// Where a range that lies within the object is in the store.
    pub fn locate(&self, range: PlainRange) -> Option<Located> {
        let first = self.first_piece(range)?;
        let last = std::iter::successors(Some(first), |piece| self.next_piece(*piece, range)).last()?;
        let chunks = |piece: &Piece| piece.range.chunks();
        let begin = self.starts[first.index].1;
        let start = match first.with_head {
            true => begin,
            false => begin + PART_HEAD_LEN + chunks(&first).first() * SEALED_CHUNK,
        };
        let span = chunks(&last);
        let end = PART_HEAD_LEN + (span.first() + span.count()) * SEALED_CHUNK;
        let end = self.starts[last.index].1 + end.min(last.length.sealed_part().get());
        let head = (!first.with_head).then(|| SealedRange::new(begin, begin + PART_HEAD_LEN)).flatten();
        Some(Located { sealed: SealedRange::new(start, end)?, head })
    }

    /// What a range takes of the first part that it touches.
    pub(super) fn first_piece(&self, range: PlainRange) -> Option<Piece> {
        if range == PlainRange::whole(self.length()) {
            // With the empty parts as well: that they are there is part of what was written.
            return self.piece(0, range);
        }
        let index = self.starts.partition_point(|(start, _)| *start <= range.start()).checked_sub(1)?;
        // An empty part at the end begins where the object ends.
        self.piece(index.min(self.parts.len() - 1), range)
    }

    /// What a range takes of the part after this one.
    pub(super) fn next_piece(&self, piece: Piece, range: PlainRange) -> Option<Piece> {
        let index = piece.index + 1;
        let begins = self.starts.get(index)?.0;
        let more = begins < range.end() || range == PlainRange::whole(self.length());
        more.then(|| self.piece(index, range)).flatten()
    }

    fn piece(&self, index: usize, range: PlainRange) -> Option<Piece> {
        let part = self.parts.get(index)?;
        let base = self.starts[index].0;
        let start = range.start().saturating_sub(base);
        let end = (range.end() - base).min(part.length.get());
        let range = PlainRange::within(start, end);
        let with_head = range.chunks().first() == 0;
        Some(Piece { index, number: part.number, length: part.length, range, with_head })
    }

    fn end(&self) -> (u64, u64) {
        *self.starts.last().expect("there is always a first start")
    }

    /// The block that closes the object, in sealed bytes, under a fresh salt.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] without random bytes.
    pub(super) fn seal(&self, oek: &Oek) -> Result<Block, Error> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).map_err(|_| Error::Random)?;
        Ok(self.seal_with(oek, salt))
    }

    /// The same with a given salt, which must never have been used with this OEK.
    pub(super) fn seal_with(&self, oek: &Oek, salt: [u8; SALT_LEN]) -> Block {
        let manifest = self.encode();
        let least = SALT_LEN as u64 + manifest.len() as u64 + TAG + FOOTER_LEN;
        let size = composite_size(self.end().1 + least);
        let footer = footer(size.get() - self.end().1);
        let mut block = salt.to_vec();
        block.extend_from_slice(&manifest);
        block.resize((size.get() - self.end().1 - FOOTER_LEN) as usize, 0);
        oek.manifest_key(&salt).seal(&aad(size, &footer), &mut block[SALT_LEN..]);
        block.extend_from_slice(&footer);
        Block(block.into())
    }

    /// Opens the block, in sealed bytes, that closes an object of this size.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if it is not the block of this object.
    pub(super) fn open(oek: &Oek, block: &[u8], size: SealedLen) -> Result<Self, Error> {
        let (salt, rest) = block.split_first_chunk::<SALT_LEN>().ok_or(Error::Tampered)?;
        let (sealed, footer) = rest.split_last_chunk::<16>().ok_or(Error::Tampered)?;
        if block_len(footer, size)? != block.len() as u64 {
            return Err(Error::Tampered);
        }
        let mut sealed = sealed.to_vec();
        let text = oek.manifest_key(salt).open(&aad(size, footer), &mut sealed)?;
        let manifest = Self::decode(text).ok_or(Error::Tampered)?;
        let adds_up = manifest.end().1 + block.len() as u64 == size.get();
        if adds_up { Ok(manifest) } else { Err(Error::Tampered) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Vec::with_capacity(16 * self.parts.len() + 64));
        self.write(&mut out).expect("a Vec takes every byte");
        out.into_writer()
    }

    fn write(
        &self,
        out: &mut Encoder<Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        out.array(3)?.array(self.parts.len() as u64)?;
        for part in &self.parts {
            out.array(2 + u64::from(part.checksum.is_some()))?;
            out.u16(part.number.get())?.u64(part.length.get())?;
            if let Some(value) = &part.checksum {
                out.bytes(value)?;
            }
        }
        match &self.checksum {
            None => out.array(0)?,
            Some(sum) => out.array(3)?.u8(sum.algorithm as u8)?.u8(sum.kind as u8)?.bytes(&sum.value)?,
        };
        out.bytes(&self.upload)?;
        Ok(())
    }

    /// Reads what [`Manifest::encode`] wrote, and the zeros behind it. Each manifest has one form.
    fn decode(text: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(text);
        let manifest = Self::read(&mut decoder).ok()??;
        let encoded = manifest.encode();
        let padding = text.strip_prefix(encoded.as_slice())?;
        padding.iter().all(|byte| *byte == 0).then_some(manifest)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Option<Self>, minicbor::decode::Error> {
        if decoder.array()? != Some(3) {
            return Ok(None);
        }
        let count = decoder.array()?.unwrap_or(0);
        let mut parts = Vec::new();
        for _ in 0..count.min(u64::from(PartNumber::MAX.get())) {
            let items = decoder.array()?;
            let (number, length) = (PartNumber::new(decoder.u16()?), PlainLen::new(decoder.u64()?));
            let (Some(number), Some(length)) = (number, length) else { return Ok(None) };
            let checksum = if items == Some(3) { Some(decoder.bytes()?.to_vec()) } else { None };
            parts.push(Part { number, length, checksum });
        }
        let checksum = match decoder.array()? {
            Some(3) => {
                let (algorithm, kind) = (SumAlgorithm::from_id(decoder.u8()?), decoder.u8()?);
                let kind = [SumKind::FullObject, SumKind::Composite].into_iter().find(|k| *k as u8 == kind);
                let (Some(algorithm), Some(kind)) = (algorithm, kind) else { return Ok(None) };
                Some(ObjectSum { algorithm, kind, value: decoder.bytes()?.to_vec() })
            }
            _ => None,
        };
        let upload = <[u8; 32]>::try_from(decoder.bytes()?).ok();
        Ok(upload.and_then(|upload| Self::checked(parts, checksum, upload)))
    }
}

impl Piece {
    pub(super) fn number(&self) -> PartNumber {
        self.number
    }

    pub(super) fn length(&self) -> PlainLen {
        self.length
    }

    /// Within the part.
    pub(super) fn range(&self) -> PlainRange {
        self.range
    }

    /// Whether the part's head is read with its first chunk.
    pub(super) fn with_head(&self) -> bool {
        self.with_head
    }
}

/// The length of the manifest block of an object of this size, from its last 16 sealed bytes. Not yet authenticated.
///
/// # Errors
///
/// [`Error::Tampered`] if no composite object of this size ends so.
pub fn block_len(footer: &[u8; FOOTER_LEN as usize], size: SealedLen) -> Result<u64, Error> {
    let length = footer.strip_prefix(&FOOTER_MAGIC).and_then(|rest| rest.try_into().ok());
    let length = length.map(u64::from_be_bytes).ok_or(Error::Tampered)?;
    let least = SALT_LEN as u64 + TAG + FOOTER_LEN;
    let fits = (least..=BLOCK_MAX).contains(&length) && length <= size.get();
    if fits { Ok(length) } else { Err(Error::Tampered) }
}

fn footer(length: u64) -> [u8; FOOTER_LEN as usize] {
    let mut footer = [0; FOOTER_LEN as usize];
    footer[..8].copy_from_slice(&FOOTER_MAGIC);
    footer[8..].copy_from_slice(&length.to_be_bytes());
    footer
}

fn aad(size: SealedLen, footer: &[u8; FOOTER_LEN as usize]) -> Vec<u8> {
    [size.get().to_be_bytes().as_slice(), footer].concat()
}

/// The next size, from `least` on, that is a composite object's: `(S − 80) mod 65,552 = 1`.
fn composite_size(least: u64) -> SealedLen {
    let over = (least + SEALED_CHUNK - FRAME % SEALED_CHUNK - 1) % SEALED_CHUNK;
    SealedLen::new(least + (SEALED_CHUNK - over) % SEALED_CHUNK)
}
