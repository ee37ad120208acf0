//! Composite objects against a plain model, and what a store could do to them: the format alone, no network.

#[path = "support/reader.rs"]
mod reader;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use proptest::prelude::*;
use reader::SecondReader;
use s3veil::seal::{
    Dek, Envelope, Error, Header, Layout, Manifest, ObjectSum, Opened, PART_HEAD_LEN, Part, PartNumber,
    PartSalt, Place, PlainAsk, PlainLen, PlainRange, SealedLen, Sse, SumAlgorithm, SumKind, Trailer,
    block_len,
};

const PLACE: Place<'_> = Place { bucket: "b", key: "k" };
const CHUNK: u64 = 65_536;

/// What the store holds: the bodies of the parts, and the block.
#[derive(Clone)]
struct Stored {
    envelope: String,
    parts: Vec<Vec<u8>>,
    block: Vec<u8>,
}

impl Stored {
    fn body(&self) -> Vec<u8> {
        [self.parts.concat().as_slice(), &self.block].concat()
    }
}

fn number(n: u16) -> PartNumber {
    PartNumber::new(n).unwrap()
}

fn plain_len(len: usize) -> PlainLen {
    PlainLen::new(len as u64).unwrap()
}

fn envelope() -> Envelope {
    let header = Header {
        layout: Layout::Composite,
        kms: "kes".into(),
        ek: "my-key".into(),
        ek_version: None,
        wrapped_dek: vec![0x5a; 76],
        sse: Sse::Kms,
        context: None,
    };
    Envelope::seal(header, &Dek::from([9; 32]), PLACE).unwrap().0
}

fn opened(envelope: &str) -> Opened {
    Envelope::parse(envelope).unwrap().open(&Dek::from([9; 32]), PLACE).unwrap()
}

fn seal_part(opened: &Opened, n: u16, plain: &[u8]) -> Vec<u8> {
    let mut sealer = opened.part_sealer(number(n), plain_len(plain.len())).unwrap();
    let (mut body, mut left) = (sealer.head().to_vec(), plain);
    while let Some(len) = sealer.next_len() {
        let mut chunk = BytesMut::from(&left[..len]);
        sealer.seal(&mut chunk).unwrap();
        body.extend_from_slice(&chunk);
        left = &left[len..];
    }
    let length = sealer.length();
    assert_eq!(sealer.finish(&Trailer { crc64: 0, client: None }).unwrap(), None);
    assert_eq!(length, SealedLen::new(body.len() as u64));
    assert_eq!(length.part(), Some(plain_len(plain.len())));
    body
}

fn manifest(lengths: &[(u16, usize)]) -> Manifest {
    let part = |(n, len): &(u16, usize)| Part { number: number(*n), length: plain_len(*len), checksum: None };
    Manifest::new(lengths.iter().map(part).collect(), None, [3; 32]).unwrap()
}

/// Parts of these numbers and lengths; byte `i` of part `n` is a function of both.
fn store(lengths: &[(u16, usize)]) -> (Stored, Vec<u8>) {
    let envelope = envelope().encode();
    let opened = opened(&envelope);
    let plains: Vec<Vec<u8>> = lengths.iter().map(|(n, len)| plaintext(*n, *len)).collect();
    let parts = lengths.iter().zip(&plains).map(|((n, _), plain)| seal_part(&opened, *n, plain)).collect();
    let block = opened.seal_manifest(&manifest(lengths)).unwrap().bytes().to_vec();
    (Stored { envelope, parts, block }, plains.concat())
}

fn plaintext(n: u16, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ n as u8).collect()
}

/// Reads as a GET does: manifest, the head of the first part if need be, then the chunks.
fn read(envelope: &str, body: &[u8], ask: PlainAsk) -> Result<Vec<u8>, Error> {
    let opened = opened(envelope);
    let size = SealedLen::new(body.len() as u64);
    if opened.layout(size)? != Layout::Composite {
        return Err(Error::Tampered);
    }
    let footer = body.last_chunk().ok_or(Error::Tampered)?;
    let block = &body[body.len() - block_len(footer, size)? as usize..];
    let manifest = Arc::new(opened.open_manifest(block, size)?);
    let whole = PlainRange::whole(manifest.length());
    let range = ask.resolve(manifest.length()).unwrap_or(whole);
    let located = manifest.locate(range).ok_or(Error::Tampered)?;
    let part = |range: s3veil::seal::SealedRange| &body[range.start() as usize..range.end() as usize];
    let salt = located.head.map(|head| PartSalt::parse(part(head))).transpose()?;
    let mut opener = opened.into_composite_opener(manifest, range, salt)?;
    let (mut sealed, mut plain) = (part(located.sealed), Vec::new());
    while let Some(len) = opener.next_len() {
        let mut chunk = BytesMut::from(&sealed[..len.min(sealed.len())]);
        sealed.advance(len.min(sealed.len()));
        opener.open(&mut chunk)?;
        plain.extend_from_slice(&chunk);
    }
    assert!(sealed.is_empty(), "what was located is what was read");
    Ok(plain)
}

const ALL: PlainAsk = PlainAsk::From(0);

fn whole(stored: &Stored) -> Result<Vec<u8>, Error> {
    read(&stored.envelope, &stored.body(), ALL)
}

fn layouts() -> impl Strategy<Value = Vec<(u16, usize)>> {
    let length = prop_oneof![
        0..200_usize,
        (0..4_usize, -2..=2_isize).prop_map(|(k, d)| (k * CHUNK as usize).saturating_add_signed(d)),
        0..300_000_usize,
    ];
    proptest::collection::btree_map(1..=9_999_u16, length, 1..7).prop_map(|parts| parts.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_parts_read_as_they_were_written(parts in layouts(), asks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8)) {
        let (stored, plain) = store(&parts);
        let body = stored.body();
        prop_assert_eq!(SealedLen::new(body.len() as u64).layout(), Some(Layout::Composite));
        prop_assert!(whole(&stored).unwrap() == plain);
        for (start, end) in asks {
            let (start, end) = (start.index(plain.len() + 1) as u64, end.index(plain.len() + 1) as u64);
            for ask in [PlainAsk::Between { start, end }, PlainAsk::From(start), PlainAsk::Suffix(end)] {
                if let Some(range) = ask.resolve(plain_len(plain.len())) {
                    let expected = &plain[range.start() as usize..range.end() as usize];
                    prop_assert!(read(&stored.envelope, &body, ask).unwrap() == expected, "{ask:?} of {parts:?}");
                }
            }
        }
    }

    #[test]
    fn any_flipped_byte_is_an_error(parts in layouts(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (stored, _) = store(&parts);
        let mut body = stored.body();
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        prop_assert_eq!(read(&stored.envelope, &body, ALL), Err(Error::Tampered), "byte {} of {:?}", at, parts);
    }
}

/// Around every boundary of parts and chunks, one byte to either side.
#[test]
fn the_second_reader_opens_what_is_sealed_here() {
    let Some(reader) = SecondReader::find() else { return };
    let many = Vec::from_iter((1..=2_500).map(|n| (n, usize::from(n) % 7)));
    let edges = [(2, 65_535), (3, 65_536), (4, 0), (700, 65_537), (9_999, 200_000)];
    for lengths in [&[(1, 0)][..], &[(9_999, 1)], &edges, &many] {
        let (stored, plain) = store(lengths);
        assert!(
            reader.read(&stored.envelope, &stored.body(), [9; 32], PLACE).unwrap() == plain,
            "{lengths:?}"
        );
        // Whatever it opens, it has looked at.
        for at in [0, 16, stored.parts[0].len() - 1, stored.body().len() - 20, stored.body().len() - 1] {
            let mut body = stored.body();
            body[at] ^= 1;
            reader.read(&stored.envelope, &body, [9; 32], PLACE).unwrap_err();
        }
    }
}

#[test]
fn every_boundary() {
    let (stored, plain) = store(&[(1, 65_536), (2, 0), (3, 65_537), (7, 1), (8, 131_072), (9_999, 10)]);
    let body = stored.body();
    let mut edges = vec![0, plain.len()];
    for edge in [65_536, 131_072, 131_073, 131_074, 196_610, 262_146, 262_156] {
        edges.extend((edge - 2..=edge + 2).filter(|edge| *edge <= plain.len()));
    }
    for start in &edges {
        for end in edges.iter().filter(|end| *end > start) {
            let ask = PlainAsk::Between { start: *start as u64, end: *end as u64 };
            assert!(read(&stored.envelope, &body, ask).unwrap() == plain[*start..*end], "{start} to {end}");
        }
    }
}

/// F-8, F-9: with the parts that a store has, of this object and of others.
#[test]
fn parts_stay_where_they_are() {
    let sizes = [(1, 70_000), (2, 70_000), (3, 70_000)];
    let (stored, plain) = store(&sizes);
    let (other, _) = store(&sizes);
    assert!(whole(&stored).unwrap() == plain);
    let refused = |what: &str, change: &dyn Fn(&mut Stored)| {
        let mut changed = stored.clone();
        change(&mut changed);
        assert_eq!(whole(&changed), Err(Error::Tampered), "{what}");
        for start in [0, 69_999, 70_000, 140_001] {
            let ask = PlainAsk::Between { start, end: start + 2 };
            if let Ok(read) = read(&changed.envelope, &changed.body(), ask) {
                assert!(read == plain[start as usize..start as usize + 2], "{what}: other bytes");
            }
        }
    };
    refused("dropped", &|s| drop(s.parts.remove(1)));
    refused("the last dropped", &|s| drop(s.parts.pop()));
    refused("doubled", &|s| s.parts.insert(1, s.parts[1].clone()));
    refused("one in the place of another", &|s| s.parts[1] = s.parts[0].clone());
    refused("swapped", &|s| s.parts.swap(0, 1));
    refused("of another upload", &|s| s.parts[1] = other.parts[1].clone());
    refused("another salt", &|s| s.parts[1][20] ^= 1);
    refused("the manifest of another upload", &|s| s.block = other.block.clone());
    refused("manifest and envelope of another upload", &|s| {
        (s.block, s.envelope) = (other.block.clone(), other.envelope.clone());
    });
    refused("all parts of another upload", &|s| s.parts = other.parts.clone());
    refused("no manifest", &|s| s.block.clear());
    refused("the manifest in front", &|s| {
        let block = std::mem::take(&mut s.block);
        s.parts.insert(0, block);
    });
    refused("cut by a byte", &|s| s.block.truncate(s.block.len() - 1));
    refused("a byte more", &|s| s.block.push(0));
    // The same residue, so that the size says nothing.
    refused("cut by a chunk", &|s| drop(s.parts[0].drain(48..48 + 65_552)));
    refused("grown by a chunk", &|s| s.block.splice(100..100, [0; 65_552]).for_each(drop));
    refused("a chunk more in a part", &|s| {
        let chunk = s.parts[0][48..48 + 65_552].to_vec();
        s.parts[0].splice(48..48, chunk).for_each(drop);
    });
    refused("a block that says it is longer", &|s| {
        let at = s.block.len() - 1;
        s.block[at] = s.block[at].wrapping_add(1);
    });
}

/// The manifest that lists the parts of one upload in another order or number can't be made without the key; one that
/// an s3veil made for other lengths does not open these.
#[test]
fn a_manifest_for_other_parts_is_refused() {
    let (stored, _) = store(&[(1, 70_000), (2, 70_000)]);
    let key = opened(&stored.envelope);
    for other in
        [&[(1, 70_000)][..], &[(1, 70_000), (3, 70_000)], &[(1, 69_999), (2, 70_001)], &[(1, 140_000)]]
    {
        let block = key.seal_manifest(&manifest(other)).unwrap().bytes().to_vec();
        assert_eq!(whole(&Stored { block, ..stored.clone() }), Err(Error::Tampered), "{other:?}");
    }
}

/// A part that is sent again has another key, so that no key and nonce ever meet two plaintexts.
#[test]
fn a_part_sent_again_is_sealed_anew() {
    let key = opened(&envelope().encode());
    let (one, two) = (seal_part(&key, 1, &[0; 100]), seal_part(&key, 1, &[0; 100]));
    assert_ne!(one[16..48], two[16..48], "the salt");
    assert_ne!(one[48..], two[48..], "the bytes");
}

#[test]
fn a_manifest_keeps_numbers_lengths_and_checksums() {
    let key = opened(&envelope().encode());
    let parts: Vec<Part> = (1..=9_999)
        .map(|n| Part { number: number(n), length: plain_len(5 << 20), checksum: Some(vec![n as u8; 32]) })
        .collect();
    let sum = ObjectSum { algorithm: SumAlgorithm::Sha256, kind: SumKind::Composite, value: vec![7; 32] };
    let manifest = Manifest::new(parts, Some(sum), [9; 32]).unwrap();
    let block = key.seal_manifest(&manifest).unwrap().bytes().to_vec();
    assert!(block.len() < 600_000, "{}", block.len());
    let size = SealedLen::new(9_999 * plain_len(5 << 20).sealed_part().get() + block.len() as u64);
    assert_eq!(size.layout(), Some(Layout::Composite));
    assert_eq!(block_len(block.last_chunk().unwrap(), size), Ok(block.len() as u64));
    assert_eq!(key.open_manifest(&block, size).unwrap(), manifest);
    assert_eq!(key.open_manifest(&block, SealedLen::new(size.get() + 65_552)), Err(Error::Tampered));
}

#[test]
fn what_is_no_object_has_no_manifest() {
    let part = |n, len: u64| Part { number: number(n), length: PlainLen::new(len).unwrap(), checksum: None };
    let sum =
        |value: Vec<u8>| Some(ObjectSum { algorithm: SumAlgorithm::Crc32, kind: SumKind::FullObject, value });
    let summed = |value: Vec<u8>| Part { checksum: Some(value), ..part(1, 1) };
    assert!(Manifest::new(vec![], None, [0; 32]).is_err());
    assert!(Manifest::new(vec![part(2, 1), part(1, 1)], None, [0; 32]).is_err());
    assert!(Manifest::new(vec![part(1, 1), part(1, 1)], None, [0; 32]).is_err());
    assert!(Manifest::new(vec![part(1, 3 << 40), part(2, 3 << 40)], None, [0; 32]).is_err(), "over 5 TiB");
    assert!(Manifest::new(vec![summed(vec![0; 4])], None, [0; 32]).is_err(), "of no algorithm");
    assert!(Manifest::new(vec![summed(vec![0; 3])], sum(vec![0; 4]), [0; 32]).is_err());
    assert!(Manifest::new(vec![summed(vec![0; 4])], sum(vec![0; 5]), [0; 32]).is_err());
    assert!(Manifest::new(vec![summed(vec![0; 4])], sum(vec![0; 4]), [0; 32]).is_ok());
    assert_eq!(PART_HEAD_LEN, 48);
}
