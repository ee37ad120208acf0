//! A browser's form. Input: a byte of piecing, the Content-Type, a line end, and the body.
//!
//! Holds: how the body comes in pieces makes no difference; no fields beyond the limit; no field twice; what was
//! read, written again, is read the same.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use s3veil::auth::Payload;
use s3veil::body::form::{MAX_FIELDS, is_ignored, read};
use s3veil::body::{BoxError, Checked};
use s3veil::s3::{Code, Error, Result};

use super::input::{Input, body, pieces, wait};

const OTHER: &str = "another-boundary-which-is-in-no-input";

/// What a form says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    fields: Vec<(String, String)>,
    /// The file, or why it broke off.
    file: std::result::Result<Vec<u8>, Code>,
}

/// Reads a form in several ways.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let rest = input.rest();
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let Ok(content_type) = std::str::from_utf8(&rest[..at]) else { return };
    let form = Bytes::copy_from_slice(rest.get(at + 1..).unwrap_or_default());
    let said = said(pieces(&form, 0), content_type);
    for seed in [seed, 1] {
        assert_eq!(self::said(pieces(&form, seed), content_type), said);
    }
    let Ok(said) = said else { return };
    let len: usize = said.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(len <= MAX_FIELDS);
    for (index, (name, _)) in said.fields.iter().enumerate() {
        assert!(!name.is_empty() && *name == name.to_ascii_lowercase());
        let twice = said.fields[..index].iter().any(|(other, _)| other == name);
        assert!(!twice || is_ignored(name), "{name} is there twice");
    }
    if let Ok(file) = &said.file {
        let plain = |(name, value): &(String, String)| {
            // What a browser would escape, and what a file's name would stand in for.
            name.len() < 1000
                && !name.contains(['"', '\\', '\r', '\n'])
                && !value.contains("${filename}")
                && !value.contains(OTHER)
        };
        let written = write(&said.fields, file);
        if said.fields.iter().all(plain) && written.len() - file.len() <= MAX_FIELDS && !holds(file, OTHER) {
            let content_type = format!("multipart/form-data; boundary={OTHER}");
            assert_eq!(self::said(pieces(&written.into(), seed), &content_type).expect("written well"), said);
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn said(pieces: VecDeque<Bytes>, content_type: &str) -> std::result::Result<Said, Code> {
    wait(said_of(pieces, content_type)).map_err(|error| error.code())
}

async fn said_of(pieces: VecDeque<Bytes>, content_type: &str) -> Result<Said> {
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    let payload = Payload::of_length(length);
    let form = read(Checked::new(body(pieces), payload, Duration::from_secs(60))?, content_type).await?;
    let fields = form.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (mut file, mut bytes) = (form.file.into_body(), Vec::new());
    while let Some(frame) = file.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().expect("only data")),
            Err(error) => return Ok(Said { fields, file: Err(code(&error)) }),
        }
    }
    Ok(Said { fields, file: Ok(bytes) })
}

fn code(error: &BoxError) -> Code {
    error.downcast_ref::<Error>().expect("an error of the form").code()
}

fn write(fields: &[(String, String)], file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        let head = format!("--{OTHER}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        out.extend_from_slice(head.as_bytes());
    }
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"f\"";
    out.extend_from_slice(format!("--{OTHER}\r\n{head}\r\n\r\n").as_bytes());
    out.extend_from_slice(file);
    out.extend_from_slice(format!("\r\n--{OTHER}--\r\n").as_bytes());
    out
}

/// Forms of every kind, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let form = |parts: &str| format!("\x07multipart/form-data; boundary=b\n{parts}").into_bytes();
    let field = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\ndir/${filename}\r\n";
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\a\\b.txt\"\r\n\
        Content-Type: text/plain\r\n\r\nwhat\r\n--bis in it\r\n-\r\n";
    let behind = "--b\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nx\r\n";
    vec![
        form(&format!("{field}{file}--b--\r\n")),
        form(&format!("before\r\n{field}{file}{behind}--b--behind")),
        form(&format!("{field}{field}{file}--b--")),
        form(&format!("{field}{file}{file}--b--")),
        form(&format!("{field}--b--")),
        form(&format!("{field}{file}")),
        form("--b \t\r\nContent-Disposition:form-data;name=\"file\";filename=\"a\\\"b;c\"\r\n\r\n\r\n--b--"),
        form(
            "--b\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=file\r\n\r\n\r\n--b--",
        ),
        form("--b--"),
        b"\x03multipart/form-data; boundary=\"a b\"; charset=utf-8\n--a b--".to_vec(),
        b"\x03text/plain\n".to_vec(),
    ]
}
