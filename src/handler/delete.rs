//! DeleteObjects: read whole, each key judged, then passed on as it came.
//!
//! Source: Amazon S3 API Reference, DeleteObjects: at most 1,000 keys.

use http::Method;

use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{ByteBody, Checked};
use crate::operation::Call;
use crate::policy::{Listed, View};
use crate::s3::{Code, Error, Result, xml};

/// The largest document: 1,000 keys of 1,024 bytes, each byte escaped, with version ids.
const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;

pub(super) async fn delete_objects(
    rooms: &Rooms,
    mut call: Call,
    view: View,
    body: ByteBody,
) -> Result<Answer> {
    let payload = call.take_payload();
    let document = Checked::new(body, payload, rooms.client_idle)?.document(MAX_DOCUMENT).await?;
    for entry in xml::delete_keys(&document)? {
        if view.object(&entry.key) == Listed::Hidden {
            return Err(Error::new(
                Code::AccessDenied,
                format!(
                    "The policy of s3veil does not allow to delete '{}'. Nothing was deleted.",
                    entry.key
                ),
            ));
        }
    }
    let request = StoreRequest::new(
        Method::POST,
        call.bucket(),
        None,
        StoreHeaders::forwarded(call.headers()),
        call.who(),
    )
    .query(call.query().pick(&["delete"]))
    .body(StoreBody::document(document, view.forward()));
    Ok(super::forward::answer(rooms.backend.send(request).await?))
}
