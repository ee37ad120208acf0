//! A request while it is being verified: what was sent, decoded once. What is signed is what is routed.

use http::header::AsHeaderName;
use http::{HeaderMap, Method};

use crate::s3::{Code, Error, Query, Result};

/// The parts of a request that a signature covers.
pub(super) struct Request<'a> {
    /// The method.
    pub(super) method: &'a Method,
    /// The path, decoded once and not normalised.
    pub(super) path: &'a str,
    /// The query, decoded.
    pub(super) query: &'a Query,
    /// The host and port that the client asked, as it wrote them.
    pub(super) authority: &'a str,
    /// All headers.
    pub(super) headers: &'a HeaderMap,
}

impl Request<'_> {
    /// The only value of a header, as text.
    pub(super) fn single(&self, name: impl AsHeaderName + AsRef<str> + Copy) -> Result<Option<&str>> {
        single(self.headers, name)
    }
}

/// The only value of a header, as text without white space around it. Two of them, or one that is not ASCII, are an
/// error: never a guess, and never as if the header were not there.
pub(super) fn single(
    headers: &HeaderMap,
    name: impl AsHeaderName + AsRef<str> + Copy,
) -> Result<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("The header {} is sent more than once. Send it once.", name.as_ref()),
        ));
    }
    let text = value.to_str().map_err(|_| {
        Error::new(Code::InvalidRequest, format!("The header {} is not readable text.", name.as_ref()))
    })?;
    Ok(Some(text.trim()))
}
