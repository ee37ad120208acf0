//! Reading a sealed body that the store has altered. Input: which object, whether the store's size is looked at, the
//! piecing, the range, and then what the store does to the bytes, seven bytes each.
//!
//! Holds: what is given out is a prefix of the range's plaintext, of whole chunks; a read that ends well has given
//! all of it; an unaltered body is read, and an altered one is not read whole.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use s3veil::body::Opening;
use s3veil::metrics::{CryptoMetrics, Metrics};
use s3veil::s3::checksum::{Algorithm, Hasher};
use s3veil::seal::{
    CHUNK, Dek, Envelope, FOOTER_LEN, Header, Layout, Manifest, Opened, Part, PartNumber, PartSalt, Place,
    PlainAsk, PlainLen, PlainRange, SealedLen, SealedRange, Sealer, Sse, TAG, Trailer, block_len,
};

use super::input::{Input, body, pieces, wait};

const DEK: [u8; 32] = [3; 32];
const PLACE: Place<'static> = Place { bucket: "b", key: "k" };
const SEALED_CHUNK: usize = (CHUNK + TAG) as usize;

/// The most things that are done to a body.
const MOST: usize = 8;

/// A sealed object.
struct Object {
    envelope: Envelope,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    /// Where its chunks begin in the plaintext.
    borders: Vec<u64>,
}

struct World {
    objects: Vec<Object>,
    metrics: CryptoMetrics,
}

/// Streams around the chunk's length, and objects of several parts, of which some are empty.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let streams = [0, 1, 1000, 65_536, 65_537, 150_000].into_iter().map(stream);
        let composites = [&[5][..], &[0], &[70_000, 0, 65_536, 3], &[0, 1, 0]].into_iter().map(composite);
        World { objects: streams.chain(composites).collect(), metrics: Metrics::default().opening() }
    })
}

fn plaintext(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i >> 16) as u8).collect()
}

fn header(layout: Layout) -> Header {
    let (kms, ek) = ("local".to_owned(), "main".to_owned());
    Header { layout, kms, ek, ek_version: None, wrapped_dek: vec![1; 60], sse: Sse::Kms, context: None }
}

fn stream(len: u64) -> Object {
    let length = PlainLen::new(len).expect("a short object");
    let (envelope, fresh) =
        Envelope::seal(header(Layout::Stream(length)), &Dek::from(DEK), PLACE).expect("a good header");
    let plain = plaintext(len);
    let sealed = seal(fresh.into_sealer().expect("a stream"), &plain);
    let borders = (0..length.chunks()).map(|chunk| chunk * CHUNK).collect();
    Object { envelope, sealed, plain, borders }
}

fn composite(lengths: &[u64]) -> Object {
    let (envelope, _) =
        Envelope::seal(header(Layout::Composite), &Dek::from(DEK), PLACE).expect("a good header");
    let opened = envelope.open(&Dek::from(DEK), PLACE).expect("its own key");
    let plain = plaintext(lengths.iter().sum());
    let (mut sealed, mut parts, mut borders, mut begin) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (index, len) in lengths.iter().enumerate() {
        let number = PartNumber::new(2 * index as u16 + 1).expect("few parts");
        let length = PlainLen::new(*len).expect("a short part");
        let sealer = opened.part_sealer(number, length).expect("random bytes");
        sealed.extend(seal(sealer, &plain[begin as usize..(begin + len) as usize]));
        parts.push(Part { number, length, checksum: None });
        borders.extend((0..length.chunks()).map(|chunk| begin + chunk * CHUNK));
        begin += len;
    }
    let manifest = Manifest::new(parts, None, [5; 32]).expect("good parts");
    sealed.extend_from_slice(opened.seal_manifest(&manifest).expect("random bytes").bytes());
    Object { envelope, sealed, plain, borders }
}

fn seal(mut sealer: Sealer, plain: &[u8]) -> Vec<u8> {
    let mut sealed = sealer.head().to_vec();
    let mut left = plain;
    while let Some(len) = sealer.next_len() {
        let (piece, rest) = left.split_at(len);
        let mut chunk = BytesMut::from(piece);
        sealer.seal(&mut chunk).expect("a chunk of the right length");
        sealed.extend_from_slice(&chunk);
        left = rest;
    }
    let crc64 = Hasher::digest(Algorithm::Crc64Nvme, plain).value().try_into().expect("8 bytes");
    let trailer = Trailer { crc64: u64::from_be_bytes(crc64), client: None };
    sealed.extend(sealer.finish(&trailer).expect("every chunk is sealed").into_iter().flatten());
    sealed
}

/// What the store hands out, and what the reader believes of it.
struct Given {
    opened: Opened,
    bytes: Bytes,
    /// Whether the reader looks at the size that the store gives.
    believes_any_size: bool,
    seed: u8,
}

/// Reads a range of an object as the store hands it out.
pub fn run(data: &[u8]) {
    let world = world();
    let mut input = Input::new(data);
    let object = &world.objects[usize::from(input.byte()) % world.objects.len()];
    let (how, seed) = (input.byte(), input.byte());
    let (start, len) = (u64::from(input.u32()), u64::from(input.u32()));
    let total = PlainLen::new(object.plain.len() as u64).expect("a short object");
    let asked = match how & 3 {
        0 => None,
        1 => Some(PlainAsk::Between { start, end: start + len }),
        2 => Some(PlainAsk::From(start)),
        _ => Some(PlainAsk::Suffix(len)),
    };
    let range = match asked.map(|ask| ask.resolve(total)) {
        None => PlainRange::whole(total),
        Some(Some(range)) => range,
        Some(None) => return,
    };
    let mut bytes = object.sealed.clone();
    for _ in 0..MOST {
        if !input.is_empty() {
            alter(&mut bytes, &mut input, world);
        }
    }
    let altered = bytes != object.sealed;
    let opened = object.envelope.open(&Dek::from(DEK), PLACE).expect("its own key");
    let given = Given { opened, bytes: bytes.into(), believes_any_size: how & 4 > 0, seed };
    let mut out = Vec::new();
    let end = match object.envelope.header().layout {
        Layout::Stream(_) => read_stream(given, total, range, asked.is_none(), &world.metrics, &mut out),
        Layout::Composite => read_composite(given, range, &world.metrics, &mut out),
    };

    let wanted = &object.plain[range.start() as usize..range.end() as usize];
    assert!(wanted.starts_with(&out), "other bytes than were written");
    let at = range.start() + out.len() as u64;
    let whole = out.len() == wanted.len();
    assert!(out.is_empty() || whole || object.borders.contains(&at), "a part of a chunk, up to {at}");
    match end {
        Ok(()) => assert!(whole && (asked.is_some() || !altered), "a read that must not end well"),
        Err(()) => assert!(altered, "an unaltered object is read"),
    }
}

/// The result of a read: its errors all are the same to a client.
type Read = Result<(), ()>;

fn read_stream(
    given: Given,
    total: PlainLen,
    range: PlainRange,
    whole: bool,
    metrics: &CryptoMetrics,
    out: &mut Vec<u8>,
) -> Read {
    if !given.believes_any_size {
        given.opened.layout(SealedLen::new(given.bytes.len() as u64)).map_err(drop)?;
    }
    let sealed =
        if whole { SealedRange::whole(total.sealed()).ok_or(())? } else { range.chunks().sealed(total) };
    // A store that hands out more than was asked for: from half of what stands before.
    let from = if whole { 0 } else { (sealed.start() / 2).min(given.bytes.len() as u64) };
    let to = if whole { given.bytes.len() } else { given.bytes.len().min(sealed.end() as usize) };
    let served = given.bytes.slice(from as usize..to.max(from as usize));
    let opener = given.opened.into_opener(range).map_err(drop)?;
    let opening = Opening::new(
        body(pieces(&served, given.seed)),
        opener,
        sealed.start() - from,
        whole,
        metrics.clone(),
    );
    read(opening, out)
}

fn read_composite(given: Given, range: PlainRange, metrics: &CryptoMetrics, out: &mut Vec<u8>) -> Read {
    let size = SealedLen::new(given.bytes.len() as u64);
    if !given.believes_any_size {
        given.opened.layout(size).map_err(drop)?;
    }
    let footer = given.bytes.last_chunk::<{ FOOTER_LEN as usize }>().ok_or(())?;
    let length = block_len(footer, size).map_err(drop)? as usize;
    let block = &given.bytes[given.bytes.len() - length..];
    let manifest = Arc::new(given.opened.open_manifest(block, size).map_err(drop)?);
    let located = manifest.locate(range).ok_or(())?;
    let slice = |range: SealedRange| given.bytes.get(range.start() as usize..range.end() as usize).ok_or(());
    let salt = located.head.map(|head| PartSalt::parse(slice(head)?).map_err(drop)).transpose()?;
    let served = Bytes::copy_from_slice(slice(located.sealed)?);
    let opener = given.opened.into_composite_opener(manifest, range, salt).map_err(drop)?;
    read(Opening::new(body(pieces(&served, given.seed)), opener, 0, false, metrics.clone()), out)
}

fn read(mut opening: Opening, out: &mut Vec<u8>) -> Read {
    wait(async {
        opening.prime().await.map_err(drop)?;
        let mut body = opening.into_body();
        while let Some(frame) = body.frame().await {
            out.extend_from_slice(&frame.map_err(drop)?.into_data().expect("only data"));
        }
        Ok(())
    })
}

/// One thing that a store can do.
fn alter(bytes: &mut Vec<u8>, input: &mut Input<'_>, world: &World) {
    let (what, value) = (input.byte(), input.byte());
    let (at, other) = (input.u32() as usize & 0xff_ffff, usize::from(input.byte()));
    let chunk = |index: usize, len: usize| {
        let start = (16 + index * SEALED_CHUNK).min(len);
        start..(start + SEALED_CHUNK).min(len)
    };
    match what % 9 {
        // A byte.
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= value;
            }
        }
        // One from the end.
        1 => {
            if let Some(byte) = bytes.iter_mut().rev().nth(at) {
                *byte ^= value;
            }
        }
        2 => bytes.truncate(at),
        3 => bytes.truncate(bytes.len().saturating_sub(at)),
        4 => bytes.extend(std::iter::repeat_n(value, other)),
        // A chunk gone, there twice, or of another object.
        5 => drop(bytes.drain(chunk(other, bytes.len()))),
        6 => {
            let again = bytes[chunk(other, bytes.len())].to_vec();
            let place = chunk(usize::from(value), bytes.len());
            bytes.splice(place, again);
        }
        7 => {
            let from = &world.objects[usize::from(value) % world.objects.len()].sealed;
            bytes.splice(chunk(other, bytes.len()), from[chunk(other, from.len())].iter().copied());
        }
        // What another object ends with.
        _ => {
            let from = &world.objects[usize::from(value) % world.objects.len()].sealed;
            let tail = at.min(from.len()).min(bytes.len());
            bytes.truncate(bytes.len() - tail);
            bytes.extend_from_slice(&from[from.len() - tail..]);
        }
    }
}

/// Every object whole and in part; and each alteration.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let ask = |object: u8, how: u8, start: u32, len: u32| {
        [&[object, how, 9][..], &start.to_le_bytes(), &len.to_le_bytes()].concat()
    };
    for object in 0..10 {
        seeds.push(ask(object, 0, 0, 0));
        seeds.push(ask(object, 1, 65_535, 2));
        seeds.push(ask(object, 3, 0, 100));
    }
    for what in 0..9 {
        for object in [5, 8] {
            let alteration = [what, 1, 20, 0, 1, 0, 1];
            seeds.push([ask(object, 4, 0, 0), alteration.to_vec()].concat());
            seeds.push([ask(object, 5, 70_000, 9), alteration.to_vec()].concat());
        }
    }
    seeds
}
