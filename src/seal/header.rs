//! The envelope header: what an object says of its keys. Authenticated, not secret.
//!
//! A CBOR map (RFC 8949) with small numbers for names, in the deterministic encoding of its section 4.2.
//! `docs/format.md`, "Envelope".

use minicbor::decode::Error as Malformed;
use minicbor::{Decoder, Encoder};

use super::error::Error;
use super::len::{Layout, PlainLen};

/// The version of the format.
pub(super) const VERSION: u8 = 1;

/// The most bytes of a KMS's name, an EK's name, an EK's version, a wrapped DEK.
const KMS_MAX: usize = 64;
const EK_MAX: usize = 512;
const EK_VERSION_MAX: usize = 256;
/// The most bytes of a wrapped DEK.
pub const WRAPPED_DEK_MAX: usize = 1024;

/// What an envelope says of its object. Under a customer's key nothing speaks of a KMS: those fields are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the body is laid out, and a stream's plaintext length.
    pub layout: Layout,
    /// The name of the KMS in s3veil's configuration, 1 to 64 bytes.
    pub kms: String,
    /// The name of the EK in that KMS, 1 to 512 bytes.
    pub ek: String,
    /// The version of the EK, where the KMS has one, 1 to 256 bytes.
    pub ek_version: Option<String>,
    /// The DEK as the KMS wrapped it, 1 to 1,024 bytes. Opaque here.
    pub wrapped_dek: Vec<u8>,
    /// The server-side encryption that the client is told of.
    pub sse: Sse,
    /// SHA-256 of the client's encryption context, if it gave one.
    pub context: Option<[u8; 32]>,
}

/// The kind of server-side encryption that S3's headers speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sse {
    /// `aws:kms`, with the EK's name.
    Kms,
    /// The same, and that it is by an S3 Bucket Key.
    KmsBucketKey,
    /// `AES256`.
    S3,
    /// SSE-C: the client's own key takes the place of the DEK.
    Customer,
}

impl Sse {
    const ALL: [Self; 4] = [Self::Kms, Self::KmsBucketKey, Self::S3, Self::Customer];

    /// The kind of this number.
    pub(super) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|sse| sse.id() == id)
    }

    /// The number in the envelope.
    fn id(self) -> u8 {
        match self {
            Self::Kms => 1,
            Self::S3 => 2,
            Self::Customer => 3,
            Self::KmsBucketKey => 4,
        }
    }
}

impl Header {
    /// The number of the layout, in the envelope and in the KEK's context.
    pub(super) fn layout_id(&self) -> u8 {
        match self.layout {
            Layout::Stream(_) => 1,
            Layout::Composite => 2,
        }
    }

    /// True if every field has a length that the format allows.
    pub(super) fn fits(&self) -> bool {
        let within = |len: usize, max: usize| (1..=max).contains(&len);
        if self.sse == Sse::Customer {
            let named = [self.kms.len(), self.ek.len(), self.wrapped_dek.len()];
            return named == [0; 3] && self.ek_version.is_none() && self.context.is_none();
        }
        within(self.kms.len(), KMS_MAX)
            && within(self.ek.len(), EK_MAX)
            && self.ek_version.as_ref().is_none_or(|v| within(v.len(), EK_VERSION_MAX))
            && within(self.wrapped_dek.len(), WRAPPED_DEK_MAX)
    }

    /// The header's exact bytes, with the object's salt in them.
    pub(super) fn encode(&self, salt: &[u8; 32]) -> Vec<u8> {
        let mut out = Encoder::new(Vec::with_capacity(256));
        self.write(&mut out, salt).expect("a Vec takes every byte");
        out.into_writer()
    }

    fn write(
        &self,
        out: &mut Encoder<Vec<u8>>,
        salt: &[u8; 32],
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        let length = if let Layout::Stream(length) = self.layout { Some(length.get()) } else { None };
        let wrapped = self.sse != Sse::Customer;
        let optional = [self.ek_version.is_some(), length.is_some(), self.context.is_some()];
        let always = if wrapped { 7 } else { 4 };
        out.map(always + optional.into_iter().map(u64::from).sum::<u64>())?;
        out.u8(0)?.u8(VERSION)?;
        out.u8(1)?.u8(self.layout_id())?;
        if wrapped {
            out.u8(2)?.str(&self.kms)?;
            out.u8(3)?.str(&self.ek)?;
        }
        if let Some(version) = &self.ek_version {
            out.u8(4)?.str(version)?;
        }
        if wrapped {
            out.u8(5)?.bytes(&self.wrapped_dek)?;
        }
        out.u8(6)?.bytes(salt)?;
        if let Some(length) = length {
            out.u8(7)?.u64(length)?;
        }
        out.u8(8)?.u8(self.sse.id())?;
        if let Some(digest) = &self.context {
            out.u8(9)?.bytes(digest)?;
        }
        Ok(())
    }

    /// Reads what [`Header::encode`] wrote. The caller compares the encoding with what it read: that shows a field left
    /// over, a number in a longer form, bytes after the end.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVersion`], or [`Error::NotAnEnvelope`] for bytes that are no header.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, [u8; 32]), Error> {
        let mut fields = Fields::new(bytes)?;
        if fields.required(0, Decoder::u64)? != u64::from(VERSION) {
            return Err(Error::UnknownVersion);
        }
        let layout = fields.required(1, Decoder::u8)?;
        let kms = fields.optional(2, Decoder::str)?.unwrap_or_default().to_owned();
        let ek = fields.optional(3, Decoder::str)?.unwrap_or_default().to_owned();
        let ek_version = fields.optional(4, Decoder::str)?.map(str::to_owned);
        let wrapped_dek = fields.optional(5, Decoder::bytes)?.unwrap_or_default().to_vec();
        let salt = array(fields.required(6, Decoder::bytes)?)?;
        let length = fields.optional(7, Decoder::u64)?;
        let sse = fields.required(8, Decoder::u8)?;
        let context = fields.optional(9, Decoder::bytes)?.map(array).transpose()?;

        let layout = match (layout, length) {
            (1, Some(length)) => Layout::Stream(PlainLen::new(length).ok_or(Error::NotAnEnvelope)?),
            (2, None) => Layout::Composite,
            _ => return Err(Error::NotAnEnvelope),
        };
        let sse = Sse::from_id(sse).ok_or(Error::NotAnEnvelope)?;
        let header = Self { layout, kms, ek, ek_version, wrapped_dek, sse, context };
        if header.fits() { Ok((header, salt)) } else { Err(Error::NotAnEnvelope) }
    }
}

/// The fields of a map, in ascending order.
struct Fields<'b> {
    decoder: Decoder<'b>,
    left: u64,
}

impl<'b> Fields<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self, Error> {
        let mut decoder = Decoder::new(bytes);
        let left = decoder.map()?.ok_or(Error::NotAnEnvelope)?;
        Ok(Self { decoder, left })
    }

    /// The value of the next field, if it is the one of this number.
    fn optional<T>(
        &mut self,
        number: u8,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        if self.left == 0 || self.decoder.probe().u8()? != number {
            return Ok(None);
        }
        self.decoder.u8()?;
        self.left -= 1;
        Ok(Some(read(&mut self.decoder)?))
    }

    fn required<T>(
        &mut self,
        number: u8,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        self.optional(number, read)?.ok_or(Error::NotAnEnvelope)
    }
}

/// Bytes of a fixed length.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::NotAnEnvelope)
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Error::NotAnEnvelope
    }
}
