//! A client's body on its way in: framing removed, every check made.
//!
//! Checks: length, signed payload hash, chunk and trailer signatures, Content-MD5, x-amz-checksum-*. What is forwarded is
//! never complete unless it is right (promise 3): a sealed body holds its last chunk back until the source has ended, and
//! a body that is passed on as it came holds its last piece back.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http_body_util::BodyExt;
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;
use tokio::time::timeout;

use super::chunked::Decoder;
use super::{ByteBody, from_source};
use crate::auth::Payload;
use crate::s3::checksum::{Algorithm, Checksum, Hasher};
use crate::s3::{Code, Error, Result};

/// A client's body, read piece by piece.
pub struct Checked {
    body: ByteBody,
    idle: Duration,
    /// aws-chunked, until its end has been seen.
    decoder: Option<Decoder>,
    /// Read from the connection, not yet decoded.
    raw: Bytes,
    /// Plaintext bytes announced, and seen so far.
    length: u64,
    seen: u64,
    sha256: Option<(Context, [u8; 32])>,
    md5: Option<(Md5, [u8; 16])>,
    /// The client's checksum: its algorithm, and its value unless that comes behind the body.
    claimed: Option<(Algorithm, Option<Checksum>)>,
    hashers: Vec<Hasher>,
    outcome: Outcome,
    ended: bool,
}

/// What has been computed of a body that passed.
#[derive(Clone, Debug)]
pub struct Sums {
    /// CRC-64/NVME of the plaintext.
    pub crc64: Checksum,
    /// The checksum that the client sent, verified.
    pub client: Option<Checksum>,
}

/// What became of a body, for the handler, who himself sees only a broken request to the store.
#[derive(Clone, Debug, Default)]
pub struct Outcome(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    failure: Mutex<Option<Error>>,
    sums: OnceLock<Sums>,
}

impl Checked {
    /// Reads `body` as `payload` says. `idle`: how long a client may send nothing.
    ///
    /// Errors: MissingContentLength for a body without a length.
    pub fn new(body: ByteBody, payload: Payload, idle: Duration) -> Result<Self> {
        let length = payload.length.ok_or_else(|| {
            Error::new(Code::MissingContentLength, "You must provide the Content-Length HTTP header.")
        })?;
        let claimed = match (payload.checksum, payload.trailer) {
            (Some(checksum), _) => Some((checksum.algorithm(), Some(checksum))),
            (None, trailer) => trailer.map(|algorithm| (algorithm, None)),
        };
        let mut hashers = vec![Hasher::new(Algorithm::Crc64Nvme)];
        if let Some((algorithm, _)) =
            claimed.as_ref().filter(|(algorithm, _)| *algorithm != Algorithm::Crc64Nvme)
        {
            hashers.push(Hasher::new(*algorithm));
        }
        Ok(Self {
            body,
            idle,
            decoder: payload.chunked.map(|chunked| Decoder::new(chunked, length)),
            raw: Bytes::new(),
            length,
            seen: 0,
            sha256: payload.sha256.map(|expected| (Context::new(&SHA256), expected)),
            md5: payload.md5.map(|expected| (Md5::new(), expected)),
            claimed,
            hashers,
            outcome: Outcome::default(),
            ended: false,
        })
    }

    /// Plaintext bytes announced. `next` gives exactly so many, or an error.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The algorithm of a checksum that comes behind the body.
    pub fn trailing(&self) -> Option<Algorithm> {
        self.claimed.as_ref().filter(|(_, value)| value.is_none()).map(|(algorithm, _)| *algorithm)
    }

    /// What the handler asks afterwards.
    pub fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// The next piece; `None` once all checks have passed, and only then is the body right. An error is also left in the
    /// outcome.
    pub async fn next(&mut self) -> std::result::Result<Option<Bytes>, Failed> {
        self.advance().await.map_err(|error| {
            let failed = Failed(error.code());
            self.outcome.fail(error);
            failed
        })
    }

    /// All of it, for a document of at most `limit` bytes.
    ///
    /// Errors: EntityTooLarge, or what the checks say.
    pub async fn document(mut self, limit: u64) -> Result<Bytes> {
        if self.length > limit {
            return Err(Error::new(
                Code::EntityTooLarge,
                format!("This request's body may have at most {limit} bytes, and it has {}.", self.length),
            ));
        }
        let mut document = Vec::with_capacity(self.length as usize);
        while let Some(piece) = self.advance().await? {
            document.extend_from_slice(&piece);
        }
        Ok(document.into())
    }

    /// As a body, whose last piece comes when all checks have passed.
    pub fn into_body(self) -> ByteBody {
        from_source((self, None), |(mut source, mut held)| async move {
            while let Some(piece) = source.next().await? {
                if let Some(earlier) = held.replace(piece) {
                    return Ok(Some((earlier, (source, held))));
                }
            }
            Ok::<_, Failed>(held.take().map(|last| (last, (source, held))))
        })
    }

    /// The same with the error itself.
    pub(super) async fn advance(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let piece = self.plaintext().await?;
        match &piece {
            Some(piece) => self.take_in(piece)?,
            None => {
                self.check_end()?;
                self.ended = true;
            }
        }
        Ok(piece)
    }

    /// The next piece of plaintext, unchecked and never empty.
    async fn plaintext(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                if let Some(piece) = decoder.feed(&mut self.raw)? {
                    return Ok(Some(piece));
                }
            } else if !self.raw.is_empty() {
                return Ok(Some(std::mem::take(&mut self.raw)));
            }
            match self.frame().await? {
                Some(raw) => self.raw = raw,
                None => return Ok(None),
            }
        }
    }

    async fn frame(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.idle, self.body.frame()).await.map_err(|_| {
                Error::new(
                    Code::RequestTimeout,
                    "Your socket connection was not read from or written to within the timeout period. Send the body \
                     without pauses.",
                )
            })?;
            match frame {
                None => return Ok(None),
                // Trailers of HTTP itself say nothing in S3.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
                Some(Err(why)) => return Err(incomplete().caused_by(why)),
            }
        }
    }

    fn take_in(&mut self, piece: &[u8]) -> Result<()> {
        self.seen += piece.len() as u64;
        if self.seen > self.length {
            return Err(incomplete());
        }
        if let Some((context, _)) = &mut self.sha256 {
            context.update(piece);
        }
        if let Some((hasher, _)) = &mut self.md5 {
            hasher.update(piece);
        }
        for hasher in &mut self.hashers {
            hasher.update(piece);
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<()> {
        // The decoder speaks first: a bad chunk signature says more than a body cut short by it.
        let trailer =
            self.decoder.take().map(Decoder::finish).transpose()?.and_then(|trailers| trailers.checksum);
        if self.seen != self.length {
            return Err(incomplete());
        }
        if let Some((context, expected)) = self.sha256.take()
            && !bool::from(context.finish().as_ref().ct_eq(&expected))
        {
            return Err(Error::new(
                Code::XAmzContentSHA256Mismatch,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ));
        }
        if let Some((hasher, expected)) = self.md5.take()
            && hasher.finalize().as_slice() != expected
        {
            return Err(Error::new(
                Code::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        let sums: Vec<Checksum> = self.hashers.drain(..).map(Hasher::finish).collect();
        let client = match self.claimed.take() {
            None => None,
            Some((algorithm, value)) => Some(compare(algorithm, value.or(trailer), &sums)?),
        };
        let crc64 = sums.into_iter().next().expect("the first hasher is CRC-64/NVME");
        self.outcome.0.sums.set(Sums { crc64, client }).expect("the end is checked once");
        Ok(())
    }
}

fn compare(algorithm: Algorithm, claimed: Option<Checksum>, sums: &[Checksum]) -> Result<Checksum> {
    let computed = sums.iter().find(|sum| sum.algorithm() == algorithm).expect("a hasher was made for it");
    if claimed.as_ref() == Some(computed) {
        return Ok(computed.clone());
    }
    let name = algorithm.header();
    Err(Error::new(
        Code::BadDigest,
        match claimed {
            Some(_) => format!("The {name} you specified did not match what we received."),
            None => format!("The trailer {name} that x-amz-trailer announced did not come."),
        },
    ))
}

fn incomplete() -> Error {
    Error::new(
        Code::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

impl Outcome {
    fn fail(&self, error: Error) {
        *self.0.failure.lock().expect("no code panics while it holds this lock") = Some(error);
    }

    /// The failed check, if one failed. It outranks whatever became of the request to the store.
    pub fn take_failure(&self) -> Option<Error> {
        self.0.failure.lock().expect("no code panics while it holds this lock").take()
    }

    /// What was computed, once the body has passed.
    pub fn sums(&self) -> Option<&Sums> {
        self.0.sums.get()
    }
}

/// The body failed a check; the error itself is in its outcome.
#[derive(Debug, thiserror::Error)]
#[error("the client's body failed a check: {}", .0.as_str())]
pub struct Failed(Code);

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked")
            .field("length", &self.length)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
