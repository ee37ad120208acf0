//! The checksums of S3: names, incremental computation, base64 form.
//!
//! Source: Amazon S3 User Guide, "Checking object integrity"; CRC parameters: RFC 3720 (CRC-32C), NVMe base
//! specification (CRC-64/NVME).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;

/// A checksum algorithm that a client may send with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5.
    Md5,
    /// XXH64.
    Xxhash64,
    /// XXH3, 64 bits.
    Xxhash3,
    /// XXH3, 128 bits.
    Xxhash128,
}

/// The wire forms of each algorithm, in one table: header, XML element, length in bytes.
const FORMS: [(Algorithm, &str, &str, usize); 10] = [
    (Algorithm::Crc32, "x-amz-checksum-crc32", "ChecksumCRC32", 4),
    (Algorithm::Crc32c, "x-amz-checksum-crc32c", "ChecksumCRC32C", 4),
    (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME", 8),
    (Algorithm::Sha1, "x-amz-checksum-sha1", "ChecksumSHA1", 20),
    (Algorithm::Sha256, "x-amz-checksum-sha256", "ChecksumSHA256", 32),
    (Algorithm::Sha512, "x-amz-checksum-sha512", "ChecksumSHA512", 64),
    (Algorithm::Md5, "x-amz-checksum-md5", "ChecksumMD5", 16),
    (Algorithm::Xxhash64, "x-amz-checksum-xxhash64", "ChecksumXXHASH64", 8),
    (Algorithm::Xxhash3, "x-amz-checksum-xxhash3", "ChecksumXXHASH3", 8),
    (Algorithm::Xxhash128, "x-amz-checksum-xxhash128", "ChecksumXXHASH128", 16),
];

impl Algorithm {
    /// Every algorithm.
    pub fn all() -> impl Iterator<Item = Algorithm> {
        FORMS.iter().map(|form| form.0)
    }

    fn form(self) -> (&'static str, &'static str, usize) {
        let (_, header, element, len) =
            FORMS.iter().find(|form| form.0 == self).expect("the table has every algorithm");
        (header, element, *len)
    }

    /// The request and response header, `x-amz-checksum-...`.
    pub fn header(self) -> HeaderName {
        HeaderName::from_static(self.form().0)
    }

    /// The element in XML, `ChecksumCRC32` and so on.
    pub fn element(self) -> &'static str {
        self.form().1
    }

    /// The algorithm that a header name stands for, in any case.
    pub fn from_header(name: &str) -> Option<Self> {
        FORMS.iter().find(|form| form.1.eq_ignore_ascii_case(name)).map(|form| form.0)
    }

    /// Length of the value in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a length of a kind of value, not of a collection")]
    pub fn len(self) -> usize {
        self.form().2
    }
}

/// A checksum value of a known algorithm, of the right length.
#[derive(Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    value: Vec<u8>,
}

impl Checksum {
    /// From raw bytes; `None` if the length is not the algorithm's.
    pub fn new(algorithm: Algorithm, value: &[u8]) -> Option<Self> {
        (value.len() == algorithm.len()).then(|| Self { algorithm, value: value.to_vec() })
    }

    /// From the base64 form of a header or trailer; `None` if it is not one.
    pub fn parse(algorithm: Algorithm, base64: &str) -> Option<Self> {
        Self::new(algorithm, &STANDARD.decode(base64.trim()).ok()?)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The value as S3 writes it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.value)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.algorithm, self.to_base64())
    }
}

/// Computes a checksum piece by piece.
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    Crc(crc_fast::Digest),
    Sha(aws_lc_rs::digest::Context),
    Md5(md5::Md5),
    Xxhash64(twox_hash::XxHash64),
    Xxhash3(twox_hash::XxHash3_64),
    Xxhash128(Box<twox_hash::XxHash3_128>),
}

impl Hasher {
    /// A fresh computation.
    pub fn new(algorithm: Algorithm) -> Self {
        use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
        use crc_fast::{CrcAlgorithm, Digest};
        let state = match algorithm {
            Algorithm::Crc32 => State::Crc(Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            Algorithm::Crc32c => State::Crc(Digest::new(CrcAlgorithm::Crc32Iscsi)),
            Algorithm::Crc64Nvme => State::Crc(Digest::new(CrcAlgorithm::Crc64Nvme)),
            Algorithm::Sha1 => State::Sha(Context::new(&SHA1_FOR_LEGACY_USE_ONLY)),
            Algorithm::Sha256 => State::Sha(Context::new(&SHA256)),
            Algorithm::Sha512 => State::Sha(Context::new(&SHA512)),
            Algorithm::Md5 => State::Md5(md5::Md5::default()),
            Algorithm::Xxhash64 => State::Xxhash64(twox_hash::XxHash64::with_seed(0)),
            Algorithm::Xxhash3 => State::Xxhash3(twox_hash::XxHash3_64::new()),
            Algorithm::Xxhash128 => State::Xxhash128(Box::new(twox_hash::XxHash3_128::new())),
        };
        Self { algorithm, state }
    }

    /// The checksum of bytes that are all there.
    pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(digest) => digest.update(bytes),
            State::Sha(context) => context.update(bytes),
            State::Md5(digest) => md5::Digest::update(digest, bytes),
            State::Xxhash64(hash) => std::hash::Hasher::write(hash, bytes),
            State::Xxhash3(hash) => std::hash::Hasher::write(hash, bytes),
            State::Xxhash128(hash) => hash.write(bytes),
        }
    }

    /// The checksum of all bytes so far.
    pub fn finish(self) -> Checksum {
        let algorithm = self.algorithm;
        let value = match self.state {
            State::Crc(digest) => digest.finalize().to_be_bytes()[8 - algorithm.len()..].to_vec(),
            State::Sha(context) => context.finish().as_ref().to_vec(),
            State::Md5(digest) => md5::Digest::finalize(digest).to_vec(),
            // xxHash's canonical form is big-endian.
            State::Xxhash64(hash) => std::hash::Hasher::finish(&hash).to_be_bytes().to_vec(),
            State::Xxhash3(hash) => std::hash::Hasher::finish(&hash).to_be_bytes().to_vec(),
            State::Xxhash128(hash) => hash.finish_128().to_be_bytes().to_vec(),
        };
        Checksum { algorithm, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values for "123456789": of the CRC catalogue, sha*sum, md5sum, xxhsum.
    #[test]
    fn known_values() {
        let expected = [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
            (
                Algorithm::Sha512,
                "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455\
                 b6b5bb503acf574fba8ffe85",
            ),
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
            (Algorithm::Xxhash64, "8cb841db40e6ae83"),
            (Algorithm::Xxhash3, "72dcb18b67a17dff"),
            (Algorithm::Xxhash128, "33119477ede5dcd5e9716427681d5860"),
        ];
        for (algorithm, hex) in expected {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"1234");
            hasher.update(b"56789");
            let sum = hasher.finish();
            assert_eq!(hex::encode(sum.value()), hex);
            assert_eq!(Checksum::parse(algorithm, &sum.to_base64()), Some(sum));
        }
    }

    #[test]
    fn a_value_of_another_length_is_none() {
        assert!(Checksum::parse(Algorithm::Crc32, "AAAAAAA=").is_none());
        assert!(Checksum::parse(Algorithm::Crc32, "no base64!").is_none());
    }
}
