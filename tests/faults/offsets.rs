//! Connections to the store that break at every byte, in every way.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::alone;
use crate::lane::{ALL, Lane, Operation, PATIENCE};
use crate::relay::{Fault, Kind, Way};

/// Where and how it breaks.
type Case = (Operation, Fault);

/// Bytes by which two requests of an operation may differ: sizes and times in decimal.
const SLACK: usize = 8;

/// What an operation sends and gets, in bytes.
async fn lengths(lane: &Lane, operation: Operation) -> [(Way, usize); 2] {
    lane.reset();
    lane.relay.arm(None);
    let reply = operation.ask(lane).await;
    assert!(reply.status.is_success(), "{operation:?}: {reply:?}");
    let (_, [asking, answering]) = lane.relay.disarm();
    operation.judge(lane, &reply, "with nothing in the way").await;
    lane.reset();
    [(Way::Asking, asking), (Way::Answering, answering)]
}

/// Breaks each of these, some side by side, and returns how many there were.
async fn run(lanes: usize, cases: impl AsyncFnOnce(&Lane) -> Vec<Case>) -> usize {
    let first = Lane::start().await;
    let cases = cases(&first).await;
    let (count, cases) = (cases.len(), Arc::new(Mutex::new(cases)));
    let mut running = vec![tokio::spawn(work(first, cases.clone()))];
    for _ in 1..lanes {
        running.push(tokio::spawn(work(Lane::start().await, cases.clone())));
    }
    for lane in running {
        lane.await.unwrap();
    }
    count
}

async fn work(lane: Lane, cases: Arc<Mutex<Vec<Case>>>) {
    lane.quiet().await;
    let mut connections = lane.relay.live();
    for operation in ALL {
        lengths(&lane, operation).await;
        lane.quiet().await;
        connections = connections.max(lane.relay.live());
    }
    loop {
        let Some((operation, fault)) = cases.lock().unwrap().pop() else { break };
        let what = format!("{operation:?}, {fault:?}");
        lane.reset();
        lane.relay.arm(Some(fault));
        let begun = Instant::now();
        let reply = operation.ask(&lane).await;
        let took = begun.elapsed();
        let (met, [asking, answering]) = lane.relay.disarm();
        let passed = if fault.way == Way::Asking { asking } else { answering };
        assert!(met > 0 || passed + SLACK > fault.at, "{what}: it was not met");
        // A store that is silent is waited for, once; nothing else takes time.
        let patience =
            if fault.kind == Kind::Stall { Duration::from_secs(4) } else { Duration::from_secs(2) };
        assert!(took < patience, "{what}: {took:?}");
        operation.judge(&lane, &reply, &what).await;
    }
    // Nothing is left: no client's connection, no request, and no more connections to the store than it took at first.
    lane.quiet().await;
    let begun = Instant::now();
    while lane.relay.live() > connections {
        assert!(begun.elapsed() < PATIENCE, "{} connections, not {connections}", lane.relay.live());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_reset_at_every_byte() {
    alone(async {
        let cases = async |lane: &Lane| {
            let mut cases = Vec::new();
            for operation in ALL {
                for (way, length) in lengths(lane, operation).await {
                    let fault = |at| Fault { way, at, kind: Kind::Reset, always: false };
                    cases.extend((0..length).map(|at| (operation, fault(at))));
                }
            }
            cases
        };
        println!("{} resets", run(4, cases).await);
    });
}

#[test]
fn ends_and_half_ends() {
    alone(async {
        let cases = async |lane: &Lane| {
            let mut cases = Vec::new();
            for operation in ALL {
                for (way, length) in lengths(lane, operation).await {
                    for (step, kind, always) in
                        [(13, Kind::Close, false), (17, Kind::Half, false), (29, Kind::Reset, true)]
                    {
                        let fault = |at| Fault { way, at, kind, always };
                        cases.extend((0..length).step_by(step).map(|at| (operation, fault(at))));
                    }
                }
            }
            cases
        };
        println!("{} ends", run(4, cases).await);
    });
}

#[test]
fn silence() {
    alone(async {
        let cases = async |lane: &Lane| {
            let mut cases = Vec::new();
            for operation in ALL {
                for (way, length) in lengths(lane, operation).await {
                    let fault = |at| Fault { way, at, kind: Kind::Stall, always: false };
                    let places = (0..6).map(|sixth| length * sixth / 6).chain([1, length - 1]);
                    cases.extend(places.map(|at| (operation, fault(at))));
                }
            }
            cases
        };
        println!("{} silences", run(40, cases).await);
    });
}
