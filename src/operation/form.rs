//! A browser's form says in its fields what other requests say in their head: the stage that reads them, up to the file.
//!
//! Source: Amazon S3 API Reference, "POST Object".

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Uri, header};

use super::{Call, Operation};
use crate::auth::{Authenticator, Lengths, VerifiedForm};
use crate::body::form::{self, Fields};
use crate::body::{ByteBody, Checked};
use crate::s3::encryption::{CustomerKey, Side};
use crate::s3::{Code, Error, Query, Result};

/// Headers of the request itself that the write keeps: who a browser's page is from, for the store's CORS rules.
const KEPT: [HeaderName; 1] = [header::ORIGIN];

/// What a form asks for beside the write.
#[derive(Debug)]
pub struct Posted {
    /// How long the file may be.
    pub lengths: Lengths,
    /// How the client wants to hear that it is stored.
    pub done: Done,
}

/// The answer that a form asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// 204, without a body.
    NoContent,
    /// 200, without a body.
    Empty,
    /// 201, with a document.
    Document,
    /// 303, to this address.
    Redirect(String),
}

/// Reads a form up to its file, which is the body then: the call has who sends it, the key, and the headers of the write. Any
/// other call stays as it is, and keeps its body. `idle`: how long a client may send nothing.
///
/// Errors: those of the form, its signature and its policy. The file's body has S3's errors, too.
pub async fn read_form(
    authenticator: &Authenticator,
    mut call: Call,
    body: ByteBody,
    idle: Duration,
) -> Result<(Call, ByteBody)> {
    let Some(bucket) = call.bucket.clone().filter(|_| call.operation == Operation::PostObject) else {
        return Ok((call, body));
    };
    let payload = call.take_payload();
    let covered = payload.covered;
    let content_type = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let form = form::read(Checked::new(body, payload, idle)?, &content_type).await?;
    if form.fields.get("bucket").is_some_and(|named| named != bucket.as_str()) {
        return Err(Error::new(
            Code::AccessDenied,
            "The form's field 'bucket' is not the bucket that it is posted to. Leave it out, or correct it.",
        ));
    }
    let now = SystemTime::now();
    let verified = authenticator.verify_posted((&call.who, covered), &bucket, &form.fields, now)?;
    let done = Done::of(&form.fields);
    let VerifiedForm { who, key, headers, payload, lengths } = verified;
    // Nothing else of the request's own goes into the write: no policy has judged it.
    let mut write: HeaderMap = headers;
    for name in KEPT {
        write.extend(call.headers.remove(&name).map(|value| (name, value)));
    }
    let customer_key = CustomerKey::of(&write, Side::Own)?;
    let (query, payload, posted) = (Query::default(), Some(payload), Some(Posted { lengths, done }));
    let call = Call { who, key: Some(key), query, headers: write, payload, customer_key, posted, ..call };
    Ok((call, form.file.into_body()))
}

impl Done {
    /// As S3: an address that is none counts as none, and any other status as 204.
    fn of(fields: &Fields) -> Self {
        let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
        match (redirect.filter(|address| is_absolute(address)), fields.get("success_action_status")) {
            (Some(address), _) => Self::Redirect(address.to_owned()),
            (None, Some("200")) => Self::Empty,
            (None, Some("201")) => Self::Document,
            (None, _) => Self::NoContent,
        }
    }
}

/// Whether it is an address on the web that a header can hold: what follows a '#' no parser of addresses looks at.
fn is_absolute(address: &str) -> bool {
    let web = |uri: Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|h| !h.is_empty())
    };
    address.bytes().all(|b| b.is_ascii_graphic()) && address.parse().is_ok_and(web)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_that_a_form_asks_for() {
        let address = "https://example.com/done?a=1#b";
        let redirect = || Done::Redirect(address.to_owned());
        for (fields, done) in [
            ([("key", "k"), ("acl", "private")], Done::NoContent),
            ([("key", "k"), ("success_action_status", "200")], Done::Empty),
            ([("key", "k"), ("success_action_status", "201")], Done::Document),
            ([("key", "k"), ("success_action_status", "204")], Done::NoContent),
            ([("key", "k"), ("success_action_status", "404")], Done::NoContent),
            ([("success_action_redirect", address), ("success_action_status", "201")], redirect()),
            ([("redirect", address), ("key", "k")], redirect()),
            ([("success_action_redirect", "/done"), ("success_action_status", "201")], Done::Document),
            ([("success_action_redirect", "javascript:alert(1)"), ("key", "k")], Done::NoContent),
            ([("success_action_redirect", "ftp://example.com/"), ("key", "k")], Done::NoContent),
            ([("success_action_redirect", "https://a b/"), ("key", "k")], Done::NoContent),
            ([("success_action_redirect", ""), ("key", "k")], Done::NoContent),
            ([("success_action_redirect", "https://a/é"), ("key", "k")], Done::NoContent),
            ([("success_action_redirect", "https://a/#\r\nx: y"), ("key", "k")], Done::NoContent),
        ] {
            assert_eq!(Done::of(&Fields::from(fields)), done, "{fields:?}");
        }
    }
}
