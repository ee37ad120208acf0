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

    /// True for s3veil's own keys, and for those that a store could make one of them.
    pub fn is_reserved(&self) -> bool {
        let reserved = |key: &String| key.starts_with(RESERVED_PREFIX);
        reserved(&self.0) || self.tidied().iter().any(reserved)
    }

    /// What stores that tidy keys up could make of this one: Garage drops the slash that a key begins with, stores on a
    /// file system resolve empty and dotted segments. Nothing for nearly all keys.
    pub fn tidied(&self) -> Vec<String> {
        let key = self.0.as_str();
        let inner = key.strip_suffix('/').unwrap_or(key);
        if !inner.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Vec::new();
        }
        let without = |odd: &[&str]| {
            key.split('/').filter(|segment| !odd.contains(segment)).collect::<Vec<_>>().join("/")
        };
        let mut resolved = Vec::new();
        for segment in key.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(resolved.pop()),
                segment => resolved.push(segment),
            }
        }
        let mut forms = vec![
            key.trim_start_matches('/').to_owned(),
            without(&[""]),
            without(&["", "."]),
            resolved.join("/"),
        ];
        if key.ends_with('/') {
            forms.iter_mut().filter(|form| !form.ends_with('/')).for_each(|form| form.push('/'));
        }
        forms
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_could_make_of_a_key() {
        let tidied = |key: &str| Key::parse(key).unwrap().tidied();
        for key in ["a", "a/b", "a/b/", ".a/..b", "..."] {
            assert!(tidied(key).is_empty(), "{key}");
        }
        for (key, form) in
            [("/a", "a"), ("//a", "a"), ("a//b", "a/b"), ("./a", "a"), ("x/../a/", "a/"), ("../a", "a")]
        {
            assert!(tidied(key).iter().any(|tidied| tidied == form), "{key}: {:?}", tidied(key));
        }
        assert!(Key::parse("/.s3veil/x").unwrap().is_reserved());
        assert!(!Key::parse("a/.s3veil/x").unwrap().is_reserved());
    }
}
