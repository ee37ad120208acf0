//! All loads before one store, in turns.

use std::path::PathBuf;
use std::time::Duration;

use super::cases::{Case, LISTED, cases};
use super::contenders::Contender;
use super::counters::Counters;
use super::driver::{Load, What, run_within};
use super::peers::{self, Peer};
use super::prepare::Prepared;
use super::report;
use super::results::{Outcome, Round, Taken};
use super::wire::Target;

/// After this time no request of a turn is begun: a slow peer has fewer of them.
const TURN: Duration = Duration::from_secs(6);

/// How long a turn may take to its end.
const PATIENCE: Duration = Duration::from_secs(240);

/// A store, and what is known of it from outside.
pub struct World {
    pub name: &'static str,
    pub store: Target,
    pub process: peers::Process,
    /// Where it keeps its buckets, if in files.
    pub files: Option<PathBuf>,
    pub counters: Option<Counters>,
}

/// How often, and which loads.
pub struct Extent<'a> {
    pub rounds: usize,
    /// How the names of the wanted loads begin.
    pub only: &'a str,
    /// How many times as many requests.
    pub scale: f64,
}

/// Measures all loads, and prints a row for each peer.
pub async fn compare(
    world: &World,
    contenders: &mut [Contender],
    prepared: &mut Prepared,
    extent: &Extent<'_>,
) -> Result<Vec<Outcome>, String> {
    for contender in contenders.iter_mut() {
        if let Err(why) = prepared.bucket(contender).await {
            contender.peer = Err(format!("its bucket can't be made: {}", brief(&why)));
        }
    }
    let mut outcomes = Vec::new();
    for case in cases() {
        let requests = case.requests[usize::from(world.name != "null")];
        if !case.name.starts_with(extent.only) || requests == 0 {
            continue;
        }
        let requests = match case.what {
            What::Upload | What::Ranges => requests,
            _ => ((requests as f64 * extent.scale) as usize).max(1),
        };
        let outcome = rounds(world, contenders, prepared, &case, requests, extent.rounds).await;
        print!("{}", report::rows(&outcome));
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// All rounds of one load.
async fn rounds(
    world: &World,
    contenders: &[Contender],
    prepared: &mut Prepared,
    case: &Case,
    requests: usize,
    rounds: usize,
) -> Outcome {
    let writes = matches!(case.what, What::Put | What::Upload);
    let taking: Vec<&Contender> = contenders.iter().filter(|one| writes || !one.writes_only()).collect();
    let mut peers: Vec<Taken> = Vec::new();
    for contender in &taking {
        let unable = prepared.ready(contender, case).await.err().map(|why| brief(&why));
        peers.push(Taken { peer: contender.name.clone(), unable, rounds: vec![] });
    }
    let mut order: Vec<usize> = (0..taking.len()).collect();
    for _ in 0..rounds {
        for index in &order {
            let (contender, taken) = (taking[*index], &mut peers[*index]);
            let Ok(peer) = &contender.peer else { continue };
            if taken.unable.is_some() {
                continue;
            }
            let load = load(case, contender, prepared, requests);
            match turn(world, peer, &load).await {
                Ok(round) => taken.rounds.push(round),
                Err(why) => taken.unable = Some(brief(&why)),
            }
        }
        // Whoever comes after the slowest has the warmest, or the most tired, machine: not always the same one.
        if !order.is_empty() {
            order.rotate_left(1);
        }
    }
    Outcome { store: world.name.into(), load: case.name.clone(), peers }
}

fn load(case: &Case, contender: &Contender, prepared: &Prepared, requests: usize) -> Load {
    let path = match case.what {
        What::Put | What::Upload => contender.written(),
        What::Get => contender.kept(case.size),
        What::Ranges | What::Random(_) => contender.kept("large"),
        What::List(_) => format!("/{}/list/", contender.bucket),
    };
    Load { what: case.what, path, body: prepared.body(case.size), connections: case.connections, requests }
}

/// One peer's turn.
pub async fn turn(world: &World, peer: &Peer, load: &Load) -> Result<Round, String> {
    let process = peer.process.as_ref();
    if let Some(process) = process {
        process.forget_peak();
    }
    let counted = match &world.counters {
        Some(counters) => Some((counters, counters.read().await?)),
        None => None,
    };
    let (own, store) = (process.map(peers::Process::cpu), world.process.cpu());
    let sample = tokio::time::timeout(PATIENCE, run_within(&peer.target, load, TURN))
        .await
        .map_err(|_| format!("no end after {} s", PATIENCE.as_secs()))??;
    let store_cpu_s = world.process.cpu() - store;
    let cpu_s = process.map(|process| process.cpu() - own.expect("taken above"));
    let listing = load.what == What::List(LISTED);
    let operations = if listing { sample.latencies.len() } else { sample.sent } as f64;
    let counted = match counted {
        Some((counters, before)) => Some(counters.between(before, counters.read().await?)),
        None => None,
    };
    Ok(Round {
        p50_us: sample.quantile(500).as_secs_f64() * 1e6,
        p99_us: sample.quantile(990).as_secs_f64() * 1e6,
        seconds: sample.wall.as_secs_f64(),
        requests: sample.latencies.len(),
        bytes: sample.bytes,
        cpu_s,
        store_cpu_s,
        peak_bytes: process.map(peers::Process::peak).filter(|bytes| *bytes > 0),
        store_requests: counted.map(|counted| counted.store / operations),
        kms_calls: counted.map(|counted| counted.kms / operations),
    })
}

/// A reason on one line, as much of it as a list can take, without what every answer in XML begins with.
pub fn brief(why: &str) -> String {
    let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words.replace("<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "");
    words.replace("<?xml version='1.0' encoding='UTF-8'?>", "").chars().take(240).collect()
}
