//! An object read to its end, so that every byte of it authenticates; or its envelope alone.

use http::header::HeaderMap;

use super::super::own::{Kind, Start};
use super::super::{get, open};
use super::bodies::broken;
use super::look::Seen;
use super::{Estate, call, found, key_of, refusal, target};
use crate::body;
use crate::operation::Operation;
use crate::s3::listing::Listed;
use crate::s3::{Bucket, Code, Error, Query, Result};
use crate::seal::MAGIC_LEN;

/// How much of an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// All of it.
    Bodies,
    /// Its envelope, and for an object by parts its manifest.
    Envelopes,
}

/// What an object proved to be.
#[derive(Debug)]
pub enum Verdict {
    /// Sealed, and what was looked at authenticates. Plaintext bytes that were read.
    Good(u64),
    /// It has no envelope.
    Plain,
    /// It was sealed, and has lost its envelope: nothing but a good copy of that opens it.
    Stripped,
    /// Only its client has the key.
    Customer,
    /// It does not authenticate.
    Tampered(Error),
    /// Its EK is disabled, gone, or not s3veil's to use.
    Locked(Error),
    /// It can't be read.
    Unreadable(Error),
    /// It was deleted meanwhile.
    Gone,
}

impl Estate {
    /// Verifies an object, or a version of it.
    ///
    /// Errors: those that may pass.
    pub async fn verify(&self, bucket: &Bucket, listed: &Listed, depth: Depth) -> Result<Verdict> {
        match self.prove(bucket, listed, depth).await {
            Err(error) if super::may_pass(&error) => Err(error),
            Err(error) => Ok(match error.code() {
                Code::ObjectIntegrityError | Code::KmsInvalid => Verdict::Tampered(error),
                Code::KmsDisabled | Code::KmsNotFound | Code::KmsDenied => Verdict::Locked(error),
                _ => Verdict::Unreadable(error),
            }),
            verdict => verdict,
        }
    }

    async fn prove(&self, bucket: &Bucket, listed: &Listed, depth: Depth) -> Result<Verdict> {
        let key = key_of(listed)?;
        match self.look(bucket, listed).await? {
            Seen::Gone => return self.gone(bucket, listed).await,
            Seen::Customer => return Ok(Verdict::Customer),
            Seen::Broken(error) => return Ok(Verdict::Tampered(error)),
            Seen::Plain => return self.plain(bucket, listed).await,
            Seen::Sealed { .. } => {}
        }
        let place = target(bucket, &key, listed.version_id.as_deref());
        if depth == Depth::Envelopes {
            let Some(met) = self.head(place).await? else { return Ok(Verdict::Gone) };
            return Ok(match open::sealed(&self.rooms, place, &met).await? {
                Some(_) => Verdict::Good(0),
                None => Verdict::Plain,
            });
        }
        let mut query = Query::default();
        if let Some(version) = &listed.version_id {
            query.push("versionId", version);
        }
        let call = call(Operation::GetObject, (bucket, &key), HeaderMap::new(), 0).with_query(query);
        let answer = self.ask(call, body::empty()).await?;
        if !answer.status().is_success() {
            let error = refusal(answer).await;
            return if error.code() == Code::NoSuchKey {
                self.gone(bucket, listed).await
            } else {
                Err(error)
            };
        }
        self.read(answer.into_body()).await.map(|(_, length)| Verdict::Good(length))
    }

    /// An object that is listed and not there: deleted meanwhile, or else the store has lost it.
    async fn gone(&self, bucket: &Bucket, listed: &Listed) -> Result<Verdict> {
        if listed.is_marker() {
            return Ok(Verdict::Gone);
        }
        let kind = if listed.version_id.is_some() { Kind::Versions } else { Kind::Objects };
        let (page, _) = self.own(bucket).page(kind, &listed.key, Start::new()).await?;
        let same = |one: &Listed| (&one.key, &one.version_id) == (&listed.key, &listed.version_id);
        match page.iter().any(same) {
            false => Ok(Verdict::Gone),
            true => Ok(Verdict::Unreadable(Error::new(
                Code::NoSuchKey,
                "The store lists the object and does not have it.",
            ))),
        }
    }

    /// An object without an envelope: one that begins as only sealed bodies do has lost it.
    async fn plain(&self, bucket: &Bucket, listed: &Listed) -> Result<Verdict> {
        if listed.size < MAGIC_LEN {
            return Ok(Verdict::Plain);
        }
        let key = key_of(listed)?;
        let mut request = target(bucket, &key, listed.version_id.as_deref()).request(http::Method::GET);
        let range = crate::s3::range::RangeSpec::FromTo(0, MAGIC_LEN - 1);
        request.headers.set(http::header::RANGE, range.to_header());
        let Some(store) = found(self.rooms.backend.send(request).await?).await? else {
            return Ok(Verdict::Gone);
        };
        let (first, _) = body::peek(store.into_body(), MAGIC_LEN as usize).await.map_err(broken)?;
        Ok(if get::refuse_magic(&first).is_ok() { Verdict::Plain } else { Verdict::Stripped })
    }
}
