//! An EK at work: seals and opens a DEK exactly as MinIO KES does.
//!
//! ```text
//! sealed = ciphertext ‖ tag[16] ‖ iv[16] ‖ nonce[12]
//! AES256:   ciphertext ‖ tag = AES-256-GCM(HMAC-SHA256(key, iv), nonce, plaintext, aad)
//! ChaCha20: ciphertext ‖ tag = ChaCha20-Poly1305(HChaCha20(key, iv), nonce, plaintext, aad)
//! ```
//!
//! A random 128-bit IV gives each message its own key, so one EK may seal any number of DEKs. Source: minio/kes,
//! `internal/crypto/key.go`; the vectors below are from its tests. KES's older ciphertexts (JSON and MessagePack) hold
//! the same fields in another order; no s3veil object was ever sealed with one, so they are not read.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use chacha20::R20;
use chacha20poly1305::ChaCha20Poly1305;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::random;

const IV_LEN: usize = 16;
const NONCE_LEN: usize = 12;

/// Which cipher an EK is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kms) enum Cipher {
    /// AES-256-GCM, under a key derived by HMAC-SHA256. What s3veil creates.
    Aes256,
    /// ChaCha20-Poly1305, under a key derived by HChaCha20. Made by a KES without AES hardware.
    ChaCha20,
}

/// An EK's 32 bytes and their cipher.
pub(in crate::kms) struct SecretKey {
    pub(in crate::kms) cipher: Cipher,
    pub(in crate::kms) bytes: Zeroizing<[u8; 32]>,
}

impl SecretKey {
    /// A new random key.
    pub(super) fn generate() -> Self {
        Self { cipher: Cipher::Aes256, bytes: random() }
    }

    /// Seals under a fresh IV and nonce.
    pub(in crate::kms) fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        let iv = random::<IV_LEN>();
        let nonce = random::<NONCE_LEN>();
        let payload = Payload { msg: plaintext, aad };
        let sealed = match self.cipher {
            Cipher::Aes256 => self.aes(&iv).encrypt(&(*nonce).into(), payload),
            Cipher::ChaCha20 => self.chacha(&iv).encrypt(&(*nonce).into(), payload),
        };
        let mut sealed = sealed.expect("a DEK is far below the ciphers' limit of 64 GiB");
        sealed.extend_from_slice(&*iv);
        sealed.extend_from_slice(&*nonce);
        sealed
    }

    /// Opens what [`seal`](Self::seal) sealed with the same key and associated data.
    pub(in crate::kms) fn open(&self, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (rest, nonce) = sealed.split_last_chunk::<NONCE_LEN>()?;
        let (msg, iv) = rest.split_last_chunk::<IV_LEN>()?;
        let payload = Payload { msg, aad };
        let opened = match self.cipher {
            Cipher::Aes256 => self.aes(iv).decrypt(&(*nonce).into(), payload),
            Cipher::ChaCha20 => self.chacha(iv).decrypt(&(*nonce).into(), payload),
        };
        opened.ok().map(Zeroizing::new)
    }

    fn aes(&self, iv: &[u8; IV_LEN]) -> Aes256Gcm {
        let mut prf =
            Hmac::<Sha256>::new_from_slice(self.bytes.as_slice()).expect("HMAC takes a key of any length");
        prf.update(iv);
        let derived = Zeroizing::new(<[u8; 32]>::from(prf.finalize().into_bytes()));
        Aes256Gcm::new((&*derived).into())
    }

    fn chacha(&self, iv: &[u8; IV_LEN]) -> ChaCha20Poly1305 {
        let derived =
            Zeroizing::new(<[u8; 32]>::from(chacha20::hchacha::<R20>((&*self.bytes).into(), iv.into())));
        ChaCha20Poly1305::new((&*derived).into())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn key(cipher: Cipher, base64: &str) -> SecretKey {
        SecretKey { cipher, bytes: Zeroizing::new(decode(base64).try_into().unwrap()) }
    }

    fn decode(base64: &str) -> Vec<u8> {
        BASE64_STANDARD.decode(base64).unwrap()
    }

    const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const SOME: &str = "dDHbTWgo+Yh3u804SYB5OyVMy6RiLeJYBQth1f6KlEU=";

    /// minio/kes, `internal/crypto/key_test.go`, `secretKeyDecryptTests` 5 to 7.
    #[test]
    fn opens_what_kes_sealed() {
        for (cipher, ek, plaintext, aad, sealed) in [
            (
                Cipher::Aes256,
                ZERO,
                "AAAAAAAAAAAAAAAAAAAAAA==",
                "",
                "zwdDgHeRlIFRnJ7+DIhs/ka7GFK2CFSfDELqg1VCyTQzZ58o7MAdupMLk3ZjlMo2ZUDwldL2o41nAWDc",
            ),
            (
                Cipher::Aes256,
                SOME,
                "CLcJoykFCWZDkEIiUq9bJRqwCwW9ZDvdgu8EMA==",
                "AAAAAAAAAAAAAAAAAAAAAA==",
                "s2gmfQHeGdlyL8x1yEWSACUV3GrSoz3t160hugMgzKWgyqesXDVUJ5Dw5Mt076rR1PNiU9X4YjLH14D8a81t2r2xsz4gVZac",
            ),
            (
                Cipher::ChaCha20,
                SOME,
                "CLcJoykFCWZDkEIiUq9bJRqwCwW9ZDvdgu8EMA==",
                "AAAAAAAAAAAAAAAAAAAAAA==",
                "gO4woRIswAJdjUjW7z2ApsSQxJlwB24yjLrmH4eI7sB0uh5nfEJfk9ybTPFft5FRFaZCVBmzhx7OJs9n0WWtxH3sySIxecIK",
            ),
        ] {
            let opened = key(cipher, ek).open(&decode(sealed), &decode(aad)).expect(sealed);
            assert_eq!(*opened, decode(plaintext));
        }
    }

    #[test]
    fn seals_for_the_same_key_cipher_and_context_only() {
        for cipher in [Cipher::Aes256, Cipher::ChaCha20] {
            let sealed = key(cipher, SOME).seal(&[7; 32], b"context");
            assert_eq!(sealed.len(), 76);
            assert_eq!(*key(cipher, SOME).open(&sealed, b"context").unwrap(), [7; 32]);
            assert!(key(cipher, ZERO).open(&sealed, b"context").is_none());
            assert!(key(cipher, SOME).open(&sealed, b"Context").is_none());
            assert_ne!(key(cipher, SOME).seal(&[7; 32], b"context"), sealed);
            let other = if cipher == Cipher::Aes256 { Cipher::ChaCha20 } else { Cipher::Aes256 };
            assert!(key(other, SOME).open(&sealed, b"context").is_none());
            for len in 0..sealed.len() {
                assert!(key(cipher, SOME).open(&sealed[..len], b"context").is_none(), "cut to {len}");
            }
        }
    }
}
