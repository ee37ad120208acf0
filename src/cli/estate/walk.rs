//! All objects of an area, several at a time, in the order of their keys as far as what is done is remembered.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::super::Stops;
use super::checkpoint::Checkpoint;
use super::progress::{Count, Progress};
use super::settling::{Settling, Written};
use super::shard::Shard;
use super::{Area, Common};
use crate::handler::estate::{Estate, Step};
use crate::s3;
use crate::s3::listing::Listed;

/// How often is saved where the walk is.
const SAVES: Duration = Duration::from_secs(5);

/// So many failures, and something is wrong with more than the objects. As many are remembered.
const FAILURES: usize = 1_000;

/// How long what is at work may go on after a signal. A second one ends it at once.
const GRACE: Duration = Duration::from_secs(10);

/// What became of an object.
pub(super) struct Outcome {
    /// The line of the report that it counts for.
    pub what: String,
    /// Bytes of it that were moved or looked at.
    pub bytes: u64,
    /// What is wrong with it.
    pub problem: Option<Problem>,
    /// What it was written in place of, where the bucket keeps versions.
    pub step: Option<Step>,
}

/// What is wrong with an object.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub code: &'static str,
    pub message: String,
}

impl Outcome {
    pub fn good(what: impl Into<String>, bytes: u64) -> Self {
        Self { what: what.into(), bytes, problem: None, step: None }
    }

    /// It was written so.
    pub fn written(self, step: Option<Step>) -> Self {
        Self { step, ..self }
    }

    pub fn bad(what: impl Into<String>, error: &s3::Error) -> Self {
        let problem = Problem { code: error.code().as_str(), message: s3::error::chain(error) };
        Self { what: what.into(), bytes: 0, problem: Some(problem), step: None }
    }
}

/// What to do when it has ended before its end.
const AGAIN: &str = "Run it again: what was to be written goes on where it was";

/// An object that is known by its key alone: one that failed before.
fn named(key: String) -> Listed {
    Listed {
        key,
        version_id: None,
        is_latest: None,
        etag: String::new(),
        size: 0,
        last_modified: String::new(),
    }
}

fn is_named(listed: &Listed) -> bool {
    listed.etag.is_empty() && listed.version_id.is_none()
}

/// A walk over an area.
pub(super) struct Walk<'a> {
    pub estate: &'a Arc<Estate>,
    pub area: &'a Area,
    pub shard: Shard,
    pub workers: usize,
    /// All versions, or what is read without naming one.
    pub versions: bool,
    pub checkpoint: Option<&'a Checkpoint>,
    pub progress: &'a Arc<Progress>,
    pub count: bool,
}

/// Keys that are being worked on, each with the one before it.
#[derive(Default)]
struct Order {
    next: u64,
    last: Option<String>,
    at_work: BTreeMap<u64, Option<String>>,
}

impl Order {
    /// Begins with a key; with none for one that does not stand in the order.
    fn begin(&mut self, key: Option<&str>) -> u64 {
        let number = self.next;
        self.next += 1;
        let before = self.last.clone();
        if let Some(key) = key {
            self.last = Some(key.to_owned());
        }
        self.at_work.insert(number, before);
        number
    }

    /// The key up to which all is done now.
    fn end(&mut self, number: u64) -> Option<&str> {
        self.at_work.remove(&number);
        match self.at_work.first_key_value() {
            Some((_, before)) => before.as_deref(),
            None => self.last.as_deref(),
        }
    }
}

impl<'a> Walk<'a> {
    /// The walk that a command's arguments ask for.
    pub fn new(common: &'a Common, estate: &'a Arc<Estate>, progress: &'a Arc<Progress>) -> Self {
        Self {
            estate,
            area: &common.area,
            shard: common.shard,
            workers: common.workers.get(),
            versions: false,
            checkpoint: None,
            progress,
            count: !common.no_count,
        }
    }

    /// Does the work on each object.
    ///
    /// Errors: the store's, a signal to stop, and a run of failures: what was done until then is remembered.
    pub async fn run<F>(&self, work: impl Fn(Listed) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let after = self.checkpoint.and_then(Checkpoint::after);
        if let Some(key) = &after {
            self.progress.note(&format!("{}: goes on behind '{key}'", self.area));
        }
        let counted = self.count.then(|| tokio::spawn(self.counting(after.clone())));
        let shown = tokio::select! {
            done = self.all(after.as_deref(), work) => done,
            () = self.progress.show() => unreachable!("it is shown until it is done"),
        };
        if let Some(counted) = counted {
            counted.abort();
        }
        shown
    }

    async fn all<F>(&self, after: Option<&str>, work: impl Fn(Listed) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut stops = Stops::listen()?;
        let again = stream::iter(
            self.checkpoint.map(Checkpoint::failed).unwrap_or_default().into_iter().map(|key| Ok(named(key))),
        );
        let listed = self.estate.listed(&self.area.bucket, &self.area.prefix, self.versions, after);
        let listed = listed.try_filter(|one| std::future::ready(self.shard.has(&one.key)));
        let mut objects = pin!(again.chain(listed));
        let mut order = Order { last: after.map(str::to_owned), ..Order::default() };
        let (mut at_work, mut listing, mut ended) = (JoinSet::new(), true, Ok(()));
        let mut grace = pin!(sleep(Duration::from_secs(u64::from(u32::MAX))));
        let mut stopped = false;
        let mut saves = interval(SAVES);
        saves.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settling = Settling::new(self.estate, &self.area.bucket);
        while listing || !at_work.is_empty() || !settling.is_empty() {
            tokio::select! {
                next = objects.next(), if listing && at_work.len() < self.workers && !settling.is_full() => match next {
                    Some(Ok(one)) => {
                        // One that failed before stands before all that is still to come.
                        let number = order.begin(if is_named(&one) { None } else { Some(&one.key) });
                        let (key, work) = (one.key.clone(), work(one));
                        at_work.spawn(async move { (number, key, work.await) });
                    }
                    Some(Err(why)) => {
                        (listing, ended) = (false, Err(why).context(format!("{} can't be listed", self.area)));
                    }
                    None => listing = false,
                },
                Some(done) = at_work.join_next(), if !at_work.is_empty() => {
                    let (number, key, mut outcome) = done.context("a task broke")?;
                    if let Some(step) = outcome.step.take() {
                        if let Some(checkpoint) = self.checkpoint {
                            checkpoint.wrote(&step);
                        }
                        settling.push(Written { number, step, outcome });
                    } else if let Some(why) = self.ended(&mut order, number, &key, outcome) && listing {
                        (listing, ended) = (false, Err(why));
                    }
                }
                settled = settling.next(), if !settling.is_empty() => match settled {
                    Ok(settled) => for (number, key, outcome) in settled {
                        if let Some(checkpoint) = self.checkpoint {
                            checkpoint.settled(&key);
                        }
                        let Some(outcome) = outcome else {
                            // It is now what a client wrote meanwhile.
                            let (again, key) = (work(named(key.clone())), key);
                            at_work.spawn(async move { (number, key, again.await) });
                            continue;
                        };
                        if let Some(why) = self.ended(&mut order, number, &key, outcome) && listing {
                            (listing, ended) = (false, Err(why));
                        }
                    },
                    // What waits is looked at by the next run.
                    Err(why) => {
                        (listing, ended) = (false, Err(why));
                        settling.clear();
                    }
                },
                () = stops.next() => {
                    if stopped {
                        break;
                    }
                    (listing, stopped) = (false, true);
                    ended = Err(anyhow::anyhow!("stopped by a signal. {AGAIN}"));
                    grace.as_mut().reset(Instant::now() + GRACE);
                }
                () = &mut grace, if stopped => break,
                _ = saves.tick(), if self.checkpoint.is_some() => self.save().await?,
            }
        }
        // Nothing writes any more when this is written.
        settling.clear();
        at_work.shutdown().await;
        if ended.is_err() {
            self.save().await?;
        }
        ended
    }

    /// An object has been done, or could not be.
    ///
    /// Gives an error if too many could not.
    fn ended(&self, order: &mut Order, number: u64, key: &str, outcome: Outcome) -> Option<anyhow::Error> {
        let failed = outcome.problem.is_some();
        self.tell(key, outcome);
        let checkpoint = self.checkpoint?;
        let failures = checkpoint.tried(key, failed);
        if let Some(key) = order.end(number) {
            checkpoint.reached(key);
        }
        (failures >= FAILURES).then(|| anyhow::anyhow!("{failures} objects could not be done. {AGAIN}"))
    }

    async fn save(&self) -> anyhow::Result<()> {
        match self.checkpoint {
            Some(checkpoint) => checkpoint.save().await.context("where it is can't be kept in the store"),
            None => Ok(()),
        }
    }

    fn tell(&self, key: &str, outcome: Outcome) {
        let Outcome { what, bytes, problem, step: _ } = outcome;
        if let Some(problem) = &problem {
            self.progress.problem(&format!("s3://{}/{key}", self.area.bucket.as_str()), problem);
        }
        self.progress.done(what, bytes);
    }

    /// Counts all that there is to do.
    fn counting(&self, after: Option<String>) -> impl Future<Output = ()> + Send + 'static {
        let (estate, area, progress) = (self.estate.clone(), self.area.clone(), self.progress.clone());
        let (versions, shard) = (self.versions, self.shard);
        async move {
            let mut listed = pin!(estate.listed(&area.bucket, &area.prefix, versions, after.as_deref()));
            let mut total = Count::default();
            // An error shows in the walk itself.
            while let Some(Ok(one)) = listed.next().await {
                if shard.has(&one.key) {
                    (total.objects, total.bytes) = (total.objects + 1, total.bytes + one.size);
                }
            }
            progress.expects(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_ends_before_the_first_that_is_not() {
        let mut order = Order::default();
        let numbers: Vec<u64> = ["a", "b", "c", "d"].iter().map(|key| order.begin(Some(key))).collect();
        assert_eq!(order.end(numbers[2]), None);
        assert_eq!(order.end(numbers[0]), Some("a"));
        assert_eq!(order.end(numbers[1]), Some("c"));
        let last = order.begin(Some("e"));
        assert_eq!(order.end(numbers[3]), Some("d"));
        assert_eq!(order.end(last), Some("e"));
    }
}
