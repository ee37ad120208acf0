//! The trailer of a stream: what is known only after the last plaintext byte.
//!
//! `CRC-64/NVME (8) ‖ algorithm (1) ‖ value (32, zero padded) ‖ zero (7)`, 48 bytes, sealed to 64 with the plaintext
//! length as associated data. `docs/format.md`, "Trailer".

use super::error::Error;
use super::key::{TRAILER_PLAIN_LEN, TRAILER_SEALED_LEN, TrailerKey};
use super::len::PlainLen;

/// Where the client's value begins in the trailer, and the most bytes it may have.
const VALUE: usize = 9;
const VALUE_MAX: usize = 32;

/// The checksums of a plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// CRC-64/NVME of the plaintext, always there.
    pub crc64: u64,
    /// The checksum that the client sent, if it sent one.
    pub client: Option<ClientSum>,
}

/// A checksum that a client sent, of the length that its algorithm has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSum {
    algorithm: SumAlgorithm,
    /// Zero after the algorithm's length.
    value: [u8; VALUE_MAX],
}

/// The algorithm of a [`ClientSum`]. The numbers are those of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes.
    Crc32 = 1,
    /// CRC-32C (Castagnoli), 4 bytes.
    Crc32c = 2,
    /// CRC-64/NVME, 8 bytes.
    Crc64Nvme = 3,
    /// SHA-1, 20 bytes.
    Sha1 = 4,
    /// SHA-256, 32 bytes.
    Sha256 = 5,
    /// MD5, 16 bytes.
    Md5 = 6,
    /// XXH64, 8 bytes.
    Xxhash64 = 7,
    /// XXH3 of 64 bits, 8 bytes.
    Xxhash3 = 8,
    /// XXH3 of 128 bits, 16 bytes.
    Xxhash128 = 9,
}

impl Trailer {
    /// The sealed trailer of a stream of this plaintext length.
    pub(super) fn seal(&self, key: TrailerKey, length: PlainLen) -> [u8; TRAILER_SEALED_LEN] {
        key.seal(&length.get().to_be_bytes(), &self.encode())
    }

    /// The inverse of [`Trailer::seal`].
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if the bytes are not the trailer of this stream.
    pub(super) fn open(key: TrailerKey, length: PlainLen, sealed: &[u8]) -> Result<Self, Error> {
        Self::decode(&key.open(&length.get().to_be_bytes(), sealed)?).ok_or(Error::Tampered)
    }

    fn encode(&self) -> [u8; TRAILER_PLAIN_LEN] {
        let mut out = [0; TRAILER_PLAIN_LEN];
        out[..8].copy_from_slice(&self.crc64.to_be_bytes());
        if let Some(sum) = &self.client {
            out[8] = sum.algorithm as u8;
            out[VALUE..VALUE + VALUE_MAX].copy_from_slice(&sum.value);
        }
        out
    }

    fn decode(bytes: &[u8; TRAILER_PLAIN_LEN]) -> Option<Self> {
        let crc64 = u64::from_be_bytes(*bytes.first_chunk()?);
        let client = match bytes[8] {
            0 => None,
            id => {
                let algorithm = SumAlgorithm::from_id(id)?;
                Some(ClientSum::new(algorithm, &bytes[VALUE..VALUE + algorithm.value_len()])?)
            }
        };
        let trailer = Self { crc64, client };
        // Padding and reserved bytes are zero: there is one form of each trailer.
        (trailer.encode() == *bytes).then_some(trailer)
    }
}

impl ClientSum {
    /// A checksum from its raw bytes; `None` if they are not as many as the algorithm has.
    pub fn new(algorithm: SumAlgorithm, value: &[u8]) -> Option<Self> {
        let mut padded = [0; VALUE_MAX];
        padded.get_mut(..value.len())?.copy_from_slice(value);
        (value.len() == algorithm.value_len()).then_some(Self { algorithm, value: padded })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> SumAlgorithm {
        self.algorithm
    }

    /// The raw bytes.
    pub fn value(&self) -> &[u8] {
        &self.value[..self.algorithm.value_len()]
    }
}

impl SumAlgorithm {
    /// Every algorithm, in the order of the format's numbers.
    pub const ALL: [Self; 9] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Md5,
        Self::Xxhash64,
        Self::Xxhash3,
        Self::Xxhash128,
    ];

    /// The bytes that a value of this algorithm has.
    pub fn value_len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme | Self::Xxhash64 | Self::Xxhash3 => 8,
            Self::Md5 | Self::Xxhash128 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub(super) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| *algorithm as u8 == id)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientSum, SumAlgorithm, Trailer};
    use crate::seal::error::Error;
    use crate::seal::key::tests::oek;
    use crate::seal::len::PlainLen;

    fn length(bytes: u64) -> PlainLen {
        PlainLen::new(bytes).unwrap()
    }

    #[test]
    fn every_algorithm_comes_back() {
        let sums = SumAlgorithm::ALL.map(|a| ClientSum::new(a, &vec![0xab; a.value_len()]));
        for client in sums.into_iter().chain([None]) {
            let trailer = Trailer { crc64: 0x0102_0304_0506_0708, client };
            let sealed = trailer.seal(oek([1; 32]).trailer_key(), length(5));
            assert_eq!(Trailer::open(oek([1; 32]).trailer_key(), length(5), &sealed), Ok(trailer));
        }
    }

    #[test]
    fn another_length_or_key_does_not_open_it() {
        let sealed = Trailer { crc64: 1, client: None }.seal(oek([1; 32]).trailer_key(), length(5));
        let open = |key, len, bytes: &[u8]| Trailer::open(oek(key).trailer_key(), length(len), bytes);
        assert_eq!(open([1; 32], 6, &sealed), Err(Error::Tampered));
        assert_eq!(open([2; 32], 5, &sealed), Err(Error::Tampered));
        assert_eq!(open([1; 32], 5, &sealed[..63]), Err(Error::Tampered));
    }

    #[test]
    fn there_is_one_form_of_each_trailer() {
        let client = ClientSum::new(SumAlgorithm::Crc32, &[1, 2, 3, 4]);
        let good = Trailer { crc64: 1, client }.encode();
        assert!(Trailer::decode(&good).is_some());
        for at in [8, 13, 40, 41, 47] {
            let mut bad = good;
            bad[at] ^= 0x80;
            assert_eq!(Trailer::decode(&bad), None, "{at}");
        }
        let mut none = Trailer { crc64: 1, client: None }.encode();
        none[9] = 1;
        assert_eq!(Trailer::decode(&none), None);
    }

    #[test]
    fn a_value_of_another_length_is_none() {
        assert_eq!(ClientSum::new(SumAlgorithm::Crc32, &[0; 5]), None);
        assert_eq!(ClientSum::new(SumAlgorithm::Sha256, &[0; 33]), None);
    }
}
