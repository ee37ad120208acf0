//! An object sealed where it is, and opened again: read from the store, written the way of clients under the condition that it
//! is still the one that was read, read back and compared.

use http::header::{self, HeaderMap};

use super::super::{get, open};
use super::bodies::{Span, Sum, broken};
use super::kept::{Keeping, stored_length};
use super::overtaken::Step;
use super::parts::Journal;
use super::{Estate, Rule, etag, key_of, refusal, retried, target, was_changed};
use crate::auth::Payload;
use crate::body::{self, ByteBody, gather};
use crate::operation::{Call, Operation};
use crate::s3::listing::Listed;
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal::{MAGIC_LEN, Sse};

/// Storage classes whose objects can't be read before they are restored.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The longest object that is read whole before it is written, in plaintext bytes; longer ones go by parts. MinIO begins with a
/// write under a condition only when nobody reads the object any more: if it were read while it is written, it would wait for
/// itself.
const WHOLE: u64 = 8 * 1024 * 1024;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Plain objects are sealed.
    Seal,
    /// Sealed objects are opened.
    Open,
}

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Which way.
    pub direction: Direction,
    /// Long objects go by parts of so many plaintext bytes.
    pub part: u64,
    /// What is asked for to be kept.
    pub keeping: Keeping,
    /// Whether PutObject is told which object it may replace. Without that a write of a client's at the same moment is lost.
    pub guard_put: bool,
    /// The same for CompleteMultipartUpload.
    pub guard_complete: bool,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is what it should be now. Plaintext bytes, and the versions where the store keeps them.
    Done(u64, Option<Step>),
    /// It was already.
    Already,
    /// The rule for its key says otherwise: nothing is sealed there, or everything is.
    ByRule,
    /// Its client's own key sealed it, which only the client has.
    Customer,
    /// It was deleted meanwhile.
    Gone,
}

/// An object that is to be written anew.
pub(super) struct Passage<'a> {
    pub estate: &'a Estate,
    pub object: (&'a Bucket, &'a Key),
    pub how: How,
    /// Its head at the store.
    pub met: &'a HeaderMap,
    /// Plaintext bytes.
    pub length: u64,
}

impl Estate {
    /// What would become of an object. `Done` holds its stored bytes here, which are about as many.
    ///
    /// Errors: those of the store.
    pub async fn would_migrate(&self, bucket: &Bucket, listed: &Listed, how: How) -> Result<Moved> {
        let key = key_of(listed)?;
        if !self.fits(bucket, &key, how.direction).await? {
            return Ok(Moved::ByRule);
        }
        let Some(met) = self.head(target(bucket, &key, None)).await? else { return Ok(Moved::Gone) };
        Ok(settled(&met, how.direction)?.unwrap_or(Moved::Done(listed.size, None)))
    }

    /// Seals or opens an object. `again`: it was tried before, and may have been written without a word of it.
    ///
    /// Errors: those of store and KMS, the integrity error; ObjectReplaced for one that a client writes at the same moment.
    pub async fn migrate(
        &self,
        bucket: &Bucket,
        listed: &Listed,
        how: How,
        journal: &impl Journal,
        again: bool,
    ) -> Result<Moved> {
        let key = key_of(listed)?;
        if !self.fits(bucket, &key, how.direction).await? {
            return Ok(Moved::ByRule);
        }
        match self.once((bucket, &key), how, journal, again).await {
            Err(error) if was_changed(&error) => Err(super::super::target::replaced().caused_by(error)),
            result => result,
        }
    }

    pub(super) async fn fits(&self, bucket: &Bucket, key: &Key, direction: Direction) -> Result<bool> {
        let wanted = if direction == Direction::Seal { Rule::Seals } else { Rule::Passes };
        Ok(self.rule((bucket, key)).await? == wanted)
    }

    async fn once(
        &self,
        object: (&Bucket, &Key),
        how: How,
        journal: &impl Journal,
        again: bool,
    ) -> Result<Moved> {
        let place = target(object.0, object.1, None);
        let Some(met) = self.head(place).await? else { return Ok(Moved::Gone) };
        if let Some(settled) = settled(&met, how.direction)? {
            // What may be ours was not compared; that it authenticates can still be seen.
            if again && settled == Moved::Already && how.direction == Direction::Seal {
                let answer = self.client_bytes(object, &met, None).await?;
                self.read(answer.into_body()).await?;
            }
            return Ok(settled);
        }
        let length = match how.direction {
            Direction::Seal => stored_length(&met),
            Direction::Open => {
                open::sealed(&self.rooms, place, &met).await?.map(|sealed| sealed.length.get())
            }
        };
        let length =
            length.ok_or_else(|| Error::new(Code::InternalError, "The store gave an object no length."))?;
        let passage = Passage { estate: self, object, how, met: &met, length };
        let written = match length > how.part.min(WHOLE) {
            true => passage.by_parts(journal).await?,
            false => passage.whole().await?,
        };
        Ok(Moved::Done(length, Step::of(object.1, &met, &written)))
    }
}

impl Passage<'_> {
    /// The head of what was written.
    async fn whole(&self) -> Result<HeaderMap> {
        let mut headers = self.kept(self.met).await?;
        if self.how.guard_put {
            headers.insert(header::IF_MATCH, etag(self.met)?);
        }
        let (body, read) = self.source(None).await?;
        let body = gather(body, WHOLE as usize).await.map_err(|why| read.or(broken(why)))?;
        let checksum = whole_checksum(self.met).filter(|_| self.how.direction == Direction::Seal);
        let payload = Payload { checksum, ..Payload::of_length(self.length) };
        let call = Call::by_operator(Operation::PutObject, self.object, Query::default(), headers, payload);
        let answer = self.estate.ask(call, body::full(body)).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        self.compare(answer.headers(), None, &read).await?;
        Ok(answer.into_parts().0.headers)
    }

    /// What is kept of the object with this head.
    pub async fn kept(&self, met: &HeaderMap) -> Result<HeaderMap> {
        let place = target(self.object.0, self.object.1, None);
        self.estate.kept(place, met, self.how.keeping).await
    }

    /// The plaintext of the object, or a span of it.
    ///
    /// Errors: the integrity error for an object that was sealed, and has lost its envelope.
    pub async fn source(&self, span: Option<Span>) -> Result<(ByteBody, Sum)> {
        let body = match self.how.direction {
            Direction::Open => self.estate.client_bytes(self.object, self.met, span).await?.into_body(),
            Direction::Seal => {
                let body = self.estate.stored_bytes(self.object, self.met, span).await?;
                match span {
                    Some(span) if span.start > 0 => body,
                    _ => {
                        let (first, body) = body::peek(body, MAGIC_LEN as usize).await.map_err(broken)?;
                        get::refuse_magic(&first)?;
                        body
                    }
                }
            }
        };
        Ok(self.estate.summed(body))
    }

    /// Reads back what was written.
    ///
    /// Errors: the integrity error if it is something else.
    pub async fn compare(&self, written: &HeaderMap, span: Option<Span>, read: &Sum) -> Result<()> {
        // What goes to an archive can't be read there.
        if self.met.get("x-amz-storage-class").is_some_and(|class| ARCHIVES.iter().any(|name| class == name))
        {
            return Ok(());
        }
        match retried(|_| self.read_back(written, span)).await? {
            // A client has put another one there, so nobody reads this one any more.
            None => Ok(()),
            back if back.as_ref() == read.get() => Ok(()),
            _ => Err(Error::new(
                Code::ObjectIntegrityError,
                "The object reads differently from what was written. Restore it from a good copy, and look at the store.",
            )),
        }
    }

    /// Checksum and length of what is there now; none if it is another object.
    async fn read_back(
        &self,
        written: &HeaderMap,
        span: Option<Span>,
    ) -> Result<Option<(crate::s3::checksum::Checksum, u64)>> {
        match self.estate.client_bytes(self.object, written, span).await {
            Ok(answer) => self.estate.read(answer.into_body()).await.map(Some),
            Err(error) if was_changed(&error) => {
                let (bucket, key) = self.object;
                let now = self.estate.head(target(bucket, key, None)).await?;
                let same = now.is_some_and(|now| now.get(header::ETAG) == written.get(header::ETAG));
                if same { Err(super::super::target::replaced().caused_by(error)) } else { Ok(None) }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an upload that failed. False if it stays.
    pub async fn abort(&self, id: &str) -> bool {
        let (bucket, key) = self.object;
        let removed = self.estate.give_up(bucket, key, id).await;
        if let Err(why) = &removed {
            tracing::warn!(%why, "an upload that failed can't be removed now");
        }
        removed.is_ok()
    }
}

/// What there is to say of an object with this head before anything is done, if that is all.
fn settled(met: &HeaderMap, direction: Direction) -> Result<Option<Moved>> {
    let envelope = open::parsed(met)?;
    Ok(match (envelope, direction) {
        (None, Direction::Open) | (Some(_), Direction::Seal) => Some(Moved::Already),
        (Some(envelope), Direction::Open) if envelope.header().sse == Sse::Customer => Some(Moved::Customer),
        _ => None,
    })
}

/// The checksum that the store keeps of a whole plain object, if it has one.
fn whole_checksum(met: &HeaderMap) -> Option<crate::s3::checksum::Checksum> {
    use crate::s3::checksum::{Algorithm, Checksum};
    if met.get("x-amz-checksum-type").is_some_and(|kind| kind != "FULL_OBJECT") {
        return None;
    }
    Algorithm::all()
        .find_map(|algorithm| Checksum::parse(algorithm, met.get(algorithm.header())?.to_str().ok()?))
}
