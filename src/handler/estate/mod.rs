//! What an operator does with the objects of a store, one at a time: seals plain ones where they are and opens sealed ones
//! again, seals their keys under another EK, looks at them. For `s3veil migrate`, `rotate`, `verify` and `stat`.
//!
//! A body goes the way that a client's would, within the process: policy decides, the handlers seal, open and know multipart
//! uploads. What they can't know, how an object was written past s3veil, is asked of the store itself.

mod bodies;
mod jobs;
mod kept;
mod look;
mod migrate;
mod old;
mod overtaken;
mod parts;
mod probe;
mod rotate;
mod verify;

use std::num::NonZeroU64;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

pub use jobs::Job;
pub use kept::Keeping;
pub use look::Seen;
pub use migrate::{Direction, How, Moved};
pub use old::Old;
pub use overtaken::Step;
pub use parts::Journal;
pub use probe::Guards;
pub use rotate::{CopyBy, Rotated, Rotation};
pub use verify::{Depth, Verdict};

use super::own::{Kind, Own, Start};
use super::target::Target;
use super::{Answer, Rooms};
use crate::auth::{Payload, Who};
use crate::backend::{Pace, StoreResponse};
use crate::body::{self, ByteBody, gather};
use crate::operation::{Call, Operation};
use crate::policy::{Permit, Policy};
use crate::s3::listing::Listed;
use crate::s3::multipart::error_code;
use crate::s3::{Bucket, Code, Error, Key, Query, Result};

const ANSWER_MAX: usize = 64 * 1024;

/// The objects of a store, for whoever holds the configuration: with the store's default credentials.
pub struct Estate {
    rooms: Arc<Rooms>,
    policy: Policy,
    /// Bytes of bodies read from the store.
    pace: Option<Arc<Pace>>,
}

/// How a rule has objects written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Seals,
    Passes,
    Denies,
}

impl Estate {
    /// By this policy, in these rooms. `bytes_per_second`: how fast bodies may be read from the store.
    pub fn new(rooms: Arc<Rooms>, policy: Policy, bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { rooms, policy, pace: bytes_per_second.map(|limit| Arc::new(Pace::new(limit))) }
    }

    fn own<'a>(&'a self, bucket: &'a Bucket) -> Own<'a> {
        Own { rooms: &self.rooms, bucket, who: &Who::Trusted }
    }

    /// The clients' objects whose keys begin with `prefix`, in the order of the listing, or all versions of them with delete
    /// markers; those behind the key `after`. A page in memory.
    pub fn listed<'a>(
        &'a self,
        bucket: &'a Bucket,
        prefix: &'a str,
        versions: bool,
        after: Option<&str>,
    ) -> impl Stream<Item = Result<Listed>> + 'a {
        let kind = if versions { Kind::Versions } else { Kind::Objects };
        let start = after.map_or_else(Start::new, |key| Own::behind(kind, key));
        let pages = stream::try_unfold(Some(start), move |start| async move {
            let Some(start) = start else { return Ok::<_, Error>(None) };
            let (page, next) = self.page(bucket, kind, prefix, start).await?;
            Ok(Some((stream::iter(page.into_iter().map(Ok::<_, Error>)), next)))
        });
        pages.try_flatten().filter(|listed| {
            let clients = listed.as_ref().map_or(true, |one| !is_reserved(&one.key));
            std::future::ready(clients)
        })
    }

    /// A page, asked for again where the store is briefly away: a walk of days must not end for that.
    async fn page(
        &self,
        bucket: &Bucket,
        kind: Kind,
        prefix: &str,
        start: Start,
    ) -> Result<(Vec<Listed>, Option<Start>)> {
        let own = self.own(bucket);
        retried(|_| own.page(kind, prefix, start.clone())).await
    }

    /// Whether the bucket keeps versions.
    ///
    /// Errors: ServiceUnavailable, AccessDenied if the store does not say.
    pub async fn versioning(&self, bucket: &Bucket) -> Result<Versioning> {
        let request = self.own(bucket).request(Method::GET, None);
        let store = self.rooms.backend.send(request.query(Query::from_pairs([("versioning", "")]))).await?;
        match store.status() {
            StatusCode::OK => {}
            // It knows no versions.
            StatusCode::NOT_IMPLEMENTED => return Ok(Versioning::Off),
            _ => return Err(refusal(store).await),
        }
        let text = gather(store.into_body(), ANSWER_MAX).await.map_err(body::Broken::Store)?;
        let has = |status: &str| memchr::memmem::find(&text, status.as_bytes()).is_some();
        Ok(match (has("<Status>Enabled<"), has("<Status>Suspended<")) {
            (true, _) => Versioning::On,
            (_, true) => Versioning::Suspended,
            _ => Versioning::Off,
        })
    }

    /// What a client of s3veil would be answered, within the process.
    async fn ask(&self, call: Call, body: ByteBody) -> Result<Answer> {
        let permit = self.policy.decide(&call, &self.rooms).await?;
        super::run(&self.rooms, call, permit, body).await
    }

    /// How the rule for a key has objects written.
    async fn rule(&self, object: (&Bucket, &Key)) -> Result<Rule> {
        let call = call(Operation::PutObject, object, HeaderMap::new(), 0);
        match self.policy.decide(&call, &self.rooms).await {
            Ok(Permit::Write(_)) => Ok(Rule::Seals),
            Ok(_) => Ok(Rule::Passes),
            Err(error) if error.code() == Code::AccessDenied => Ok(Rule::Denies),
            Err(error) => Err(error),
        }
    }

    /// The object as the store has it, by its head; nothing if it is gone.
    async fn head(&self, target: Target<'_>) -> Result<Option<HeaderMap>> {
        let mut request = target.request(Method::HEAD);
        request
            .headers
            .set("x-amz-checksum-mode".parse().expect("a name"), HeaderValue::from_static("ENABLED"));
        found(self.rooms.backend.send(request).await?).await.map(|store| Some(store?.into_parts().0.headers))
    }

    /// Deletes a version.
    ///
    /// Errors: AccessDenied for one under a lock, those of the store.
    async fn delete(&self, version: Target<'_>) -> Result<()> {
        let store = self.rooms.backend.send(version.request(Method::DELETE)).await?;
        if store.status().is_success() { Ok(()) } else { Err(refusal(store).await) }
    }
}

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It never did.
    Off,
    /// It did.
    Suspended,
    /// It does.
    On,
}

/// Where an object is.
fn target<'a>(bucket: &'a Bucket, key: &'a Key, version: Option<&'a str>) -> Target<'a> {
    Target { bucket, key, version, who: &Who::Trusted, customer: None }
}

/// The key of a listed object.
///
/// Errors: InternalError for one that is no key of S3's.
fn key_of(listed: &Listed) -> Result<Key> {
    Key::parse(&listed.key).ok_or_else(|| Error::new(Code::InternalError, "The store lists what is no key."))
}

fn is_reserved(key: &str) -> bool {
    Key::parse(key).is_some_and(|key| key.is_reserved())
}

fn call(operation: Operation, object: (&Bucket, &Key), headers: HeaderMap, length: u64) -> Call {
    Call::by_operator(operation, object, Query::default(), headers, Payload::of_length(length))
}

/// The answer, if the object is there.
async fn found(store: StoreResponse) -> Result<Option<StoreResponse>> {
    match store.status() {
        status if status.is_success() => Ok(Some(store)),
        // A delete marker is found, and has nothing to get.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
        _ => Err(refusal(store).await),
    }
}

/// The error that an answer says.
async fn refusal(answer: Answer) -> Error {
    let status = answer.status();
    let text = gather(answer.into_body(), ANSWER_MAX).await.unwrap_or_default();
    let code = error_code(&text);
    let said = code.as_deref().unwrap_or("no code");
    let message = format!("The store answered {status} ({said}).");
    let passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
    // Two writes at the same moment, of which one is asked to try again.
    let known = match passing || status == StatusCode::CONFLICT {
        true => Code::ServiceUnavailable,
        false => code.as_deref().and_then(Code::from_store).unwrap_or(by_status(status)),
    };
    Error::new(known, message)
}

fn by_status(status: StatusCode) -> Code {
    match status {
        StatusCode::PRECONDITION_FAILED => Code::PreconditionFailed,
        StatusCode::NOT_FOUND => Code::NoSuchKey,
        StatusCode::FORBIDDEN => Code::AccessDenied,
        StatusCode::TOO_MANY_REQUESTS => Code::ServiceUnavailable,
        StatusCode::NOT_IMPLEMENTED => Code::NotImplemented,
        _ => Code::InvalidRequest,
    }
}

/// Whether the object under a guarded write was another one, or gone, by then.
fn was_changed(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::PreconditionFailed | Code::ObjectReplaced | Code::NoSuchKey | Code::NoSuchUpload
    )
}

fn etag(headers: &HeaderMap) -> Result<HeaderValue> {
    let etag = headers.get(header::ETAG).cloned();
    etag.ok_or_else(|| Error::new(Code::InternalError, "The store gave an object no ETag."))
}

/// How often, and how long after each other, something is tried that a store or a KMS could not do at the moment.
const TRIES: u32 = 6;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Does it, and again where a store or a KMS is briefly away. The work is told how often it was tried before.
///
/// Errors: those of the last try.
pub async fn retried<T, F: Future<Output = Result<T>>>(work: impl Fn(u32) -> F) -> Result<T> {
    for attempt in 0.. {
        match work(attempt).await {
            Err(error) if attempt + 1 < TRIES && may_pass(&error) => {
                tokio::time::sleep(PAUSE * 2u32.pow(attempt)).await;
            }
            result => return result,
        }
    }
    unreachable!("the last try returns")
}

/// Whether it is nothing of the object, but of a store or a KMS that is away.
pub fn may_pass(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::ServiceUnavailable | Code::SlowDown | Code::KmsUnavailable | Code::ObjectReplaced
    )
}
