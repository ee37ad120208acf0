//! The envelope: the record in an object's metadata that leads, with a DEK, to the object's key.
//!
//! Base64url of `[header, sealed OEK, commitment]` in CBOR. [`Envelope`] is what was read and is not yet believed;
//! only [`Opened`] yields keys. `docs/format.md`, "Envelope".

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decoder, Encoder};

use super::error::Error;
use super::header::{Header, array};
use super::key::{Dek, Kek, Oek, Place, SEALED_OEK_LEN};
use super::len::{Layout, PlainLen, SealedLen};
use super::manifest::{Block, Manifest};
use super::opener::Opener;
use super::part::{PartNumber, PartSalt};
use super::range::PlainRange;
use super::sealer::Sealer;
use super::trailer::Trailer;

/// The most base64 characters of an envelope.
const TEXT_MAX: usize = 4096;

/// The record of an object's key, as read or as made. Nothing in it is to be believed before [`Envelope::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    header: Header,
    salt: [u8; 32],
    sealed_oek: [u8; SEALED_OEK_LEN],
    commitment: [u8; 32],
}

/// The key of an object that is about to be written: yields one [`Sealer`].
#[derive(Debug)]
pub struct Fresh {
    oek: Oek,
    layout: Layout,
}

/// The key and the header of a stored object, tag and commitment checked.
#[derive(Debug)]
pub struct Opened {
    oek: Oek,
    header: Header,
}

impl Envelope {
    /// A new object's envelope, with a random key under a KEK that only this DEK, header and place give.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] without random bytes; [`Error::Misuse`] if a field of the header is longer than the format
    /// allows.
    pub fn seal(header: Header, dek: &Dek, place: Place<'_>) -> Result<(Self, Fresh), Error> {
        let fresh = Fresh { oek: Oek::random()?, layout: header.layout };
        let envelope = Self::wrap(header, &fresh.oek, dek, place)?;
        Ok((envelope, fresh))
    }

    /// The key of this envelope's object.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if the envelope was altered or belongs to another place, or the DEK is another.
    pub fn open(&self, dek: &Dek, place: Place<'_>) -> Result<Opened, Error> {
        let kek = Kek::derive(dek, &self.salt, &self.header, place);
        let oek = kek.open(&self.header.encode(&self.salt), &self.sealed_oek)?;
        let committed = oek.matches(&self.commitment);
        if committed { Ok(Opened { oek, header: self.header.clone() }) } else { Err(Error::Tampered) }
    }

    /// What the envelope says of its object, not yet believed: for a read, only where to ask for the DEK.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the object's key is known by, without leading to it. The same in every copy of the object.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Reads the text that [`Envelope::encode`] made, and nothing else: each envelope has one form.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVersion`], or [`Error::NotAnEnvelope`] for any other text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_MAX {
            return Err(Error::NotAnEnvelope);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::NotAnEnvelope)?;
        let mut decoder = Decoder::new(&bytes);
        let items = decoder.array()?;
        let (header, salt) = Header::decode(decoder.bytes()?)?;
        if items != Some(3) {
            return Err(Error::NotAnEnvelope);
        }
        let envelope =
            Self { header, salt, sealed_oek: array(decoder.bytes()?)?, commitment: array(decoder.bytes()?)? };
        // What the decoder lets pass (fields and bytes left over, longer forms, stray bits) shows in the encoding.
        if envelope.encode() == text { Ok(envelope) } else { Err(Error::NotAnEnvelope) }
    }

    /// The text for the metadata, in base64url without padding.
    ///
    /// At most `⌈4n / 3⌉` characters with `n = 151 + k + e + w`, the bytes of the KMS's name, the EK's name and the
    /// wrapped DEK; `4 + v` more with an EK version of `v` bytes, 35 more with a context digest.
    pub fn encode(&self) -> String {
        let mut out = Encoder::new(Vec::with_capacity(512));
        out.array(3)
            .and_then(|out| out.bytes(&self.header.encode(&self.salt)))
            .and_then(|out| out.bytes(&self.sealed_oek))
            .and_then(|out| out.bytes(&self.commitment))
            .expect("a Vec takes every byte");
        URL_SAFE_NO_PAD.encode(out.writer())
    }

    /// An envelope for a key, under a fresh salt.
    fn wrap(header: Header, oek: &Oek, dek: &Dek, place: Place<'_>) -> Result<Self, Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| Error::Random)?;
        Self::wrap_with(header, salt, oek, dek, place)
    }

    /// The same with a given salt, which must never have been used with this DEK.
    pub(super) fn wrap_with(
        header: Header,
        salt: [u8; 32],
        oek: &Oek,
        dek: &Dek,
        place: Place<'_>,
    ) -> Result<Self, Error> {
        if !header.fits() {
            return Err(Error::Misuse("a field of the envelope is empty or too long"));
        }
        let sealed_oek = Kek::derive(dek, &salt, &header, place).seal(&header.encode(&salt), oek);
        Ok(Self { commitment: oek.commitment(), header, salt, sealed_oek })
    }
}

impl Fresh {
    /// The sealer of a stream's body.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the envelope is of a composite object.
    pub fn into_sealer(self) -> Result<Sealer, Error> {
        match self.layout {
            Layout::Stream(length) => Ok(Sealer::stream(&self.oek, length)),
            Layout::Composite => Err(Error::Misuse("a composite object has no stream to seal")),
        }
    }
}

impl Opened {
    /// What the envelope says of its object, now authenticated.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the object's key is known by, without leading to it.
    pub fn commitment(&self) -> [u8; 32] {
        self.oek.commitment()
    }

    /// The layout, and a stream's plaintext length, of an object that the store holds with this size.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if a body of this size can't be the one that was sealed: it was cut, or has grown.
    pub fn layout(&self, stored: SealedLen) -> Result<Layout, Error> {
        let layout = self.header.layout;
        if stored.layout() == Some(layout) { Ok(layout) } else { Err(Error::Tampered) }
    }

    /// The opener for a range of a stream.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the object is composite, or the range was resolved against another length.
    pub fn into_opener(self, range: PlainRange) -> Result<Opener, Error> {
        match self.header.layout {
            Layout::Stream(length) if range.end() <= length.get() => {
                Ok(Opener::stream(&self.oek, length, range))
            }
            Layout::Stream(_) => Err(Error::Misuse("the range is of a longer object")),
            Layout::Composite => Err(Error::Misuse("a composite object has no stream to open")),
        }
    }

    /// Opens the trailer, the last 64 sealed bytes of a stream.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if they are not the trailer of this stream; [`Error::Misuse`] if the object is composite.
    pub fn open_trailer(&self, sealed: &[u8]) -> Result<Trailer, Error> {
        match self.header.layout {
            Layout::Stream(length) => Trailer::open(self.oek.trailer_key(), length, sealed),
            Layout::Composite => Err(Error::Misuse("a composite object has no stream trailer")),
        }
    }

    /// The sealer of a part, under a fresh salt: a part that is sent again is sealed under another key.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] without random bytes; [`Error::Misuse`] if the object is a stream.
    pub fn part_sealer(&self, number: PartNumber, length: PlainLen) -> Result<Sealer, Error> {
        self.composite()?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| Error::Random)?;
        Ok(Sealer::part(&self.oek, number, &salt, length))
    }

    /// The opener for a range of a composite object. `salt` is that of the first part which the range touches, if
    /// [`Manifest::locate`] says that its head is not read with it.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the object is a stream, the range is past the end, or there is a salt too few or too many.
    pub fn into_composite_opener(
        self,
        manifest: Arc<Manifest>,
        range: PlainRange,
        salt: Option<PartSalt>,
    ) -> Result<Opener, Error> {
        self.composite()?;
        match range.end() <= manifest.length().get() {
            true => Opener::composite(self.oek, manifest, range, salt),
            false => Err(Error::Misuse("the range is of a longer object")),
        }
    }

    /// The block that closes a composite object of these parts, in sealed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Random`]; [`Error::Misuse`] if the object is a stream.
    pub fn seal_manifest(&self, manifest: &Manifest) -> Result<Block, Error> {
        self.composite()?;
        manifest.seal(&self.oek)
    }

    /// Opens the block, in sealed bytes, that closes a composite object of this size.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if it is not the block of this object; [`Error::Misuse`] if the object is a stream.
    pub fn open_manifest(&self, block: &[u8], stored: SealedLen) -> Result<Manifest, Error> {
        self.composite()?;
        Manifest::open(&self.oek, block, stored)
    }

    fn composite(&self) -> Result<(), Error> {
        match self.header.layout {
            Layout::Composite => Ok(()),
            Layout::Stream(_) => Err(Error::Misuse("a stream has no parts")),
        }
    }

    /// An envelope with which the same body opens at another place, or under another DEK: for a copy inside the
    /// store, and for a new EK. The body is not touched, and nothing new is ever sealed under its keys.
    ///
    /// # Errors
    ///
    /// [`Error::Random`]; [`Error::Misuse`] if the header gives another layout or length.
    pub fn rewrap(&self, header: Header, dek: &Dek, place: Place<'_>) -> Result<Envelope, Error> {
        if header.layout != self.header.layout {
            return Err(Error::Misuse("an envelope made anew is for another layout or length"));
        }
        Envelope::wrap(header, &self.oek, dek, place)
    }
}
