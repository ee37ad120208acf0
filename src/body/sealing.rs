//! A client's body on its way to the store: gathered into chunks, each sealed in place.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};

use super::checked::{Checked, Failed};
use super::{ByteBody, from_source};
use crate::metrics::CryptoMetrics;
use crate::s3::checksum::{Algorithm, Checksum};
use crate::seal::{self, ClientSum, SealedLen, Sealer, SumAlgorithm, TRAILER_LEN, Trailer};

/// A sealed body, a stream or a part. Its end comes only when every check of the plaintext has passed.
pub struct SealedBody {
    source: Checked,
    length: SealedLen,
    /// Gone once the body's end is written.
    sealer: Option<Sealer>,
    /// Plaintext read that belongs to the next chunk.
    rest: Bytes,
    /// Goes out with the first chunk.
    head: Bytes,
    metrics: CryptoMetrics,
}

impl SealedBody {
    /// Seals what `source` gives with a sealer for the same length.
    pub fn new(source: Checked, sealer: Sealer, metrics: CryptoMetrics) -> Self {
        let (length, head) = (sealer.length(), sealer.head());
        Self { source, length, sealer: Some(sealer), rest: Bytes::new(), head, metrics }
    }

    /// Length in sealed bytes.
    pub fn length(&self) -> SealedLen {
        self.length
    }

    /// As a body.
    pub fn into_body(self) -> ByteBody {
        from_source(
            self,
            |mut body| async move { Ok::<_, Broken>(body.next().await?.map(|piece| (piece, body))) },
        )
    }

    /// The next sealed chunk; the last one with the trailer, if there is one.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some(sealer) = &mut self.sealer else { return Ok(None) };
        let Some(len) = sealer.next_len() else { return Ok(None) };
        let head = std::mem::take(&mut self.head);
        let mut out = BytesMut::with_capacity(head.len() + len + (seal::TAG + TRAILER_LEN) as usize);
        out.extend_from_slice(&head);
        let mut chunk = out.split_off(head.len());
        while chunk.len() < len {
            if self.rest.is_empty() {
                self.rest = self.source.next().await?.ok_or(Broken::Short)?;
            }
            let taken = self.rest.len().min(len - chunk.len());
            chunk.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
        }
        self.metrics.bytes(chunk.len());
        self.metrics.time(|| sealer.seal(&mut chunk))?;
        if sealer.next_len().is_none() {
            // The last chunk of a part leaves only now as well.
            let trailer = self.trailer().await?;
            let sealer = self.sealer.take().expect("seen above");
            if let Some(trailer) = sealer.finish(&trailer)? {
                chunk.extend_from_slice(&trailer);
            }
        }
        out.unsplit(chunk);
        Ok(Some(out.freeze()))
    }

    /// Waits for the source's end, where its last checks are made.
    async fn trailer(&mut self) -> Result<Trailer, Broken> {
        if self.source.next().await?.is_some() {
            return Err(Broken::Long);
        }
        let outcome = self.source.outcome();
        let sums = outcome.sums().ok_or(Broken::Short)?;
        let crc64 = sums.crc64.value().try_into().map(u64::from_be_bytes).expect("a CRC-64 has eight bytes");
        Ok(Trailer { crc64, client: sums.client.as_ref().and_then(client_sum) })
    }
}

/// The client's checksum as the trailer keeps it. SHA-512 is longer than the trailer has room for: it has been
/// verified, and reads give the CRC-64/NVME back instead.
fn client_sum(checksum: &Checksum) -> Option<ClientSum> {
    ClientSum::new(sum_algorithm(checksum.algorithm())?, checksum.value())
}

/// The number that the format has for an algorithm; SHA-512 has none.
pub fn sum_algorithm(algorithm: Algorithm) -> Option<SumAlgorithm> {
    Some(match algorithm {
        Algorithm::Crc32 => SumAlgorithm::Crc32,
        Algorithm::Crc32c => SumAlgorithm::Crc32c,
        Algorithm::Crc64Nvme => SumAlgorithm::Crc64Nvme,
        Algorithm::Sha1 => SumAlgorithm::Sha1,
        Algorithm::Sha256 => SumAlgorithm::Sha256,
        Algorithm::Md5 => SumAlgorithm::Md5,
        Algorithm::Xxhash64 => SumAlgorithm::Xxhash64,
        Algorithm::Xxhash3 => SumAlgorithm::Xxhash3,
        Algorithm::Xxhash128 => SumAlgorithm::Xxhash128,
        Algorithm::Sha512 => return None,
    })
}

/// A checksum that the format keeps; `None` if it is not of its algorithm's length.
pub fn sum_of(kept: SumAlgorithm, value: &[u8]) -> Option<Checksum> {
    let algorithm = Algorithm::all().find(|algorithm| sum_algorithm(*algorithm) == Some(kept))?;
    Checksum::new(algorithm, value)
}

/// The checksum that a trailer gives back: the client's, or else the CRC-64/NVME.
pub fn checksum_of(trailer: &Trailer) -> Checksum {
    let kept = trailer.client.as_ref().and_then(|sum| sum_of(sum.algorithm(), sum.value()));
    kept.unwrap_or_else(|| {
        Checksum::new(Algorithm::Crc64Nvme, &trailer.crc64.to_be_bytes()).expect("a CRC-64 has eight bytes")
    })
}

/// Why a sealed body breaks off. The store then has less than was announced, and stores nothing.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(transparent)]
    Seal(#[from] seal::Error),
    #[error("the body ended before its length")]
    Short,
    #[error("the body is longer than its length")]
    Long,
}

impl fmt::Debug for SealedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBody").field("length", &self.length).finish_non_exhaustive()
    }
}
