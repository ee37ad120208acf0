//! TTLV, KMIP's form on the wire: tag, type, length, value. No input panics.
//!
//! ```text
//! item = tag[3] ‖ type[1] ‖ length[4] ‖ value ‖ zeros up to a multiple of 8
//! ```
//!
//! The length is the value's own, without the zeros; a structure's value is items. Source: Key Management Interoperability
//! Protocol Specification 1.4, section 9.1 "TTLV Encoding" (2.1: the same, with the type `DateTimeExtended`).

use zeroize::Zeroizing;

/// Structures within structures, at most. What s3veil reads has 8.
const MAX_DEPTH: usize = 16;

/// Items in a message, at most. A list of ten thousand keys has as many.
const MAX_ITEMS: usize = 50_000;

/// The bytes before a value.
pub(super) const HEAD_LEN: usize = 8;

/// What an item is, by its three bytes.
pub(super) type Tag = u32;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's message is broken: {0}")]
pub(super) struct Broken(pub &'static str);

/// An item as read. It borrows its text and bytes from the message.
#[derive(Debug, PartialEq)]
pub(super) struct Item<'a> {
    pub tag: Tag,
    pub value: Value<'a>,
}

/// An item's value. Types that nothing here asks for are kept as their bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Structure(Vec<Item<'a>>),
    Integer(i32),
    Enumeration(u32),
    Boolean(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Seconds since 1970.
    DateTime(i64),
    Other(&'a [u8]),
}

/// The one item that a message is.
pub(super) fn parse(message: &[u8]) -> Result<Item<'_>, Broken> {
    let mut reader = Reader { rest: message, items: MAX_ITEMS };
    let item = reader.item(MAX_DEPTH)?;
    if reader.rest.is_empty() { Ok(item) } else { Err(Broken("more than one item")) }
}

/// How many bytes follow the head of a message, if it is the head of this structure.
pub(super) fn length(head: &[u8; HEAD_LEN], tag: Tag) -> Result<usize, Broken> {
    let [a, b, c, kind, length @ ..] = *head;
    if u32::from_be_bytes([0, a, b, c]) != tag || kind != STRUCTURE {
        return Err(Broken("it does not begin as a KMIP message"));
    }
    padded(u32::from_be_bytes(length)).ok_or(Broken("its length"))
}

const STRUCTURE: u8 = 1;
const INTEGER: u8 = 2;
const ENUMERATION: u8 = 5;
const BOOLEAN: u8 = 6;
const TEXT: u8 = 7;
const BYTES: u8 = 8;
const DATE_TIME: u8 = 9;

/// The length with its zeros.
fn padded(length: u32) -> Option<usize> {
    usize::try_from(length).ok()?.checked_next_multiple_of(8)
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many items may still come.
    items: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, Broken> {
        self.items = self.items.checked_sub(1).ok_or(Broken("too many items"))?;
        let (&[a, b, c, kind, length @ ..], rest) =
            self.rest.split_first_chunk::<HEAD_LEN>().ok_or(Broken("cut off in an item's head"))?;
        let length = u32::from_be_bytes(length);
        let (padded, rest) = padded(length)
            .and_then(|padded| rest.split_at_checked(padded))
            .ok_or(Broken("an item is longer than what it is in"))?;
        self.rest = rest;
        let value = &padded[..length as usize];
        Ok(Item { tag: u32::from_be_bytes([0, a, b, c]), value: self.value(kind, value, depth)? })
    }

    fn value(&mut self, kind: u8, bytes: &'a [u8], depth: usize) -> Result<Value<'a>, Broken> {
        let fixed = Broken("a value is not as long as its type");
        Ok(match kind {
            STRUCTURE => {
                let depth = depth.checked_sub(1).ok_or(Broken("nested too deep"))?;
                let mut within = Self { rest: bytes, items: self.items };
                let mut items = Vec::new();
                while !within.rest.is_empty() {
                    items.push(within.item(depth)?);
                }
                self.items = within.items;
                Value::Structure(items)
            }
            INTEGER => Value::Integer(i32::from_be_bytes(bytes.try_into().map_err(|_| fixed)?)),
            ENUMERATION => Value::Enumeration(u32::from_be_bytes(bytes.try_into().map_err(|_| fixed)?)),
            BOOLEAN => Value::Boolean(u64::from_be_bytes(bytes.try_into().map_err(|_| fixed)?) != 0),
            TEXT => Value::Text(str::from_utf8(bytes).map_err(|_| Broken("a text is not UTF-8"))?),
            BYTES => Value::Bytes(bytes),
            DATE_TIME => Value::DateTime(i64::from_be_bytes(bytes.try_into().map_err(|_| fixed)?)),
            _ => Value::Other(bytes),
        })
    }
}

impl<'a> Item<'a> {
    /// The items of a structure; none for any other type.
    pub(super) fn items(&self) -> &[Item<'a>] {
        match &self.value {
            Value::Structure(items) => items,
            _ => &[],
        }
    }

    /// The items of this tag in a structure.
    pub(super) fn all(&self, tag: Tag) -> impl Iterator<Item = &Item<'a>> {
        self.items().iter().filter(move |item| item.tag == tag)
    }

    /// The first item of this tag in a structure.
    pub(super) fn find(&self, tag: Tag) -> Option<&Item<'a>> {
        self.items().iter().find(|item| item.tag == tag)
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn enumeration(&self) -> Option<u32> {
        match self.value {
            Value::Enumeration(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i32> {
        match self.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn date_time(&self) -> Option<i64> {
        match self.value {
            Value::DateTime(seconds) => Some(seconds),
            _ => None,
        }
    }
}

/// Writes a message, item by item, into memory that is wiped.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Default for Writer {
    fn default() -> Self {
        // No request here is longer, so none is copied while it grows.
        Self(Zeroizing::new(Vec::with_capacity(4096)))
    }
}

impl Writer {
    /// A structure of what `items` writes.
    pub(super) fn structure(&mut self, tag: Tag, items: impl FnOnce(&mut Self)) {
        self.head(tag, STRUCTURE, 0);
        let begin = self.0.len();
        items(self);
        let length = u32::try_from(self.0.len() - begin).expect("a request is far below 4 GiB");
        self.0[begin - 4..begin].copy_from_slice(&length.to_be_bytes());
    }

    pub(super) fn integer(&mut self, tag: Tag, value: i32) {
        self.value(tag, INTEGER, &value.to_be_bytes());
    }

    pub(super) fn enumeration(&mut self, tag: Tag, value: u32) {
        self.value(tag, ENUMERATION, &value.to_be_bytes());
    }

    pub(super) fn boolean(&mut self, tag: Tag, value: bool) {
        self.value(tag, BOOLEAN, &u64::from(value).to_be_bytes());
    }

    pub(super) fn text(&mut self, tag: Tag, value: &str) {
        self.value(tag, TEXT, value.as_bytes());
    }

    pub(super) fn bytes(&mut self, tag: Tag, value: &[u8]) {
        self.value(tag, BYTES, value);
    }

    /// Seconds.
    pub(super) fn interval(&mut self, tag: Tag, value: u32) {
        const INTERVAL: u8 = 10;
        self.value(tag, INTERVAL, &value.to_be_bytes());
    }

    /// The message.
    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    fn value(&mut self, tag: Tag, kind: u8, value: &[u8]) {
        self.head(tag, kind, u32::try_from(value.len()).expect("a request is far below 4 GiB"));
        self.0.extend_from_slice(value);
        let padded = self.0.len().next_multiple_of(8);
        self.0.resize(padded, 0);
    }

    fn head(&mut self, tag: Tag, kind: u8, length: u32) {
        let [_, tag @ ..] = tag.to_be_bytes();
        self.0.extend_from_slice(&tag);
        self.0.push(kind);
        self.0.extend_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn item(hex: &str) -> Vec<u8> {
        hex::decode(hex.replace([' ', '|'], "")).unwrap()
    }

    /// The examples of the specification, section 9.1.2.
    #[test]
    fn the_specifications_examples() {
        let hello = "Hello World";
        for (bytes, value) in [
            ("42 00 20 | 02 | 00 00 00 04 | 00 00 00 08 00 00 00 00", Value::Integer(8)),
            ("42 00 20 | 05 | 00 00 00 04 | 00 00 00 FF 00 00 00 00", Value::Enumeration(255)),
            ("42 00 20 | 06 | 00 00 00 08 | 00 00 00 00 00 00 00 01", Value::Boolean(true)),
            (
                "42 00 20 | 07 | 00 00 00 0B | 48 65 6C 6C 6F 20 57 6F 72 6C 64 00 00 00 00 00",
                Value::Text(hello),
            ),
            ("42 00 20 | 08 | 00 00 00 03 | 01 02 03 00 00 00 00 00", Value::Bytes(&[1, 2, 3])),
            ("42 00 20 | 09 | 00 00 00 08 | 00 00 00 00 47 DA 67 F8", Value::DateTime(0x47DA_67F8)),
        ] {
            assert_eq!(parse(&item(bytes)), Ok(Item { tag: 0x42_0020, value }), "{bytes}");
        }
        let structure = item(
            "42 00 20 | 01 | 00 00 00 20 | 42 00 04 | 05 | 00 00 00 04 | 00 00 00 FE 00 00 00 00 |
             42 00 05 | 02 | 00 00 00 04 | 00 00 00 FF 00 00 00 00"
                .replace('\n', "")
                .as_str(),
        );
        let read = parse(&structure).unwrap();
        assert_eq!(read.find(0x42_0004).unwrap().enumeration(), Some(254));
        assert_eq!(read.find(0x42_0005).unwrap().integer(), Some(255));
        let mut writer = Writer::default();
        writer.structure(0x42_0020, |w| {
            w.enumeration(0x42_0004, 254);
            w.integer(0x42_0005, 255);
        });
        assert_eq!(*writer.finish(), structure);
    }

    /// K-16: cut anywhere, and with lengths that lead out of the message.
    #[test]
    fn broken_messages_are_refused() {
        let mut writer = Writer::default();
        writer.structure(1, |w| {
            w.text(2, "text");
            w.structure(3, |w| w.bytes(4, b"bytes"));
        });
        let good = writer.finish();
        assert!(parse(&good).is_ok());
        for len in 0..good.len() {
            assert!(parse(&good[..len]).is_err(), "cut to {len}");
        }
        for at in [4, 12, 28, 36] {
            for length in [[0, 0, 0, 0xf1], [0xff; 4], [0x7f, 0xff, 0xff, 0xff]] {
                let mut bad = good.to_vec();
                bad[at..at + 4].copy_from_slice(&length);
                assert!(parse(&bad).is_err(), "length {length:?} at {at}");
            }
        }
        assert_eq!(parse(&[&**good, &**good].concat()), Err(Broken("more than one item")));
        for (kind, length) in [(2, 3), (2, 8), (5, 5), (6, 1), (9, 4)] {
            let head = [0x42, 0, 0x20, kind, 0, 0, 0, length];
            assert!(parse(&[&head[..], &[0; 8]].concat()).is_err(), "type {kind} of {length} bytes");
        }
        assert!(parse(&item("42 00 20 | 07 | 00 00 00 01 | FF 00 00 00 00 00 00 00")).is_err());
    }

    #[test]
    fn depth_and_number_are_limited() {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |within: Vec<u8>, _| {
                let length = u32::try_from(within.len()).unwrap().to_be_bytes();
                [&[0x42, 0, 0x20, STRUCTURE][..], &length, &within].concat()
            })
        };
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(Broken("nested too deep")));
        assert_eq!(parse(&nested(10_000)), Err(Broken("nested too deep")));
        let empty = [0x42, 0, 0x20, BYTES, 0, 0, 0, 0].repeat(MAX_ITEMS);
        let length = u32::try_from(empty.len()).unwrap().to_be_bytes();
        let wide = [&[0x42, 0, 0x20, STRUCTURE][..], &length, &empty].concat();
        assert_eq!(parse(&wide), Err(Broken("too many items")));
    }

    #[test]
    fn the_head_of_a_message() {
        assert_eq!(length(&[0x42, 0, 0x7b, 1, 0, 0, 0, 16], 0x42_007b), Ok(16));
        assert!(length(b"HTTP/1.1", 0x42_007b).is_err());
        assert!(length(&[0x42, 0, 0x7b, 2, 0, 0, 0, 16], 0x42_007b).is_err());
        assert!(length(&[0x42, 0, 0x78, 1, 0, 0, 0, 16], 0x42_007b).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }

        /// Bytes that are closer to a message: a good one with one byte changed, cut anywhere.
        #[test]
        fn no_damage_panics(at in 0usize..80, byte in any::<u8>(), cut in 0usize..80) {
            let mut writer = Writer::default();
            writer.structure(1, |w| {
                w.text(2, "text");
                w.structure(3, |w| {
                    w.bytes(4, b"bytes");
                    w.integer(5, 6);
                });
            });
            let mut message = writer.finish().to_vec();
            let len = message.len();
            message[at % len] = byte;
            let _ = parse(&message[..cut % (len + 1)]);
            let _ = parse(&message);
        }

        #[test]
        fn what_is_written_is_read(text in ".{0,40}", bytes in any::<Vec<u8>>(), number in any::<i32>()) {
            let mut writer = Writer::default();
            writer.structure(1, |w| {
                w.text(2, &text);
                w.bytes(3, &bytes);
                w.integer(4, number);
            });
            let message = writer.finish();
            let read = parse(&message).unwrap();
            assert_eq!(read.find(2).unwrap().text(), Some(text.as_str()));
            assert_eq!(read.find(3).unwrap().bytes(), Some(bytes.as_slice()));
            assert_eq!(read.find(4).unwrap().integer(), Some(number));
        }
    }
}
