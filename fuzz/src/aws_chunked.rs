//! The aws-chunked decoder. Input: a byte of framing, one of piecing, two of length, then the body as it is, or (with
//! bit 7 of the framing) where to damage it, chunk sizes, and the plaintext to frame.
//!
//! Holds: how the input comes in pieces makes no difference; what is decoded has the declared length; nothing is
//! taken after an error; a plain reader of the whole finds the same; what was framed rightly is decoded to itself;
//! under signatures no damage gives another plaintext.

use std::collections::VecDeque;

use aws_lc_rs::{digest, hmac};
use bytes::{BufMut as _, Bytes, BytesMut};
use s3veil::body::chunk_signature::ChunkSigner;
use s3veil::body::chunked::{Chunked, Decoder, Signatures, Trailers};
use s3veil::s3::checksum::{Algorithm, Checksum, Hasher};
use s3veil::s3::{Code, Error};

use super::input::{Input, pieces};

const DATE: &str = "20260101T000000Z";
const SCOPE: &str = "20260101/us-east-1/s3/aws4_request";
const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";

/// Bit of the framing byte: the rest is a plaintext to frame.
const MADE: u8 = 0x80;

/// How a body is framed: bits 0 and 1 the signatures, bit 2 whether there are trailers, bits 3 to 6 the declared one.
#[derive(Clone, Copy)]
struct Framing(u8);

impl Framing {
    fn chunked(self) -> Chunked {
        let signatures = match self.0 & 3 {
            0 => Signatures::Absent,
            1 => Signatures::Unchecked,
            _ => Signatures::Checked(ChunkSigner::new(key(), DATE, SCOPE, SEED.to_owned())),
        };
        Chunked { signatures, trailers: self.trailers(), trailer: self.trailer() }
    }

    fn signed(self) -> bool {
        self.0 & 3 > 0
    }

    fn checked(self) -> bool {
        self.0 & 3 > 1
    }

    fn trailers(self) -> bool {
        self.0 & 4 > 0
    }

    fn trailer(self) -> Option<Algorithm> {
        let index = usize::from((self.0 >> 3) & 15).checked_sub(1).filter(|_| self.trailers());
        index.and_then(|index| Algorithm::all().nth(index))
    }
}

/// What becomes of a body: its plaintext, and its trailers or the error.
type Outcome = (Vec<u8>, Result<Trailers, Code>);

/// Decodes an input in several ways.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let framing = Framing(input.byte());
    let (seed, length) = (input.byte(), input.u16());
    if framing.0 & MADE > 0 {
        return made(framing, seed, length, input);
    }
    let body = Bytes::copy_from_slice(input.rest());
    let (plain, end) = decode_everyhow(framing, u64::from(length), &body, seed);
    if !framing.signed() && !framing.trailers() {
        let read = read(&body).filter(|plain| plain.len() == usize::from(length));
        assert_eq!(read, end.is_ok().then_some(plain), "what a plain reader finds");
    }
}

/// A body of s3veil's own form, whole or damaged.
fn made(framing: Framing, seed: u8, at: u16, mut input: Input<'_>) {
    let (change, size) = (input.byte(), usize::from(input.byte()) + 1);
    let plain = input.rest();
    // Few chunks: each is signed several times over.
    let whole = frame(framing, plain, size.max(plain.len() / 16));
    let (read, end) = decode_everyhow(framing, plain.len() as u64, &whole, seed);
    assert_eq!(read, plain, "{end:?}");
    let checksum = framing.trailer().map(|algorithm| Hasher::digest(algorithm, plain));
    assert_eq!(end, Ok(Trailers { checksum: checksum.clone() }));

    let mut damaged = BytesMut::from(&whole[..]);
    let at = usize::from(at) % damaged.len();
    damaged[at] ^= change;
    let (read, end) = decode_everyhow(framing, plain.len() as u64, &damaged.freeze(), seed);
    if let (Ok(trailers), true) = (end, framing.checked()) {
        assert_eq!((read.as_slice(), trailers.checksum), (plain, checksum), "damaged, and yet signed");
    }
}

/// All at once, in the pieces that `seed` says, and byte by byte.
fn decode_everyhow(framing: Framing, length: u64, body: &Bytes, seed: u8) -> Outcome {
    let (plain, end) = decode(framing, length, pieces(body, 0));
    assert!(plain.len() as u64 <= length);
    if end.is_ok() {
        assert_eq!(plain.len() as u64, length);
    }
    for seed in [seed, 1] {
        let (other, other_end) = decode(framing, length, pieces(body, seed));
        assert_eq!(other_end, end);
        // Of a chunk that fails, as much is given out as came before it was seen to.
        assert!(if end.is_ok() { other == plain } else { other.starts_with(&plain) }, "{end:?}");
    }
    (plain, end)
}

fn decode(framing: Framing, length: u64, pieces: VecDeque<Bytes>) -> Outcome {
    let mut decoder = Decoder::new(framing.chunked(), length);
    let mut plain = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.feed(&mut piece) {
                Ok(Some(data)) => {
                    assert!(!data.is_empty());
                    plain.extend_from_slice(&data);
                }
                Ok(None) => break,
                Err(error) => return (plain, Err(broken(decoder, error))),
            }
        }
        assert!(piece.is_empty());
    }
    let finished = decoder.finished();
    let end = decoder.finish().map_err(|error| error.code());
    assert_eq!(finished, end.is_ok());
    (plain, end)
}

/// After an error nothing more is taken.
fn broken(mut decoder: Decoder, error: Error) -> Code {
    let mut more = Bytes::from_static(b"0\r\n\r\n");
    assert!(decoder.feed(&mut more).is_err() && !decoder.finished() && decoder.finish().is_err());
    error.code()
}

/// What is framed without signatures and trailers, read as a whole.
fn read(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    loop {
        let end = body.iter().position(|byte| *byte == b'\n')?;
        let size = std::str::from_utf8(body[..end].strip_suffix(b"\r")?).ok()?;
        if !(1..=16).contains(&size.len()) || size.starts_with('+') {
            return None;
        }
        let size = usize::try_from(u64::from_str_radix(size, 16).ok()?).ok()?;
        body = &body[end + 1..];
        plain.extend_from_slice(body.get(..size)?);
        body = body[size..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return body.is_empty().then_some(plain);
        }
    }
}

/// A plaintext in chunks of this size, with signatures and the declared trailer.
fn frame(framing: Framing, plain: &[u8], size: usize) -> Bytes {
    let mut body = BytesMut::new();
    let mut previous = SEED.to_owned();
    for chunk in plain.chunks(size).chain([&[][..]]) {
        body.put(format!("{:x}", chunk.len()).as_bytes());
        if framing.signed() {
            previous = sign("PAYLOAD", &[&previous, &sha256(b""), &sha256(chunk)]);
            body.put(format!(";chunk-signature={previous}").as_bytes());
        }
        body.put(&b"\r\n"[..]);
        if !chunk.is_empty() {
            body.put(chunk);
            body.put(&b"\r\n"[..]);
        }
    }
    if framing.trailers() {
        let checksum = framing.trailer().map(|algorithm| Hasher::digest(algorithm, plain));
        let line = |sum: &Checksum| format!("{}:{}", sum.algorithm().header().as_str(), sum.to_base64());
        let line = checksum.as_ref().map(line);
        if let Some(line) = &line {
            body.put(format!("{line}\r\n").as_bytes());
        }
        if framing.signed() {
            let signed = line.map(|line| format!("{line}\n")).unwrap_or_default();
            let signature = sign("TRAILER", &[&previous, &sha256(signed.as_bytes())]);
            body.put(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
        }
    }
    body.put(&b"\r\n"[..]);
    body.freeze()
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"a signing key")
}

fn sign(what: &str, lines: &[&str]) -> String {
    let text = format!("AWS4-HMAC-SHA256-{what}\n{DATE}\n{SCOPE}\n{}", lines.join("\n"));
    hex::encode(hmac::sign(&key(), text.as_bytes()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Every framing whole and damaged; and bodies that are wrong in one way each.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for framing in [0, 1, 2, 4, 5, 6, 0b1100, 0b1_0110, 0b10_1110] {
        let plain = b"a plaintext of some length, in chunks";
        let mut header = vec![framing, 7, plain.len() as u8, 0];
        header.extend_from_slice(&frame(Framing(framing), plain, 16));
        seeds.push(header);
        seeds.push([&[framing | MADE, 3, 40, 0, 1, 9][..], plain].concat());
    }
    for body in [
        "3\r\nabc\r\n0\r\n\r\n",
        "0000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc",
        "3;chunk-signature=x\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\nmore",
        "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n",
    ] {
        seeds.push([&[0, 5, 3, 0], body.as_bytes()].concat());
        seeds.push([&[0b1100, 5, 3, 0], body.as_bytes()].concat());
    }
    seeds
}
