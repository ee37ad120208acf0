//! The parts of a multipart/form-data body, taken apart while it streams: a part's head whole, its data in pieces.
//!
//! ```text
//! body  = [preamble CRLF] "--" boundary part* CRLF "--" boundary "--" [epilogue]
//! part  = CRLF head CRLF CRLF data CRLF "--" boundary
//! ```
//!
//! Source: RFC 7578 (multipart/form-data); RFC 2046, section 5.1.1 (its grammar).

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::{self, Finder};

use super::Checked;
use crate::s3::{Code, Error, Result};

/// The longest boundary of RFC 2046.
const MAX_BOUNDARY: usize = 70;

/// The most bytes of a part's head.
const MAX_HEAD: usize = 4096;

/// A body of parts. It is read from one delimiter to the next, by [`Parts::data`] and [`Parts::head`] in turn; what comes
/// before the first delimiter is read as data.
pub(super) struct Parts {
    source: Checked,
    /// CRLF "--" boundary. It has one CR, its first byte.
    delimiter: Finder<'static>,
    /// Read, but not yet taken apart.
    rest: Bytes,
    /// The delimiter that was met was the last one.
    closed: bool,
}

/// What is said of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The field's name.
    pub name: String,
    /// The file's name, as the client sent it.
    pub filename: Option<String>,
    /// Its length in bytes.
    pub len: usize,
}

impl Parts {
    /// Takes `source` apart at the boundary that its Content-Type names.
    ///
    /// Errors: MalformedPOSTRequest for another Content-Type, or one without a boundary.
    pub fn new(source: Checked, content_type: &str) -> Result<Self> {
        let boundary = boundary(content_type).ok_or_else(|| {
            malformed("its Content-Type must be multipart/form-data with a boundary of 1 to 70 characters")
        })?;
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first delimiter may stand at the very beginning.
        Ok(Self { source, delimiter, rest: Bytes::from_static(b"\r\n"), closed: false })
    }

    /// The next piece of data before the next delimiter, never empty. `None` once that has come.
    pub async fn data(&mut self) -> Result<Option<Bytes>> {
        let len = self.delimiter.needle().len();
        loop {
            match self.delimiter.find(&self.rest) {
                Some(0) => match self.rest.get(len..len + 2) {
                    Some(b"--") => {
                        self.rest.advance(len + 2);
                        self.closed = true;
                        return Ok(None);
                    }
                    // White space may stand behind a delimiter.
                    Some(b"\r\n" | [b' ' | b'\t', _]) => {
                        self.rest.advance(len);
                        return Ok(None);
                    }
                    // A line that only begins as one: no delimiter of this form.
                    Some(_) => return Ok(Some(self.rest.split_to(len))),
                    None => self.more().await?,
                },
                Some(at) => return Ok(Some(self.rest.split_to(at))),
                None => match self.rest.len() - self.begun() {
                    0 => self.more().await?,
                    free => return Ok(Some(self.rest.split_to(free))),
                },
            }
        }
    }

    /// The head of the next part, right behind a delimiter. `None` behind the last one.
    pub async fn head(&mut self) -> Result<Option<Head>> {
        if self.closed {
            return Ok(None);
        }
        loop {
            match memmem::find(&self.rest, b"\r\n\r\n") {
                Some(at) if at <= MAX_HEAD => {
                    let head = self.rest.split_to(at + 4);
                    return read_head(&head).map(Some);
                }
                None if self.rest.len() <= MAX_HEAD => self.more().await?,
                _ => return Err(malformed("the head of a part has more than 4,096 bytes")),
            }
        }
    }

    /// Reads what is left, where the checks of the whole body are made.
    pub async fn end(&mut self) -> Result<()> {
        self.rest.clear();
        while self.source.advance().await?.is_some() {}
        Ok(())
    }

    /// How many bytes at the end could be the beginning of a delimiter.
    fn begun(&self) -> usize {
        let needle = self.delimiter.needle();
        let tail = &self.rest[self.rest.len().saturating_sub(needle.len() - 1)..];
        match memchr::memrchr(b'\r', tail) {
            Some(at) if needle.starts_with(&tail[at..]) => tail.len() - at,
            _ => 0,
        }
    }

    /// Reads on. What is left of before is short, so that joining it costs a copy at times, not at each piece.
    ///
    /// Errors: MalformedPOSTRequest where the body ends before its last delimiter.
    async fn more(&mut self) -> Result<()> {
        let next =
            self.source.advance().await?.ok_or_else(|| malformed("it ends before its last boundary"))?;
        self.rest = if self.rest.is_empty() {
            next
        } else {
            let mut joined = BytesMut::with_capacity(self.rest.len() + next.len());
            joined.extend_from_slice(&self.rest);
            joined.extend_from_slice(&next);
            joined.freeze()
        };
        Ok(())
    }
}

/// The boundary of a form's Content-Type.
fn boundary(content_type: &str) -> Option<String> {
    let (kind, values) = parameters(content_type)?;
    let values = if kind == "multipart/form-data" { values } else { return None };
    let (_, boundary) = values.into_iter().find(|(name, _)| name == "boundary")?;
    (1..=MAX_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

/// Reads the lines between a delimiter and the data.
fn read_head(head: &[u8]) -> Result<Head> {
    let len = head.len();
    let text = std::str::from_utf8(head).map_err(|_| malformed("the head of a part is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    if !lines.next().unwrap_or_default().bytes().all(|b| matches!(b, b' ' | b'\t')) {
        return Err(malformed("a boundary has something behind it"));
    }
    let mut disposition = None;
    for line in lines.filter(|line| !line.is_empty()) {
        // RFC 7230, section 3.2.4: what one reader takes for the rest of a header, another takes for one of its own.
        if line.starts_with([' ', '\t']) {
            return Err(malformed("a part has a header over several lines"));
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| malformed("a part has a header without ':'"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_some() => {
                return Err(malformed("a part has two Content-Disposition"));
            }
            "content-disposition" => disposition = Some(value),
            // RFC 7578, section 4.7: nobody sends another, and decoding it is not S3's part.
            "content-transfer-encoding"
                if !["7bit", "8bit", "binary"].iter().any(|plain| value.eq_ignore_ascii_case(plain)) =>
            {
                return Err(malformed("a part has a Content-Transfer-Encoding: send it as it is"));
            }
            _ => {}
        }
    }
    let unnamed = || malformed("a part needs Content-Disposition: form-data; name=\"...\"");
    let (kind, values) = disposition.and_then(parameters).ok_or_else(unnamed)?;
    let value = |wanted: &str| values.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let name = value("name").filter(|name| !name.is_empty() && kind == "form-data").ok_or_else(unnamed)?;
    Ok(Head { name, filename: value("filename"), len })
}

/// A value with parameters: `form-data; name="a"; filename="b"`. Names in lower case, each once: of two another reader could
/// take the other one. A quoted value may hold `\"`; any other backslash is itself, as browsers send it in the path of a file.
fn parameters(text: &str) -> Option<(String, Vec<(String, String)>)> {
    let (kind, mut rest) = text.split_once(';').unwrap_or((text, ""));
    let mut found = Vec::<(String, String)>::new();
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        if rest.is_empty() {
            return Some((kind.trim().to_ascii_lowercase(), found));
        }
        let (name, after) = rest.split_once('=')?;
        let value;
        (value, rest) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        let name = name.trim().to_ascii_lowercase();
        if found.iter().any(|(other, _)| *other == name) {
            return None;
        }
        found.push((name, value));
    }
}

/// A text up to its closing quote, and what comes behind.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"')?;
        match rest[..at].strip_suffix('\\') {
            Some(escaped) => value.extend([escaped, "\""]),
            None => {
                value.push_str(&rest[..at]);
                return Some((value, &rest[at + 1..]));
            }
        }
        rest = &rest[at + 1..];
    }
}

/// The error for a body that is no form.
pub(super) fn malformed(what: &str) -> Error {
    Error::new(
        Code::MalformedPOSTRequest,
        format!("The body of your POST request is not well-formed multipart/form-data: {what}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data;charset=utf-8;Boundary=\"a b;c\"", Some("a b;c")),
            (
                "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
                Some("----WebKitFormBoundary7MA4YWxkTrZu0gW"),
            ),
            ("multipart/form-data ; boundary=abc", Some("abc")),
            ("multipart/form-data", None),
            ("multipart/form-data-x; boundary=abc", None),
            ("multipart/form-data2;boundary=abc", None),
            ("multipart/form-data, text/plain; boundary=abc", None),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data; boundary=abc; Boundary=def", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"abc", None),
            (&long, None),
        ] {
            assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
        }
    }

    #[test]
    fn heads() {
        let head = |lines: &str| read_head(format!("\r\n{lines}\r\n\r\n").as_bytes());
        for (line, name, filename) in [
            ("content-disposition: form-data; name=\"key\"", "key", None),
            ("Content-Disposition: form-data; name=key; filename=a.txt", "key", Some("a.txt")),
            (
                "Content-Disposition:form-data;name=\"file\";filename=\"a\\\"b;c.txt\"",
                "file",
                Some("a\"b;c.txt"),
            ),
            (
                "Content-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\a.txt\"",
                "file",
                Some("C:\\dir\\a.txt"),
            ),
            ("Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"é\"", "é", None),
            ("Content-Transfer-Encoding: binary\r\nContent-Disposition: form-data; name=\"a\"", "a", None),
        ] {
            let read = head(line).unwrap();
            assert_eq!((read.name.as_str(), read.filename.as_deref()), (name, filename), "{line}");
        }
        for line in [
            "Content-Type: text/plain",
            "Content-Disposition: attachment; name=\"a\"",
            "Content-Disposition: form-data",
            "Content-Disposition: form-data; name=\"\"",
            "Content-Disposition: form-data; name=\"a",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"",
            "Content-Disposition form-data",
            "Content-Disposition: form-data; name=\"a\"; Name=b",
            "Content-Disposition: form-data; name=\"a\"name=\"b\"",
            "Content-Disposition: form-data; name=\"a\"; filename=\"b\"; filename=\"c\"",
            "Content-Disposition: form-data;\r\n name=\"a\"",
            "Content-Disposition: form-data; name=\"a\"\r\n\tContent-Type: text/plain",
            " Content-Disposition: form-data; name=\"a\"",
            "Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"a\"",
        ] {
            assert_eq!(head(line).unwrap_err().code(), Code::MalformedPOSTRequest, "{line}");
        }
    }
}
