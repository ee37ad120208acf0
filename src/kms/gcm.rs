//! A DEK that a KMS has wrapped with AES-256-GCM, for the services that leave IV and tag to their client.

use super::{Context, EkName, Error, WrappedDek};

/// The length of an IV, in bytes: the one that GCM takes as it is. NIST SP 800-38D, section 5.2.1.1.
pub(super) const IV_LEN: usize = 12;

/// The length of a tag, in bytes. A KMS is never asked for, nor sent, a shorter one.
pub(super) const TAG_LEN: usize = 16;

const DEK_LEN: usize = 32;

/// The entry that binds a wrapped DEK to its EK's name.
const EK_ENTRY: &str = "s3veil:ek";

/// The associated data: the context and the EK's name, in canonical form. So no EK opens what another wrapped, not even
/// where both names mean one key.
pub(super) fn aad(ek: &EkName, context: &Context) -> Vec<u8> {
    context.clone().with(EK_ENTRY, ek.as_str()).canonical()
}

/// ```text
/// wrapped = iv[12] ‖ ciphertext[32] ‖ tag[16]
/// ```
pub(super) struct Sealed<'a> {
    pub iv: &'a [u8],
    pub ciphertext: &'a [u8],
    pub tag: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Errors: [`Error::Malformed`] for one of another length.
    pub(super) fn split(wrapped: &'a WrappedDek) -> Result<Self, Error> {
        let bytes = wrapped.as_bytes();
        if bytes.len() != IV_LEN + DEK_LEN + TAG_LEN {
            return Err(Error::Malformed(format!("a wrapped DEK of {} bytes", bytes.len())));
        }
        let (iv, rest) = bytes.split_at(IV_LEN);
        let (ciphertext, tag) = rest.split_at(DEK_LEN);
        Ok(Self { iv, ciphertext, tag })
    }

    /// Errors: [`Error::Malformed`] for parts of other lengths: an answer that can't be the DEK, wrapped.
    pub(super) fn join(&self) -> Result<WrappedDek, Error> {
        let lengths = (self.iv.len(), self.ciphertext.len(), self.tag.len());
        if lengths != (IV_LEN, DEK_LEN, TAG_LEN) {
            return Err(Error::Malformed(format!(
                "the KMS wrapped a DEK into iv, ciphertext and tag of {lengths:?} bytes, not of (12, 32, 16)"
            )));
        }
        Ok(WrappedDek::new([self.iv, self.ciphertext, self.tag].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_ones() {
        for len in 0..70 {
            let wrapped = WrappedDek::new(vec![7; len]);
            match Sealed::split(&wrapped) {
                Ok(sealed) => assert_eq!((len, sealed.join()), (60, Ok(wrapped.clone()))),
                Err(why) => assert!(len != 60 && matches!(why, Error::Malformed(_))),
            }
        }
        for (iv, ciphertext, tag) in [(12, 32, 12), (12, 31, 16), (16, 32, 16), (12, 0, 16), (12, 48, 0)] {
            let bytes = [0; 64];
            let sealed = Sealed { iv: &bytes[..iv], ciphertext: &bytes[..ciphertext], tag: &bytes[..tag] };
            assert!(sealed.join().is_err());
        }
    }
}
