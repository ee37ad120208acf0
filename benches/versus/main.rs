//! s3veil beside nginx and beside nothing: the same load on the same store, in turns within one run.
//!
//! ```text
//! cargo bench --bench versus                          # null store, MinIO, memory: some minutes
//! cargo bench --bench versus -- null memory           # only these
//! cargo bench --bench versus -- null --only "GET 64"  # only loads whose name begins so
//! cargo bench --bench versus -- null --also before=/tmp/s3veil-before    # another build beside this one
//! ```
//!
//! nginx and MinIO come from `tests/setup`. Everything listens on free loopback ports and ends with the run.

mod driver;
mod null_store;
mod peers;
mod report;
#[path = "../../tests/support/servers.rs"]
mod servers;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Parser as _;
use http::Method;
use serde_json::json;

use driver::{Load, Target, What, once, run};
use peers::Peer;
use report::{HEAD, Outcome, Turn};

#[derive(clap::Parser)]
struct Arguments {
    /// What to measure: null, minio, memory. All if none is named.
    stores: Vec<String>,
    /// How often each peer has its turn.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only loads whose name begins so, for instance "GET 64".
    #[arg(long, default_value = "")]
    only: String,
    /// The s3veil to measure, instead of the one just built.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_s3veil"))]
    program: PathBuf,
    /// Further builds of s3veil that take their turns.
    #[arg(long, value_name = "NAME=PROGRAM")]
    also: Vec<String>,
    /// Where the figures go besides the table.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/versus.json"))]
    json: PathBuf,
    /// Clients at once in the measurement of memory.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A load with its name, and how often it is sent on each of so many connections.
struct Case {
    name: String,
    what: What,
    size: &'static str,
    connections: usize,
    /// To the null store, and to MinIO; none if the store does not take part.
    requests: [usize; 2],
}

const SIZES: [(&str, usize); 4] =
    [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("8 MiB", 8 << 20), ("64 MiB", 64 << 20)];

/// Bytes of the object that is uploaded by parts and read by ranges: 1 GiB.
const LARGE: usize = 1 << 30;
const LARGE_PART: (&str, usize) = SIZES[2];

fn cases() -> Vec<Case> {
    let loads = [("4 KiB", 1, [3000, 300]), ("4 KiB", 8, [1000, 150]), ("64 MiB", 4, [4, 2])];
    let whole = loads.into_iter().flat_map(|(size, connections, requests)| {
        [(What::Put, "PUT"), (What::Get, "GET")].map(|(what, method)| Case {
            name: format!("{method} {size} ×{connections}"),
            what,
            size,
            connections,
            requests,
        })
    });
    let large = |name: &str, what, size, requests| Case {
        name: format!("{name} ×4"),
        what,
        size,
        connections: 4,
        requests: [0, requests],
    };
    let parts = LARGE / LARGE_PART.1 / 4;
    let large = [
        large("upload of 1 GiB, 8 MiB parts", What::Upload, LARGE_PART.0, parts),
        large("read of it, 8 MiB ranges", What::Ranges, LARGE_PART.0, parts),
        large("64 KiB of it, anywhere", What::Random(LARGE as u64), "64 KiB", 250),
    ];
    whole.chain(large).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // One thread: what the driver and the null store take of a small machine, the proxy does not have.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let done = match arguments.get(1).map(String::as_str) {
        Some("null-store") => {
            let port = arguments[2].parse().expect("a port");
            runtime.block_on(null_store::serve(port)).map_err(|why| why.to_string())
        }
        _ => runtime.block_on(measure(&Arguments::parse())),
    };
    if let Err(why) = done {
        eprintln!("versus: {why}");
        std::process::exit(1);
    }
}

async fn measure(arguments: &Arguments) -> Result<(), String> {
    let wanted =
        |name: &str| arguments.stores.is_empty() || arguments.stores.iter().any(|store| store == name);
    let noise = noise();
    let bodies = SIZES.map(|(name, size)| (name, body(size)));
    let mut outcomes = Vec::new();
    println!("{HEAD}");
    if wanted("null") {
        let (_server, store) = peers::null_store()?;
        outcomes.extend(compare("null", &store, &bodies, arguments).await?);
    }
    if wanted("minio") {
        let server = servers::minio()?;
        let address = server.endpoint.trim_start_matches("http://").parse().expect("an address");
        let (access_key, secret_key) = (server.access_key.clone(), server.secret_key.clone());
        outcomes
            .extend(compare("minio", &Target { address, access_key, secret_key }, &bodies, arguments).await?);
    }
    let memory = match wanted("memory") {
        true => memory(arguments, &bodies[3].1).await?,
        false => json!(null),
    };
    let figures: Vec<_> = outcomes.iter().map(Outcome::json).collect();
    let json = json!({ "machine": noise, "rounds": arguments.rounds, "cases": figures, "memory": memory });
    std::fs::write(&arguments.json, format!("{json:#}")).map_err(|why| why.to_string())?;
    println!("\n{noise}. Every round: {}", arguments.json.display());
    Ok(())
}

/// All loads on one store.
async fn compare(
    store: &'static str,
    target: &Target,
    bodies: &[(&'static str, Bytes)],
    arguments: &Arguments,
) -> Result<Vec<Outcome>, String> {
    let mut peers = vec![
        Peer::direct(target),
        Peer::nginx(target)?,
        Peer::s3veil("s3veil", &arguments.program, target, "auto")?,
        Peer::s3veil("s3veil, unsigned", &arguments.program, target, "unsigned")?,
    ];
    for also in &arguments.also {
        let (name, program) = also.split_once('=').ok_or("--also takes NAME=PROGRAM")?;
        peers.push(Peer::s3veil(name, Path::new(program), target, "auto")?);
    }
    once(target, Method::PUT, "/versus", Bytes::new()).await?;
    for (name, body) in bodies.iter().filter(|(size, _)| ["4 KiB", "64 MiB"].contains(size)) {
        for peer in &peers {
            let path = kept(peer, name);
            let told = |why| format!("{} before {store}: {why}", peer.name);
            once(&peer.target, Method::PUT, &path, body.clone()).await.map_err(told)?;
            let back = once(&peer.target, Method::GET, &path, Bytes::new()).await.map_err(told)?;
            if back != *body {
                return Err(format!("{} before {store} gave other bytes back than it was given", peer.name));
            }
        }
    }

    let mut outcomes = Vec::new();
    for case in cases() {
        let Case { name, what, .. } = &case;
        if !name.starts_with(&arguments.only) || case.requests[usize::from(store != "null")] == 0 {
            continue;
        }
        let body = &bodies.iter().find(|(size, _)| *size == case.size).expect("every size has a body").1;
        let mut turns: Vec<Vec<Turn>> = peers.iter().map(|_| Vec::new()).collect();
        let mut taking: Vec<usize> = (0..peers.len())
            .filter(|index| matches!(what, What::Put | What::Upload) || !peers[*index].writes_only)
            .collect();
        if matches!(what, What::Ranges | What::Random(_)) {
            for peer in taking.iter().map(|index| &peers[*index]) {
                let told = |why| format!("{} before {store}: {why}", peer.name);
                keep_large(peer, bodies).await.map_err(told)?;
            }
        }
        for _ in 0..arguments.rounds {
            for index in &taking {
                let peer = &peers[*index];
                let load = load(&case, peer, body, store);
                turns[*index].push(turn(peer, &load).await.map_err(|why| {
                    let log = peer.process.as_ref().map(peers::Process::log).unwrap_or_default();
                    format!("{name}, {} before {store}: {why}\n{log}", peer.name)
                })?);
            }
            // Whoever comes after the slowest has the warmest, or the most tired, machine: not always the same one.
            taking.rotate_left(1);
        }
        let taken = peers.iter().zip(turns).filter(|(_, turns)| !turns.is_empty());
        let peers = taken.map(|(peer, turns)| (peer.name.clone(), turns)).collect();
        let outcome = Outcome { store, load: case.name, peers };
        print!("{}", outcome.rows());
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

async fn turn(peer: &Peer, load: &Load) -> Result<Turn, String> {
    let process = peer.process.as_ref();
    if let Some(process) = process {
        process.forget_peak();
    }
    let before = process.map(peers::Process::cpu);
    let sample = run(&peer.target, load).await?;
    let cpu = process.map(|process| process.cpu() - before.expect("taken above"));
    Ok(Turn { sample, cpu, peak: process.map(peers::Process::peak) })
}

fn load(case: &Case, peer: &Peer, body: &Bytes, store: &str) -> Load {
    let path = match case.what {
        What::Put | What::Upload => "/versus/written".to_owned(),
        What::Get => kept(peer, case.size),
        What::Ranges | What::Random(_) => kept(peer, "large"),
    };
    let requests = case.requests[usize::from(store != "null")];
    Load { what: case.what, path, body: body.clone(), connections: case.connections, requests }
}

/// Uploads the large object that a peer reads, unless it is there.
async fn keep_large(peer: &Peer, bodies: &[(&'static str, Bytes)]) -> Result<(), String> {
    let path = kept(peer, "large");
    if once(&peer.target, Method::HEAD, &path, Bytes::new()).await.is_ok() {
        return Ok(());
    }
    let body =
        bodies.iter().find(|(size, _)| *size == LARGE_PART.0).expect("every size has a body").1.clone();
    let requests = LARGE / LARGE_PART.1 / 4;
    run(&peer.target, &Load { what: What::Upload, path, body, connections: 4, requests }).await.map(drop)
}

/// The path of the object that a peer reads, which it has itself written.
fn kept(peer: &Peer, size: &str) -> String {
    let plain: String = format!("{}-{size}", peer.name).chars().filter(char::is_ascii_alphanumeric).collect();
    format!("/versus/keep/{plain}")
}

/// The most memory that s3veil takes with many clients at once, each with a long body.
async fn memory(arguments: &Arguments, body: &Bytes) -> Result<serde_json::Value, String> {
    let (_server, store) = peers::null_store()?;
    let peer = Peer::s3veil("s3veil", &arguments.program, &store, "auto")?;
    once(&peer.target, Method::PUT, "/versus/keep/read", body.clone()).await?;
    let clients = arguments.clients;
    println!(
        "\n| s3veil, {clients} clients at once, 64 MiB each | peak MiB | MB/s | CPU s/GB |\n| --- | ---: | ---: | ---: |"
    );
    let mut figures = Vec::new();
    for (name, what, path) in
        [("uploads", What::Put, "/versus/written"), ("then downloads", What::Get, "/versus/keep/read")]
    {
        let load = Load { what, path: path.into(), body: body.clone(), connections: clients, requests: 1 };
        let turn = turn(&peer, &load).await?;
        let (peak, cpu) = (turn.peak.unwrap_or(0), turn.cpu.unwrap_or(0.0));
        let (mib, throughput) = (peak as f64 / 1_048_576.0, turn.sample.throughput());
        println!("| {name} | {mib:.0} | {throughput:.0} | {:.2} |", cpu / (turn.sample.bytes as f64 / 1e9));
        figures.push(json!({ "load": name, "peak_bytes": peak, "mb_per_s": throughput, "cpu_s": cpu }));
    }
    Ok(json!({ "clients": clients, "turns": figures }))
}

/// Bytes without a pattern.
fn body(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// How many cores there are, and what else they do: one that is busy is slower for all, but not for all alike.
fn noise() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loaded = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let loaded = loaded.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{cores} cores, load average {loaded} before the run")
}
