//! The sixteen bytes that every sealed body begins with.
//!
//! They keep a sealed body whose envelope was lost (a copy tool that drops metadata) from being served as plaintext.
//! Built as in PNG (RFC 2083, section 12.11): a byte that no text begins with, the name, then the bytes that a
//! transfer in text mode would alter.

use super::len::MAGIC_LEN;

/// The first 16 bytes of a sealed body, version 1: `93 "s3veil" 00 0d 0a 1a 0a`, then the version in 4 bytes.
pub const MAGIC: [u8; MAGIC_LEN as usize] = *b"\x93s3veil\x00\r\n\x1a\n\x00\x00\x00\x01";

/// How many bytes of [`MAGIC`] are the same in every version.
const FIXED: usize = 12;

/// True if a body that begins with these bytes is a sealed one, of whatever version.
///
/// Twelve bytes decide; with fewer, the answer is `false`.
pub fn is_magic(head: &[u8]) -> bool {
    head.starts_with(&MAGIC[..FIXED])
}

#[cfg(test)]
mod tests {
    use super::{MAGIC, is_magic};

    #[test]
    fn any_version_is_recognised_and_text_is_not() {
        let mut later = MAGIC;
        later[15] = 9;
        assert!(is_magic(&MAGIC) && is_magic(&later) && is_magic(&MAGIC[..12]));
        assert!(!is_magic(&MAGIC[..11]) && !is_magic(b"") && !is_magic(b"s3veil, a text of its own"));
        assert!(std::str::from_utf8(&MAGIC).is_err());
    }
}
