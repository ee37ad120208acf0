//! The aws-chunked decoder: chunk sizes, chunk signatures and trailers off, plaintext out. No I/O, constant memory.
//!
//! ```text
//! body    = chunk* last trailer* [signature] CRLF
//! chunk   = size-hex [";chunk-signature=" hex64] CRLF data CRLF
//! last    = "0"      [";chunk-signature=" hex64] CRLF
//! trailer = name ":" value (LF | CRLF)
//! ```
//!
//! Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in
//! Multiple Chunks" and "... Including Trailing Headers".

use aws_lc_rs::digest;
use bytes::Bytes;
use memchr::memchr;

use crate::s3::checksum::{Algorithm, Checksum};
use crate::s3::{Code, Error, Result};

use super::chunk_signature::ChunkSigner;

/// The longest line but data: a size with its signature takes 99 bytes, a trailer's signature 90.
const MAX_LINE: usize = 256;

/// How an aws-chunked body is framed, and what it must prove.
#[derive(Debug)]
pub struct Chunked {
    /// What is to be done with chunk signatures.
    pub signatures: Signatures,
    /// True for the forms with a trailer section (`...-TRAILER`).
    pub trailers: bool,
    /// The checksum that `x-amz-trailer` declares. It must come, and nothing else may.
    pub trailer: Option<Algorithm>,
}

/// Whether chunks bear signatures, and who can check them.
#[derive(Debug)]
pub enum Signatures {
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: there are none.
    Absent,
    /// There are, but nobody here has the secret: trusted mode.
    Unchecked,
    /// Each is checked with this.
    Checked(ChunkSigner),
}

/// What stood after the last chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// The declared checksum. Whether it is that of the body, the caller checks.
    pub checksum: Option<Checksum>,
}

/// Takes an aws-chunked body apart, piece by piece.
///
/// A piece of plaintext is given out before its chunk's signature has been seen to fit, so the caller holds the end of
/// the object back until [`Decoder::finish`] agrees.
pub struct Decoder {
    chunked: Chunked,
    /// Plaintext bytes still to come, of those declared.
    remaining: u64,
    state: State,
    line: Vec<u8>,
    /// Signature and running hash of the chunk at hand, where signatures are checked.
    signature: Vec<u8>,
    hash: digest::Context,
    /// The trailers as they are signed: `name:value\n`.
    canonical: String,
    checksum: Option<Checksum>,
    /// True after the empty line that may set the trailers' signature apart.
    apart: bool,
}

enum State {
    /// A chunk's size line.
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk's data.
    DataEnd,
    /// Trailers, up to the empty line.
    Trailers,
    /// The empty line that ends the body, nothing else.
    End,
    /// The whole body was read.
    Finished,
    /// After an error nothing more is accepted.
    Broken,
}

impl Decoder {
    /// A decoder for a body of `length` plaintext bytes (`x-amz-decoded-content-length`).
    pub fn new(chunked: Chunked, length: u64) -> Self {
        Self {
            chunked,
            remaining: length,
            state: State::Size,
            line: Vec::new(),
            signature: Vec::new(),
            hash: digest::Context::new(&digest::SHA256),
            canonical: String::new(),
            checksum: None,
            apart: false,
        }
    }

    /// Takes bytes off the front of `input` and gives the next piece of plaintext, a slice of it; `None` when `input`
    /// is used up. Call it until then, for every frame.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Bytes>> {
        let piece = self.step(input);
        if piece.is_err() {
            self.state = State::Broken;
        }
        piece
    }

    /// True once the whole body was read, and every signature in it fits.
    pub fn finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Ends the body: an error unless it was whole.
    pub fn finish(self) -> Result<Trailers> {
        if self.finished() { Ok(Trailers { checksum: self.checksum }) } else { Err(incomplete()) }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Option<Bytes>> {
        while !input.is_empty() {
            let read: fn(&mut Self, &[u8]) -> Result<()> = match self.state {
                State::Data(left) => return self.data(left, input).map(Some),
                State::Finished => return Err(malformed("bytes after its end")),
                State::Broken => return Err(malformed("an error before")),
                State::Size => Self::size,
                State::DataEnd => Self::data_end,
                State::Trailers => Self::trailer,
                State::End => Self::end,
            };
            let Some(line) = self.take_line(input)? else { return Ok(None) };
            read(self, &line)?;
        }
        Ok(None)
    }

    fn data(&mut self, left: u64, input: &mut Bytes) -> Result<Bytes> {
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let piece = input.split_to(take);
        self.remaining -= take as u64;
        let left = left - take as u64;
        self.state = if left > 0 { State::Data(left) } else { State::DataEnd };
        if let Signatures::Checked(_) = self.chunked.signatures {
            self.hash.update(&piece);
            if left == 0 {
                self.check_chunk()?;
            }
        }
        Ok(piece)
    }

    /// A line without its LF, or `None` if its end is not here yet.
    fn take_line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>> {
        let end = memchr(b'\n', input);
        let part = input.split_to(end.map_or(input.len(), |at| at + 1));
        if self.line.len() + part.len() > MAX_LINE {
            return Err(malformed("a line that is too long"));
        }
        self.line.extend_from_slice(&part[..end.unwrap_or(part.len())]);
        Ok(end.is_some().then(|| std::mem::take(&mut self.line)))
    }

    fn size(&mut self, line: &[u8]) -> Result<()> {
        let line = line.strip_suffix(b"\r").ok_or_else(|| malformed("a size line without CRLF"))?;
        let (size, signature) = match self.chunked.signatures {
            Signatures::Absent => (line, &b""[..]),
            Signatures::Unchecked | Signatures::Checked(_) => split_signature(line)?,
        };
        let size = parse_size(size)?;
        if size > self.remaining || (size == 0 && self.remaining > 0) {
            return Err(incomplete());
        }
        self.signature.clear();
        self.signature.extend_from_slice(signature);
        self.state = match size {
            0 if self.chunked.trailers => State::Trailers,
            0 => State::End,
            size => State::Data(size),
        };
        if size == 0 { self.check_chunk() } else { Ok(()) }
    }

    fn check_chunk(&mut self) -> Result<()> {
        let Signatures::Checked(signer) = &mut self.chunked.signatures else { return Ok(()) };
        let hash = std::mem::replace(&mut self.hash, digest::Context::new(&digest::SHA256)).finish();
        signer.chunk(&self.signature, &hex::encode(hash))
    }

    fn data_end(&mut self, line: &[u8]) -> Result<()> {
        self.state = State::Size;
        expect_empty(line, "a chunk that is longer than its size")
    }

    fn end(&mut self, line: &[u8]) -> Result<()> {
        self.state = State::Finished;
        expect_empty(line, "bytes where it should end")
    }

    fn trailer(&mut self, line: &[u8]) -> Result<()> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let signed = !matches!(self.chunked.signatures, Signatures::Absent);
        if line.is_empty() {
            return if signed { self.set_apart() } else { self.last_trailer() };
        }
        let text = std::str::from_utf8(line).map_err(|_| bad_trailer("is not text"))?;
        let (name, value) = text.split_once(':').ok_or_else(|| bad_trailer("has no colon"))?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim_start());
        if signed && name == "x-amz-trailer-signature" {
            return self.trailer_signature(value);
        }
        let algorithm = self.chunked.trailer.filter(|algorithm| algorithm.header().as_str() == name);
        let algorithm = algorithm.ok_or_else(|| bad_trailer("was not declared in x-amz-trailer"))?;
        if self.checksum.is_some() {
            return Err(bad_trailer("came twice"));
        }
        let checksum = Checksum::parse(algorithm, value).ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("Value for {name} trailing header is invalid."))
        })?;
        self.checksum = Some(checksum);
        self.canonical = format!("{name}:{value}\n");
        Ok(())
    }

    /// minio-go, and AWS's own example, set the signature apart with an empty line. One, and only right before it.
    fn set_apart(&mut self) -> Result<()> {
        self.expect_declared()?;
        if std::mem::replace(&mut self.apart, true) {
            return Err(bad_trailer("x-amz-trailer-signature is missing"));
        }
        Ok(())
    }

    fn trailer_signature(&mut self, given: &str) -> Result<()> {
        self.expect_declared()?;
        if let Signatures::Checked(signer) = &mut self.chunked.signatures {
            let hash = digest::digest(&digest::SHA256, self.canonical.as_bytes());
            signer.trailers(given.as_bytes(), &hex::encode(hash))?;
        }
        self.state = State::End;
        Ok(())
    }

    fn last_trailer(&mut self) -> Result<()> {
        self.expect_declared()?;
        self.state = State::Finished;
        Ok(())
    }

    fn expect_declared(&self) -> Result<()> {
        if self.chunked.trailer.is_some() && self.checksum.is_none() {
            return Err(bad_trailer("that x-amz-trailer declares is missing"));
        }
        Ok(())
    }
}

fn expect_empty(line: &[u8], otherwise: &str) -> Result<()> {
    if line == b"\r" { Ok(()) } else { Err(malformed(otherwise)) }
}

/// Splits `size;chunk-signature=hex64`, and accepts no other extension.
fn split_signature(line: &[u8]) -> Result<(&[u8], &[u8])> {
    let at = memchr(b';', line).ok_or_else(|| malformed("a chunk without a signature"))?;
    let signature = line[at..].strip_prefix(b";chunk-signature=").filter(|signature| signature.len() == 64);
    Ok((&line[..at], signature.ok_or_else(|| malformed("a chunk extension that is no signature"))?))
}

/// One to sixteen hex digits, and nothing else.
fn parse_size(text: &[u8]) -> Result<u64> {
    let digits = text.iter().all(u8::is_ascii_hexdigit) && (1..=16).contains(&text.len());
    let text = std::str::from_utf8(text).ok().filter(|_| digits);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| malformed("a size that is no hex number"))
}

fn incomplete() -> Error {
    Error::new(
        Code::IncompleteBody,
        "You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header.",
    )
}

fn malformed(what: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("The aws-chunked body is malformed: it has {what}."))
}

fn bad_trailer(what: &str) -> Error {
    Error::new(Code::MalformedTrailerError, format!("The trailer {what}."))
}
