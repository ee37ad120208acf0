//! The one error that a client sees, and its XML.
//!
//! Source: Amazon S3 API Reference, "REST error responses".

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::code::{Blame, Code};

/// What a handler returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An S3 error: a code, what happened and what to do about it. Never holds a secret.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    details: Vec<(&'static str, String)>,
    headers: HeaderMap,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with this code and message. The message says what to do.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            details: Vec::new(),
            headers: HeaderMap::new(),
            source: None,
        }))
    }

    /// Adds an element to the XML, as S3 does (`<Region>`, `<ActualObjectSize>`, ...).
    pub fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.details.push((name, value.into()));
        self
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Adds `Retry-After`, in seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(http::header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Keeps the inner error for the log. It is not shown to the client.
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same for another who waited for the same. The inner error is told once.
    pub fn again(&self) -> Self {
        Self(Box::new(Inner {
            code: self.0.code,
            message: self.0.message.clone(),
            details: self.0.details.clone(),
            headers: self.0.headers.clone(),
            source: None,
        }))
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.0.code.blame()
    }

    /// What the client is told.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Headers that go with the error.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The body as S3 writes it.
    pub fn to_xml(&self, resource: &str, request_id: &str) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        element(&mut xml, "Code", self.0.code.as_str());
        element(&mut xml, "Message", &self.0.message);
        for (name, value) in &self.0.details {
            element(&mut xml, name, value);
        }
        element(&mut xml, "Resource", resource);
        element(&mut xml, "RequestId", request_id);
        xml.push_str("</Error>");
        xml
    }
}

/// An error and its causes on one line, for a log or an operator.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    line
}

fn element(xml: &mut String, name: &str, text: &str) {
    xml.push_str(&format!("<{name}>{}</{name}>", super::xml::escape(text)));
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}
