//! What was written in a bucket that keeps versions, and is looked at again once clients' writes that were under way have ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::walk::Outcome;
use crate::handler::estate::{Estate, Step};
use crate::s3::{self, Bucket, Code};

/// What was written that long ago is looked at. A client's write that waits for its turn at MinIO asks for it each quarter of a
/// second or more often, and has it unless others do.
pub(super) const LEAST: Duration = Duration::from_secs(3);

/// The oldest waits so long, so that one listing serves many.
const MOST: Duration = Duration::from_secs(5);

/// So many at once, and nothing new is begun.
const MANY: usize = 10_000;

/// How often an object is done again before the store is not believed any more.
const AGAIN: u32 = 5;

/// What was written, with its number in the walk and what came of it.
pub(super) struct Written {
    pub number: u64,
    pub step: Step,
    pub outcome: Outcome,
}

/// By key: what had overtaken a client's write, and whether it could be removed.
type Overtakers = BTreeMap<String, s3::Result<()>>;

/// What waits to be looked at, and what is looked at.
pub(super) struct Settling {
    estate: Arc<Estate>,
    bucket: Bucket,
    waiting: VecDeque<(Instant, Written)>,
    /// What is done again, and how often it was.
    again: BTreeMap<String, u32>,
    looking: Option<(Vec<Written>, JoinHandle<s3::Result<Overtakers>>)>,
}

/// What was looked at: with its number, its key and what came of it; none for what is to be done again.
pub(super) type Settled = (u64, String, Option<Outcome>);

impl Settling {
    pub fn new(estate: &Arc<Estate>, bucket: &Bucket) -> Self {
        let (waiting, again) = (VecDeque::new(), BTreeMap::new());
        Self { estate: estate.clone(), bucket: bucket.clone(), waiting, again, looking: None }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.looking.is_none()
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MANY
    }

    pub fn push(&mut self, written: Written) {
        self.waiting.push_back((Instant::now(), written));
    }

    /// The next that have been looked at. Whoever drops this before it is done loses nothing.
    ///
    /// Errors: those of the store.
    pub async fn next(&mut self) -> anyhow::Result<Vec<Settled>> {
        if self.looking.is_none() {
            let Some((oldest, _)) = self.waiting.front() else { return std::future::pending().await };
            sleep_until(*oldest + MOST).await;
            let now = Instant::now();
            let due = self.waiting.partition_point(|(since, _)| *since + LEAST <= now);
            let batch: Vec<Written> = self.waiting.drain(..due).map(|(_, written)| written).collect();
            let steps: Vec<Step> = batch.iter().map(|written| written.step.clone()).collect();
            let (estate, bucket) = (self.estate.clone(), self.bucket.clone());
            let look = tokio::spawn(async move { estate.settle(&bucket, &steps).await });
            self.looking = Some((batch, look));
        }
        let (_, look) = self.looking.as_mut().expect("put there if it was not");
        let found = look.await;
        let (batch, _) = self.looking.take().expect("it was there");
        let found = found.context("a task broke")?;
        let mut overtakers = found
            .context("whether a client's write was overtaken can't be seen in the listing of versions")?;
        let settled = batch.into_iter().map(|Written { number, step, outcome }| {
            let often = self.again.remove(&step.key).unwrap_or(0);
            let outcome = match overtakers.remove(&step.key) {
                None => Some(outcome),
                Some(Ok(())) if often < AGAIN => {
                    self.again.insert(step.key.clone(), often + 1);
                    None
                }
                Some(Ok(())) => Some(Outcome::bad("failed", &busy())),
                Some(Err(why)) => Some(Outcome::bad("failed", &why)),
            };
            (number, step.key, outcome)
        });
        Ok(settled.collect())
    }

    /// Nothing more is looked at.
    pub fn clear(&mut self) {
        self.waiting.clear();
        if let Some((_, look)) = self.looking.take() {
            look.abort();
        }
    }
}

fn busy() -> s3::Error {
    let message = "Each time that it was written, the store has put a client's write behind. Run it again when fewer write.";
    s3::Error::new(Code::ObjectReplaced, message)
}
