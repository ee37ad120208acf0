//! What a request names: bucket and key, as exact bytes.

use std::fmt;

/// The longest key that S3 takes, in bytes of UTF-8.
pub const MAX_KEY_LEN: usize = 1024;

/// Keys under this prefix are s3veil's own: hidden from listings, out of reach for clients.
pub const RESERVED_PREFIX: &str = ".s3veil/";

/// A bucket's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(String);

/// An object's key: any UTF-8, 1 to 1,024 bytes, decoded and never normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Bucket {
    /// A bucket by its name, unless the name could not be one at any store: empty, over 255 bytes, `.` or `..`,
    /// or with bytes other than letters, digits, `.`, `-` and `_`. What else is allowed, the store decides.
    pub fn parse(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= 255 && name != "." && name != "..";
        let clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        (fits && clean).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Key {
    /// A key of 1 to 1,024 bytes.
    pub fn parse(key: &str) -> Option<Self> {
        (!key.is_empty() && key.len() <= MAX_KEY_LEN).then(|| Self(key.to_owned()))
    }

    /// The key, decoded.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for s3veil's own keys.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
