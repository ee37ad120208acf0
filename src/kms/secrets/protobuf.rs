//! As much of Protocol Buffers as one small message needs. No input panics.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

use zeroize::Zeroizing;

const BROKEN: &str = "its protobuf is broken";

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An integer.
    Varint(u64),
    /// Eight bytes, which no field here has.
    Fixed64,
    /// Bytes, a string or a message.
    Bytes(&'a [u8]),
    /// Four bytes, which no field here has.
    Fixed32,
}

/// Reads a message.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The last value of a field, as protobuf has it for a field that stands twice. The whole message is checked.
    pub(super) fn field(mut self, number: u64) -> Result<Option<Value<'a>>, &'static str> {
        let mut found = None;
        while !self.0.is_empty() {
            let (field, value) = self.next()?;
            if field == number {
                found = Some(value);
            }
        }
        Ok(found)
    }

    fn next(&mut self) -> Result<(u64, Value<'a>), &'static str> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed64)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return Err(BROKEN),
        };
        Ok((tag >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BROKEN)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], &'static str> {
        let len = usize::try_from(len).map_err(|_| BROKEN)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Writes a message, field by field.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Default for Writer {
    fn default() -> Self {
        // Room for the whole of a stored key, so that growing does not leave copies of it in memory.
        Self(Zeroizing::new(Vec::with_capacity(512)))
    }
}

impl Writer {
    /// An integer. Zero is not written, as in proto3.
    pub(super) fn varint(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.raw(field << 3);
            self.raw(value);
        }
        self
    }

    /// Bytes or a string. An empty one is not written, as in proto3.
    pub(super) fn bytes(self, field: u64, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.delimited(field, value) }
    }

    /// A message within.
    pub(super) fn message(self, field: u64, message: Self) -> Self {
        self.delimited(field, &message.0)
    }

    /// The message.
    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    fn delimited(mut self, field: u64, value: &[u8]) -> Self {
        self.raw(field << 3 | 2);
        self.raw(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding guide: `150`, `"testing"`, and one inside the other.
    #[test]
    fn the_guide() {
        assert_eq!(*Writer::default().varint(1, 150).finish(), hex::decode("089601").unwrap());
        assert_eq!(
            *Writer::default().bytes(2, b"testing").finish(),
            hex::decode("120774657374696e67").unwrap()
        );
        let nested = Writer::default().message(3, Writer::default().varint(1, 150)).finish();
        assert_eq!(*nested, hex::decode("1a03089601").unwrap());
        assert_eq!(Reader::new(&nested).field(3), Ok(Some(Value::Bytes(&[0x08, 0x96, 0x01]))));
        assert_eq!(Reader::new(&[0x08, 0x96, 0x01]).field(1), Ok(Some(Value::Varint(150))));
        assert_eq!(Reader::new(&[0x08, 0x96, 0x01]).field(2), Ok(None));
    }

    #[test]
    fn the_last_of_two_counts_and_unknown_fields_pass() {
        let message = [0x08, 1, 0x35, 0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 2];
        assert_eq!(Reader::new(&message).field(1), Ok(Some(Value::Varint(2))));
    }

    #[test]
    fn broken() {
        for message in [
            &[0x08][..],
            &[0x80; 11],
            &[0x0a, 5, 1],
            &[0x0b],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x31, 0],
        ] {
            assert_eq!(Reader::new(message).field(1), Err(BROKEN), "{message:?}");
        }
    }
}
