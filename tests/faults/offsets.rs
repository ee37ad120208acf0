//! Connections to the store that break at every byte, in every way.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lane::{ALL, Lane, Operation, PATIENCE};
use crate::relay::{Fault, Kind, Way};

/// Where and how it breaks.
type Case = (Operation, Fault);

/// How long a store may be silent, in seconds: where it is, and where nothing should wait for that, so that it would hang.
const SILENCE: u64 = 4;
const NEVER: u64 = 60;

/// Bytes by which two requests of an operation may differ: sizes and times in decimal.
const SLACK: usize = 8;

/// What an operation sends and gets.
struct Passed {
    way: Way,
    length: usize,
    /// Where something begins.
    marks: Vec<usize>,
}

async fn passed(lane: &Lane, operation: Operation) -> [Passed; 2] {
    let (mut lengths, mut marks) = Default::default();
    // What is remembered of the first time is not asked again.
    for _ in 0..2 {
        lane.prepare(operation).await;
        lane.relay.arm(None);
        let reply = operation.ask(lane).await;
        assert!(reply.status.is_success(), "{operation:?}: {reply:?}");
        marks = lane.relay.marks();
        (_, lengths) = lane.relay.disarm();
        operation.judge(lane, Some(&reply), "with nothing in the way").await;
    }
    lane.reset();
    let ([asking, answering], [of_asking, of_answering]) = (lengths, marks);
    [
        Passed { way: Way::Asking, length: asking, marks: of_asking },
        Passed { way: Way::Answering, length: answering, marks: of_answering },
    ]
}

impl Passed {
    /// Every so-many-th byte, and each one next to where something begins or ends. Of a manifest, which is long and all alike,
    /// fewer.
    fn places(&self, step: usize) -> impl Iterator<Item = usize> {
        const SHORT: usize = 4096;
        let next = |at: usize| self.marks.iter().any(|mark| mark.abs_diff(at) < 3) || self.length - at < 3;
        let within = |at: usize| at > SHORT && at + SHORT < self.length;
        let due = move |at: usize| at.is_multiple_of(if within(at) { step * 101 } else { step });
        (0..self.length).filter(move |at| due(*at) || next(*at))
    }
}

/// Every how-manieth byte: `S3VEIL_FAULTS_STEP=1` leaves none out but of a manifest, and takes some minutes.
fn step(usual: usize) -> usize {
    std::env::var("S3VEIL_FAULTS_STEP")
        .map_or(usual, |text| text.parse().expect("S3VEIL_FAULTS_STEP is a number"))
}

/// Breaks each of these, some side by side, and returns how many there were. Nothing is left of them: no connection beyond
/// those that it took at first, and no task.
async fn run(lanes: usize, idle: u64, cases: impl AsyncFnOnce(&Lane) -> Vec<Case>) -> usize {
    let first = Lane::start_with_idle(idle).await;
    let cases = cases(&first).await;
    let (count, cases) = (cases.len(), Arc::new(Mutex::new(cases)));
    let mut warming = vec![tokio::spawn(warm(first))];
    for _ in 1..lanes {
        warming.push(tokio::spawn(warm(Lane::start_with_idle(idle).await)));
    }
    let mut warmed = Vec::new();
    for lane in warming {
        warmed.push(lane.await.unwrap());
    }
    let before = tasks(&warmed);
    let work = |(lane, most)| tokio::spawn(work(lane, most, cases.clone()));
    let running: Vec<_> = warmed.into_iter().map(work).collect();
    let mut worked = Vec::new();
    for lane in running {
        worked.push(lane.await.unwrap());
    }
    let begun = Instant::now();
    while tasks(&worked) > before {
        assert!(begun.elapsed() < PATIENCE, "{} tasks, not {before}", tasks(&worked));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}

/// Tasks that are alive, but for those of the connections to the stores: each has one at the relay and one at the store; at
/// s3veil the request moves it on that it carries.
fn tasks(lanes: &[(Lane, usize)]) -> usize {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let connections: usize = lanes.iter().map(|(lane, _)| lane.relay.live()).sum();
    alive.saturating_sub(2 * connections)
}

/// The lane once it has done everything, and the most connections that it took to the store.
async fn warm(lane: Lane) -> (Lane, usize) {
    lane.quiet().await;
    let mut connections = lane.relay.live();
    for operation in ALL {
        passed(&lane, operation).await;
        lane.quiet().await;
        connections = connections.max(lane.relay.live());
    }
    (lane, connections)
}

async fn work(lane: Lane, connections: usize, cases: Arc<Mutex<Vec<Case>>>) -> (Lane, usize) {
    loop {
        let Some((operation, fault)) = cases.lock().unwrap().pop() else { break };
        let what = format!("{operation:?}, {fault:?}");
        lane.prepare(operation).await;
        lane.relay.arm(Some(fault));
        let (reply, took) = operation.try_ask(&lane).await;
        let (met, [asking, answering]) = lane.relay.disarm();
        let passed = if fault.way == Way::Asking { asking } else { answering };
        assert!(
            met > 0 || passed + SLACK > fault.at,
            "{what}: it was not met, {passed} bytes passed, {reply:?}"
        );
        // A store that is silent is waited for, once.
        assert!(took < Duration::from_secs(2 * SILENCE) || fault.kind != Kind::Stall, "{what}: {took:?}");
        operation.judge(&lane, reply.as_ref(), &what).await;
    }
    // Nothing is left: no client's connection, no request, and no more connections to the store than it took at first.
    lane.quiet().await;
    let begun = Instant::now();
    while lane.relay.live() > connections {
        assert!(begun.elapsed() < PATIENCE, "{} connections, not {connections}", lane.relay.live());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (lane, connections)
}

/// All operations, both ways.
async fn everywhere(lane: &Lane, places: impl Fn(Operation, &Passed) -> Vec<Fault>) -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in ALL {
        for passed in passed(lane, operation).await {
            cases.extend(places(operation, &passed).into_iter().map(|fault| (operation, fault)));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resets() {
    let places = |operation, passed: &Passed| {
        let fault = |at| Fault { way: passed.way, at, kind: Kind::Reset, always: false };
        // The two that there is most of: at every byte.
        let usual = if matches!(operation, Operation::Put | Operation::Get) { 1 } else { 17 };
        passed.places(step(usual)).map(fault).collect()
    };
    println!("{} resets", run(4, NEVER, async |lane: &Lane| everywhere(lane, places).await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ends_and_half_ends() {
    let places = |_, passed: &Passed| {
        let kinds = [(61, Kind::Close, false), (67, Kind::Half, false), (97, Kind::Reset, true)];
        let faults = kinds.into_iter().flat_map(|(usual, kind, always)| {
            let fault = move |at| Fault { way: passed.way, at, kind, always };
            passed.places(step(usual)).map(fault)
        });
        faults.collect()
    };
    println!("{} ends", run(4, NEVER, async |lane: &Lane| everywhere(lane, places).await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn silence() {
    let places = |_, passed: &Passed| {
        let fault = |at| Fault { way: passed.way, at, kind: Kind::Stall, always: false };
        let sixths = (0..6).map(|sixth| passed.length * sixth / 6);
        sixths.chain([1, passed.length - 1]).map(fault).collect()
    };
    println!("{} silences", run(40, SILENCE, async |lane: &Lane| everywhere(lane, places).await).await);
}
