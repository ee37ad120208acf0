//! The keys, and every derivation of one from another.
//!
//! All are 32 bytes, zeroized when dropped, printed as `***`, and never cloned; what may seal only once is moved.
//! HKDF is RFC 5869 with SHA-256; AES-256-GCM is NIST SP 800-38D. `docs/format.md`, "Keys".

use std::fmt;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::error::Error;
use super::header::{Header, VERSION};

/// Bytes of every key.
pub(super) const KEY_LEN: usize = 32;
/// Bytes of an OEK sealed under a KEK: the key, then the tag.
pub(super) const SEALED_OEK_LEN: usize = KEY_LEN + 16;
/// Bytes of a trailer before it is sealed.
pub(super) const TRAILER_PLAIN_LEN: usize = 48;
/// Bytes of a sealed trailer: the trailer, then the tag.
pub(super) const TRAILER_SEALED_LEN: usize = TRAILER_PLAIN_LEN + 16;

/// Where an object lives. Exact bytes, decoded and never normalised: moved anywhere else, an object does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The object's key.
    pub key: &'a str,
}

macro_rules! keys {
    ($( $(#[$doc:meta])* $visible:vis $name:ident; )*) => { $(
        $(#[$doc])*
        #[derive(ZeroizeOnDrop)]
        $visible struct $name([u8; KEY_LEN]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }
    )* };
}

keys! {
    /// A data encryption key, as a KMS hands it out. Shared by many objects.
    pub Dek;
    /// The key that seals one OEK.
    pub(super) Kek;
    /// The object encryption key, random for each object.
    pub(super) Oek;
    /// The key of the chunks of a stream or a part.
    pub(super) BodyKey;
    /// The key of a stream's trailer.
    pub(super) TrailerKey;
    /// The key of a composite object's manifest.
    pub(super) ManifestKey;
}

impl From<[u8; KEY_LEN]> for Dek {
    fn from(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }
}

impl Dek {
    /// Whether another DEK has the same bytes, compared in constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The bytes in base64, for `s3veil key dek`, which is there to show them.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.0))
    }
}

impl TryFrom<&[u8]> for Dek {
    type Error = Error;

    /// # Errors
    ///
    /// [`Error::Misuse`] if the slice is not of 32 bytes.
    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::Misuse("a DEK is 32 bytes"))
    }
}

impl Kek {
    /// `KEK = HKDF(ikm = DEK, salt = object salt, info = "s3veil/v1/kek" ‖ context)`
    pub(super) fn derive(dek: &Dek, salt: &[u8; 32], header: &Header, place: Place<'_>) -> Self {
        let mut key = Self([0; KEY_LEN]);
        Hkdf::<Sha256>::new(Some(salt), &dek.0)
            .expand_multi_info(&[b"s3veil/v1/kek", &context(header, place)], &mut key.0)
            .expect("32 bytes are less than HKDF's limit");
        key
    }

    /// `sealed OEK = AES-256-GCM(KEK, nonce = 0, aad = envelope header, OEK)`. The KEK seals nothing else, for its
    /// salt is fresh: hence the fixed nonce.
    pub(super) fn seal(self, header: &[u8], oek: &Oek) -> [u8; SEALED_OEK_LEN] {
        let mut sealed = [0; SEALED_OEK_LEN];
        sealed[..KEY_LEN].copy_from_slice(&oek.0);
        seal_once(&self.0, header, &mut sealed);
        sealed
    }

    /// The inverse of [`Kek::seal`]. What comes out still has to match its commitment.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if the key, the header or the sealed OEK is another.
    pub(super) fn open(self, header: &[u8], sealed: &[u8; SEALED_OEK_LEN]) -> Result<Oek, Error> {
        let mut opened = Zeroizing::new(*sealed);
        let key = open_once(&self.0, header, opened.as_mut_slice())?;
        Ok(Oek(key.try_into().expect("the tag is cut off")))
    }
}

impl Oek {
    /// A fresh key.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] if the operating system gives no random bytes.
    pub(super) fn random() -> Result<Self, Error> {
        let mut key = Self([0; KEY_LEN]);
        getrandom::fill(&mut key.0).map_err(|_| Error::Random)?;
        Ok(key)
    }

    /// `commitment = HKDF-Expand(OEK, "s3veil/v1/commit")`: AES-GCM alone does not commit to its key, so that one
    /// ciphertext can be made to open under two (Dodis et al., "Fast Message Franking", 2019/016).
    pub(super) fn commitment(&self) -> [u8; 32] {
        let mut commitment = [0; 32];
        self.expand(b"s3veil/v1/commit", &mut commitment);
        commitment
    }

    /// True if this key is the one committed to. Takes the same time either way.
    pub(super) fn matches(&self, commitment: &[u8; 32]) -> bool {
        self.commitment().ct_eq(commitment).into()
    }

    /// `body key = HKDF-Expand(OEK, "s3veil/v1/stream")`
    pub(super) fn body_key(&self) -> BodyKey {
        let mut key = BodyKey([0; KEY_LEN]);
        self.expand(b"s3veil/v1/stream", &mut key.0);
        key
    }

    /// `trailer key = HKDF-Expand(OEK, "s3veil/v1/trailer")`
    pub(super) fn trailer_key(&self) -> TrailerKey {
        let mut key = TrailerKey([0; KEY_LEN]);
        self.expand(b"s3veil/v1/trailer", &mut key.0);
        key
    }

    /// `part key = HKDF(ikm = OEK, salt = part salt, info = "s3veil/v1/part" ‖ be32(number))`. The salt is fresh each
    /// time that a part is sent, so that no key and nonce ever meet two plaintexts.
    pub(super) fn part_key(&self, salt: &[u8; 32], number: u16) -> BodyKey {
        let mut key = BodyKey([0; KEY_LEN]);
        self.extract(salt, &[b"s3veil/v1/part", &u32::from(number).to_be_bytes()], &mut key.0);
        key
    }

    /// `manifest key = HKDF(ikm = OEK, salt = manifest salt, info = "s3veil/v1/manifest")`
    pub(super) fn manifest_key(&self, salt: &[u8; 32]) -> ManifestKey {
        let mut key = ManifestKey([0; KEY_LEN]);
        self.extract(salt, &[b"s3veil/v1/manifest"], &mut key.0);
        key
    }

    fn extract(&self, salt: &[u8; 32], info: &[&[u8]], out: &mut [u8; 32]) {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), &self.0);
        hkdf.expand_multi_info(info, out).expect("32 bytes are less than HKDF's limit");
    }

    /// The OEK is uniformly random, so it needs no extraction (RFC 5869, section 3.3).
    fn expand(&self, label: &[u8], out: &mut [u8; 32]) {
        let hkdf = Hkdf::<Sha256>::from_prk(&self.0).expect("the key is as long as the hash");
        hkdf.expand(label, out).expect("32 bytes are less than HKDF's limit");
    }
}

impl BodyKey {
    /// The key schedule, made once for a body.
    pub(super) fn schedule(self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("the key is of AES-256's size"))
    }
}

impl TrailerKey {
    /// `AES-256-GCM(trailer key, nonce = 0, aad, trailer)`. The key seals nothing else.
    pub(super) fn seal(self, aad: &[u8], trailer: &[u8; TRAILER_PLAIN_LEN]) -> [u8; TRAILER_SEALED_LEN] {
        let mut sealed = [0; TRAILER_SEALED_LEN];
        sealed[..TRAILER_PLAIN_LEN].copy_from_slice(trailer);
        seal_once(&self.0, aad, &mut sealed);
        sealed
    }

    /// The inverse of [`TrailerKey::seal`].
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if the key, the associated data or the sealed trailer is another.
    pub(super) fn open(self, aad: &[u8], sealed: &[u8]) -> Result<[u8; TRAILER_PLAIN_LEN], Error> {
        let mut opened: [u8; TRAILER_SEALED_LEN] = sealed.try_into().map_err(|_| Error::Tampered)?;
        let trailer = open_once(&self.0, aad, &mut opened)?;
        Ok(trailer.try_into().expect("the tag is cut off"))
    }
}

impl ManifestKey {
    /// Seals all but the last 16 bytes in place, which become the tag. The key seals nothing else.
    pub(super) fn seal(self, aad: &[u8], message: &mut [u8]) {
        seal_once(&self.0, aad, message);
    }

    /// Opens in place what [`ManifestKey::seal`] sealed, and gives the plaintext.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if the key, the associated data or the message is another.
    pub(super) fn open<'m>(self, aad: &[u8], message: &'m mut [u8]) -> Result<&'m [u8], Error> {
        open_once(&self.0, aad, message)
    }
}

/// What a KEK is bound to, in a form that no other values share:
/// `version ‖ layout ‖ f(KMS) ‖ f(EK) ‖ o(EK version) ‖ f(bucket) ‖ f(key) ‖ o(context digest)`.
///
/// `f(x)` is the length of `x` as a big-endian u32 and then `x`; `o(x)` is `00`, or `01 ‖ f(x)` if there is an `x`.
fn context(header: &Header, place: Place<'_>) -> Vec<u8> {
    let mut out = vec![VERSION, header.layout_id()];
    field(&mut out, header.kms.as_bytes());
    field(&mut out, header.ek.as_bytes());
    optional(&mut out, header.ek_version.as_ref().map(String::as_bytes));
    field(&mut out, place.bucket.as_bytes());
    field(&mut out, place.key.as_bytes());
    optional(&mut out, header.context.as_ref().map(<[u8; 32]>::as_slice));
    out
}

fn field(out: &mut Vec<u8>, value: &[u8]) {
    let len = u32::try_from(value.len()).expect("names are shorter than 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

fn optional(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        field(out, value);
    }
}

/// Seals all but the last 16 bytes in place, which become the tag. The nonce is zero: one key, one
/// message.
fn seal_once(key: &[u8; KEY_LEN], aad: &[u8], message: &mut [u8]) {
    let (text, tag) = message.split_at_mut(message.len() - 16);
    let made = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&Nonce::default(), aad, InOutBuf::from(text))
        .expect("the message is far shorter than GCM's limit");
    tag.copy_from_slice(&made);
}

/// Opens in place what [`seal_once`] sealed, and gives the plaintext.
fn open_once<'m>(key: &[u8; KEY_LEN], aad: &[u8], message: &'m mut [u8]) -> Result<&'m [u8], Error> {
    let (text, tag) = message.split_at_mut(message.len().checked_sub(16).ok_or(Error::Tampered)?);
    let tag = Tag::try_from(&*tag).expect("the tag is the last 16 bytes");
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(&Nonce::default(), aad, InOutBuf::from(&mut *text), &tag)
        .map_err(|_| Error::Tampered)?;
    Ok(text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Dek, Kek, Oek, Place, context};
    use crate::seal::header::{Header, Sse};
    use crate::seal::len::Layout;

    /// An OEK of known bytes.
    pub(in crate::seal) fn oek(bytes: [u8; 32]) -> Oek {
        Oek(bytes)
    }

    fn header() -> Header {
        Header {
            layout: Layout::Composite,
            kms: "k".into(),
            ek: "ek".into(),
            ek_version: None,
            wrapped_dek: vec![1],
            sse: Sse::Kms,
            context: None,
        }
    }

    /// The example of `docs/format.md`.
    #[test]
    fn the_context_is_length_prefixed() {
        let place = Place { bucket: "b", key: "é" };
        let hex = "0102000000016b00000002656b00000000016200000002c3a900";
        assert_eq!(hex::encode(context(&header(), place)), hex);
        let versioned = Header { ek_version: Some("7".into()), context: Some([9; 32]), ..header() };
        assert!(
            hex::encode(context(&versioned, place))
                .starts_with("0102000000016b00000002656b01000000013700000001")
        );
    }

    #[test]
    fn fields_cannot_run_into_each_other() {
        let one = context(&header(), Place { bucket: "ab", key: "c" });
        let other = context(&header(), Place { bucket: "a", key: "bc" });
        assert_ne!(one, other);
    }

    #[test]
    fn a_key_opens_only_with_its_header() {
        let place = Place { bucket: "b", key: "k" };
        let kek = || Kek::derive(&Dek::from([3; 32]), &[4; 32], &header(), place);
        let sealed = kek().seal(b"header", &oek([5; 32]));
        assert_eq!(kek().open(b"header", &sealed).unwrap().0, [5; 32]);
        assert!(kek().open(b"hexder", &sealed).is_err());
    }

    #[test]
    fn keys_print_as_stars_and_have_one_length() {
        assert_eq!(format!("{:?}", Dek::from([7; 32])), "Dek(***)");
        assert!(Dek::try_from(&[0; 31][..]).is_err());
    }
}
