//! What belongs to an object beside its body, as the headers of a write that keeps it.
//!
//! Source: Amazon S3 API Reference, PutObject, GetObjectTagging, GetObjectAcl.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::copy::KEPT;
use super::super::target::Target;
use super::{ANSWER_MAX, Estate, refusal};
use crate::backend::StoreRequest;
use crate::body::{self, gather};
use crate::response;
use crate::s3::headers::{CONTEXT, ENVELOPE};
use crate::s3::multipart::from_store;
use crate::s3::{Code, Error, Result, xml};

const LOCK_MODE: &str = "x-amz-object-lock-mode";
const LOCK_UNTIL: &str = "x-amz-object-lock-retain-until-date";
const OTHERS: [&str; 3] =
    ["x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-object-lock-legal-hold"];

/// What is asked of the store for it, beside the object's head.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// The ACL.
    pub acl: bool,
    /// The tags even where the head says of none: not every store says how many there are.
    pub ask_tags: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Acl {
    owner: Grantee,
    access_control_list: Grants,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Grants {
    #[serde(rename = "Grant")]
    list: Vec<Grant>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Grant {
    grantee: Grantee,
    permission: String,
}

/// An account by its id, a group by its URI.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Grantee {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "URI")]
    uri: Option<String>,
}

impl Estate {
    /// The object's metadata, tags, storage class, website redirect, lock, and its ACL if that is wanted and the store shows
    /// it. Its ETag, owner, version and time of writing are the store's and can't be kept.
    ///
    /// Errors: those of the store, AccessDenied for tags or an ACL that it does not show: they would be lost.
    pub(super) async fn kept(
        &self,
        target: Target<'_>,
        stored: &HeaderMap,
        Keeping { acl, ask_tags }: Keeping,
    ) -> Result<HeaderMap> {
        let shown = response::forwarded(stored);
        let mut kept = HeaderMap::new();
        for (name, value) in &shown {
            let text = name.as_str();
            let metadata = text.starts_with("x-amz-meta-") && ![ENVELOPE, CONTEXT].contains(name);
            if KEPT.contains(name) || metadata || OTHERS.contains(&text) {
                kept.append(name.clone(), value.clone());
            }
        }
        if let (Some(mode), Some(until)) = (shown.get(LOCK_MODE), shown.get(LOCK_UNTIL))
            && is_ahead(until)
        {
            kept.insert(LOCK_MODE, mode.clone());
            kept.insert(LOCK_UNTIL, until.clone());
        }
        let shown_tags = shown.get("x-amz-tagging-count").is_some_and(|count| count != "0");
        if (shown_tags || ask_tags)
            && let Some(tags) = self.tags(target).await?
        {
            kept.insert("x-amz-tagging", tags);
        }
        if acl {
            self.grants(target, &mut kept).await?;
        }
        Ok(kept)
    }

    /// The tags, if there are any.
    async fn tags(&self, target: Target<'_>) -> Result<Option<HeaderValue>> {
        let mut request = target.request(Method::GET);
        request.query.push("tagging", "");
        let Some(text) = self.resource(request, "its tags").await? else { return Ok(None) };
        let tags = xml::tags_as_query(&text)?;
        let value = HeaderValue::from_str(&tags).expect("what is percent-encoded is a header value");
        Ok((!tags.is_empty()).then_some(value))
    }

    /// The document of a sub-resource; none from a store that has no such thing.
    async fn resource(&self, request: StoreRequest, what: &str) -> Result<Option<bytes::Bytes>> {
        let store = self.rooms.backend.send(request).await?;
        match store.status() {
            StatusCode::OK => {
                Ok(Some(gather(store.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?))
            }
            StatusCode::FORBIDDEN => Err(Error::new(
                Code::AccessDenied,
                format!(
                    "The store does not show what belongs to the object and would be lost. Let its credentials read {what}."
                ),
            )),
            status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                Err(refusal(store).await)
            }
            _ => Ok(None),
        }
    }

    /// The ACL as grants, unless it is what a write has without any: its owner's alone.
    async fn grants(&self, target: Target<'_>, kept: &mut HeaderMap) -> Result<()> {
        let mut request = target.request(Method::GET);
        request.query.push("acl", "");
        let Some(text) = self.resource(request, "its ACL, or leave ACLs with --no-acls").await? else {
            return Ok(());
        };
        let acl: Acl = from_store(&text)?;
        let of_owner = |grant: &Grant| {
            grant.grantee.id.is_none() && grant.grantee.uri.is_none() || grant.grantee == acl.owner
        };
        if acl.access_control_list.list.iter().all(of_owner) {
            return Ok(());
        }
        for Grant { grantee, permission } in &acl.access_control_list.list {
            let Some(name) = header_of(permission) else { continue };
            let grantee = match (&grantee.id, &grantee.uri) {
                (Some(id), _) => format!("id=\"{id}\""),
                (None, Some(uri)) => format!("uri=\"{uri}\""),
                (None, None) => continue,
            };
            let all = match kept.get(&name).and_then(|value| value.to_str().ok()) {
                Some(before) => format!("{before}, {grantee}"),
                None => grantee,
            };
            if let Ok(value) = HeaderValue::from_str(&all) {
                kept.insert(name, value);
            }
        }
        Ok(())
    }
}

fn header_of(permission: &str) -> Option<HeaderName> {
    Some(HeaderName::from_static(match permission {
        "READ" => "x-amz-grant-read",
        "READ_ACP" => "x-amz-grant-read-acp",
        "WRITE_ACP" => "x-amz-grant-write-acp",
        "FULL_CONTROL" => "x-amz-grant-full-control",
        // Of buckets.
        _ => return None,
    }))
}

/// Stores take no retention that has run out.
fn is_ahead(until: &HeaderValue) -> bool {
    let until = until.to_str().ok().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    until.is_none_or(|until| until > OffsetDateTime::now_utc())
}

/// The length of a stored object in stored bytes.
pub(super) fn stored_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
