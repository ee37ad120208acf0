//! A browser's form says in its fields what other requests say in their head: the stage that reads them, up to the file.
//!
//! Source: Amazon S3 API Reference, "POST Object".

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tokio::time::timeout;

use super::{Call, Operation};
use crate::auth::{Authenticator, Lengths, VerifiedForm, Who};
use crate::body::form::{self, Fields, Form};
use crate::body::{ByteBody, Checked};
use crate::s3::encryption::{CustomerKey, Side};
use crate::s3::{Code, Error, Query, Result};

/// Headers of the request itself that the write keeps: who a browser's page is from, for the store's CORS rules.
const KEPT: [HeaderName; 1] = [header::ORIGIN];

/// How long the fields before the file may take, in all.
const FIELDS: Duration = Duration::from_secs(60);

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
    if matches!(call.who, Who::Trusted) {
        refuse_pages(&call.headers)?;
    }
    let form = Box::pin(read_fields(Checked::new(body, payload, idle)?, &content_type)).await?;
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

/// A trusted hop lets in whoever connects, and a browser on its machine connects for any page it shows: a form is a write that
/// it sends without asking first (CORS has no preflight for it). So there forms are for programs only.
///
/// Errors: AccessDenied. Source: Fetch Standard, "Origin" header; Fetch Metadata, `Sec-Fetch-Site`.
fn refuse_pages(headers: &HeaderMap) -> Result<()> {
    let own = |site: &HeaderValue| site == "same-origin" || site == "none";
    let foreign = headers.get_all("sec-fetch-site").iter().any(|site| !own(site));
    if !foreign && !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(Error::new(
        Code::AccessDenied,
        "A form that a web page sends is not taken under auth.mode = \"trusted\", for any page could send one. Send it \
         without Origin and Sec-Fetch-Site, or set mode = \"sigv4\" and sign the form.",
    ))
}

/// Reads a form up to its file, in a time that no sender can stretch: byte by byte 20 KB would last for days.
///
/// Errors: RequestTimeout, and those of [`form::read`].
async fn read_fields(source: Checked, content_type: &str) -> Result<Form> {
    timeout(FIELDS, form::read(source, content_type)).await.unwrap_or_else(|_| {
        Err(Error::new(
            Code::RequestTimeout,
            format!(
                "The fields before the form's file did not come within {} seconds. Try again.",
                FIELDS.as_secs()
            ),
        ))
    })
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
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::auth::Payload;

    /// It never stops sending, so it never idles.
    #[tokio::test(start_paused = true)]
    async fn fields_that_trickle_in_do_not_hold_on_for_ever() {
        let head = Bytes::from_static(b"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n");
        let pieces = futures_util::stream::unfold(Some(head), |first| async {
            sleep(Duration::from_secs(1)).await;
            let piece = first.unwrap_or(Bytes::from_static(b"k"));
            Some((Ok(Frame::data(piece)), None))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let source = Checked::new(body, Payload::of_length(1 << 20), Duration::from_secs(5)).unwrap();
        let begun = Instant::now();
        let error = read_fields(source, "multipart/form-data; boundary=x").await.unwrap_err();
        assert_eq!((error.code(), begun.elapsed()), (Code::RequestTimeout, FIELDS));
    }

    #[test]
    fn pages_of_browsers() {
        for (name, value, taken) in [
            ("origin", "https://example.com", false),
            ("origin", "null", false),
            ("origin", "http://127.0.0.1:8333", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("user-agent", "a program", true),
        ] {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            let refused = refuse_pages(&headers).err().map(|error| error.code());
            assert_eq!(refused, (!taken).then_some(Code::AccessDenied), "{name}: {value}");
        }
    }

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
