//! Reading composite objects: their manifests, found at their end and remembered; a range of their parts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::header::HeaderMap;
use moka::sync::Cache;

use super::open::{self, Sealed};
use super::target::Target;
use super::wish::Wish;
use super::{Answer, Rooms, get};
use crate::backend::StoreResponse;
use crate::body::Opening;
use crate::operation::Call;
use crate::response;
use crate::s3::range::RangeSpec;
use crate::s3::{Bucket, Key, Result};
use crate::seal::{
    self, FOOTER_LEN, Located, Manifest, Opened, PartSalt, PlainRange, SealedLen, SealedRange, block_len,
};

/// Parts of which manifests are remembered, in all objects together: some 20 MiB.
const PARTS: u64 = 200_000;

/// What a manifest costs beside its parts, in parts.
const BESIDE: u32 = 10;

/// What is asked of an object's end at first: all of the block, where there are up to some thousand parts.
const TAIL: u64 = 128 * 1024;

/// Sealed bytes that may be read for nothing.
const SURPLUS: u64 = 2 * 1024 * 1024;

/// An upload is known by its commitment; with the size of the object, so is its manifest.
type Id = ([u8; 32], u64);

/// The manifests that were met.
pub struct Manifests {
    known: Cache<Id, Arc<Known>>,
    /// Where they were met last: what to ask for the next time.
    last: Cache<(Bucket, Key, Option<String>), Id>,
}

/// A composite object, as far as it has been read.
pub(super) struct Known {
    pub manifest: Arc<Manifest>,
    /// By the place of the part's head.
    salts: Mutex<HashMap<u64, PartSalt>>,
}

impl Default for Manifests {
    fn default() -> Self {
        let weigh = |_: &Id, known: &Arc<Known>| known.manifest.parts().len() as u32 + BESIDE;
        Self {
            known: Cache::builder().max_capacity(PARTS).weigher(weigh).build(),
            last: Cache::new(PARTS / 16),
        }
    }
}

impl Manifests {
    /// The sealed bytes to ask for, if this was a composite object the last time.
    pub(super) fn guess(&self, call: &Call, wish: Wish) -> Option<RangeSpec> {
        let target = Target::of(call).ok()?;
        let known = self.known.get(&self.last.get(&place(target))?)?;
        let range = wish.resolve_parts(&known.manifest).ok()?;
        if range == PlainRange::whole(known.manifest.length()) && wish == Wish::Whole {
            return None;
        }
        let sealed = known.manifest.locate(range)?.sealed;
        Some(RangeSpec::FromTo(sealed.start(), sealed.end() - 1))
    }

    /// Another object is there by now: nothing is guessed of it, and nothing kept of the one before it.
    pub(super) fn forget(&self, target: Target<'_>) {
        if let Some(replaced) = self.last.remove(&place(target)) {
            self.known.invalidate(&replaced);
        }
    }

    /// This one is there by now. One that it has replaced is met no more, but as a copy or an older version: that is read anew.
    fn met(&self, target: Target<'_>, id: Id) {
        let place = place(target);
        if self.last.get(&place) != Some(id) {
            self.forget(target);
            self.last.insert(place, id);
        }
    }

    /// The manifest of an object of this size, whose key is open.
    pub(super) async fn of(
        &self,
        rooms: &Rooms,
        target: Target<'_>,
        met: &HeaderMap,
        opened: &Opened,
        size: SealedLen,
    ) -> Result<Arc<Known>> {
        let id = (opened.commitment(), size.get());
        self.met(target, id);
        if let Some(known) = self.known.get(&id) {
            return Ok(known);
        }
        let end = |len: u64| {
            SealedRange::new(size.get() - len.min(size.get()), size.get()).ok_or(seal::Error::Tampered)
        };
        let mut tail = target.bytes(rooms, met, end(TAIL)?).await?;
        let footer = tail.last_chunk::<{ FOOTER_LEN as usize }>().ok_or(seal::Error::Tampered)?;
        let len = block_len(footer, size)?;
        if len > tail.len() as u64 {
            tail = target.bytes(rooms, met, end(len)?).await?;
        }
        let block = &tail[tail.len() - len as usize..];
        let manifest = Arc::new(opened.open_manifest(block, size)?);
        let known = Arc::new(Known { manifest, salts: Mutex::default() });
        self.known.insert(id, known.clone());
        Ok(known)
    }
}

impl Known {
    /// The salt of the first part of a range, if its head is not read with it.
    async fn salt(
        &self,
        rooms: &Rooms,
        target: Target<'_>,
        met: &HeaderMap,
        located: &Located,
    ) -> Result<Option<PartSalt>> {
        let Some(head) = located.head else { return Ok(None) };
        let kept = self.salts().get(&head.start()).cloned();
        match kept {
            Some(salt) => Ok(Some(salt)),
            None => Ok(Some(PartSalt::parse(&target.bytes(rooms, met, head).await?)?)),
        }
    }

    /// Remembers a salt that has opened a chunk: any other could be the store's mistake, and would stay.
    fn proved(&self, located: &Located, salt: Option<PartSalt>) {
        if let (Some(head), Some(salt)) = (located.head, salt) {
            self.salts().insert(head.start(), salt);
        }
    }

    fn salts(&self) -> MutexGuard<'_, HashMap<u64, PartSalt>> {
        self.salts.lock().expect("no code panics while it holds this lock")
    }
}

fn place(target: Target<'_>) -> (Bucket, Key, Option<String>) {
    (target.bucket.clone(), target.key.clone(), target.version.map(str::to_owned))
}

/// GetObject of a composite object, of which the store's answer holds something.
pub(super) async fn get_composite(
    rooms: &Rooms,
    call: &Call,
    wish: Wish,
    sealed: Sealed,
    known: Arc<Known>,
    mut store: StoreResponse,
) -> Result<Answer> {
    let (target, total) = (Target::of(call)?, sealed.length);
    let range = wish.resolve_parts(&known.manifest)?;
    let located = known.manifest.locate(range).ok_or(seal::Error::Tampered)?;
    let met = store.headers().clone();
    // Of the first answer: a second one knows nothing of response-content-type and the like.
    let mut headers = get::sealed_headers(&met, &sealed);
    wish.describe(&mut headers, range, total);
    describe(&mut headers, call, wish, range, &known.manifest);
    let salt = known.salt(rooms, target, &met, &located);
    // What lies behind the range is read to its end, so that the connection can serve again: not if it is much.
    let surplus = sealed.received.end().saturating_sub(located.sealed.end());
    let skip = sealed.received.skip_to(located.sealed).ok();
    let skip = skip.filter(|skip| skip.saturating_add(surplus) <= SURPLUS);
    let (salt, skip) = match skip {
        Some(skip) => (salt.await?, skip),
        None => {
            let exact = target.again(rooms, &met, located.sealed);
            let (salt, exact) = futures_util::future::try_join(salt, exact).await?;
            store = exact;
            (salt, open::received(store.headers())?.0.skip_to(located.sealed)?)
        }
    };
    let opener = sealed.opened.into_composite_opener(known.manifest.clone(), range, salt.clone())?;
    let mut opening = Opening::new(store.into_body(), opener, skip, false, rooms.metrics.opening());
    // The first chunk is opened before the head goes out: most damage is then a clear error, not a cut stream.
    opening.prime().await?;
    known.proved(&located, salt);
    Ok(get::answer(wish.status(range), headers, opening.into_body()))
}

/// The headers that only composite objects have: the number of parts, where one is asked for; the checksum, of the object
/// or of the part.
pub(super) fn describe(
    headers: &mut HeaderMap,
    call: &Call,
    wish: Wish,
    range: PlainRange,
    manifest: &Manifest,
) {
    let parts = manifest.parts().len();
    let whole = range == PlainRange::whole(manifest.length());
    let shown = match wish {
        Wish::Part(number) => {
            headers.insert("x-amz-mp-parts-count", parts.into());
            super::multipart::of_part(manifest, number)
        }
        _ if whole => manifest.checksum().and_then(|sum| super::multipart::of_manifest(sum, parts)),
        _ => None,
    };
    if let Some((algorithm, value, kind)) = shown.filter(|_| get::wants_checksum(call.headers())) {
        response::add_checksum_text(headers, algorithm, &value, kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Who;
    use crate::seal::{Part, PartNumber, PlainLen};

    fn known() -> Arc<Known> {
        let part =
            Part { number: PartNumber::new(1).unwrap(), length: PlainLen::new(1).unwrap(), checksum: None };
        let manifest = Manifest::new(vec![part], None, [0; 32]).unwrap();
        Arc::new(Known { manifest: Arc::new(manifest), salts: Mutex::default() })
    }

    #[test]
    fn of_what_was_replaced_nothing_is_kept() {
        let manifests = Manifests::default();
        let (bucket, key) = (Bucket::parse("bucket").unwrap(), Key::parse("key").unwrap());
        let at =
            |version| Target { bucket: &bucket, key: &key, version, who: &Who::Anonymous, customer: None };
        let meet = |version, id: u8| {
            let id = ([id; 32], 1);
            manifests.met(at(version), id);
            manifests.known.insert(id, known());
        };
        let kept = || (1..5).filter(|id| manifests.known.contains_key(&([*id; 32], 1))).collect::<Vec<_>>();
        meet(None, 1);
        meet(None, 1);
        meet(Some("v"), 2);
        assert_eq!(kept(), [1, 2], "each version is an object");
        meet(None, 3);
        assert_eq!(kept(), [2, 3]);
        manifests.forget(at(None));
        assert_eq!(kept(), [2]);
        meet(None, 4);
        assert_eq!(kept(), [2, 4]);
    }
}
