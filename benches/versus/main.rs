//! s3veil beside nginx, beside nothing and beside others that seal: the same load on the same store, in turns within one
//! run.
//!
//! ```text
//! cargo bench --bench versus                          # null store, MinIO, memory: half an hour
//! cargo bench --bench versus -- null memory           # only these
//! cargo bench --bench versus -- minio --only "GET 64" # only loads whose name begins so
//! cargo bench --bench versus -- minio --peers direct,nginx,rclone --rounds 1 --scale 0.1    # a quick look
//! cargo bench --bench versus -- null --also before=/tmp/s3veil-before    # another build beside this one
//! cargo bench --bench versus -- --draw FILE.json --svg docs/versus.svg   # table and picture of an earlier run
//! ```
//!
//! All but s3veil comes from `tests/setup --bench`. Everything listens on free loopback ports and ends with the run.

mod cases;
mod chance;
mod compare;
mod contenders;
mod counters;
mod driver;
#[allow(dead_code)] // The tests use more of it.
#[path = "../../tests/kms/kes_server.rs"]
mod kes_server;
mod kms;
mod memory;
mod null_store;
mod peers;
mod plot;
mod prepare;
mod report;
mod results;
mod rivals;
#[path = "../../tests/support/servers.rs"]
mod servers;
mod targets;
mod wire;

use std::fs;
use std::path::PathBuf;

use clap::Parser as _;

use compare::{Extent, World, compare};
use contenders::{Choice, Contender};
use counters::Counters;
use kms::Kes;
use prepare::Prepared;
use results::Results;
use wire::Target;

#[derive(clap::Parser)]
struct Arguments {
    /// What to measure: null, minio, memory. All if none is named.
    stores: Vec<String>,
    /// How often each peer has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only loads whose name begins so, for instance "GET 64".
    #[arg(long, default_value = "")]
    only: String,
    /// Only peers with one of these in their names, for instance direct,nginx,s3veil.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// How many times as many requests are sent.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The s3veil to measure, instead of the one just built.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_s3veil"))]
    program: PathBuf,
    /// Further builds of s3veil that take their turns.
    #[arg(long, value_name = "NAME=PROGRAM")]
    also: Vec<String>,
    /// Where the figures go besides the table.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/versus.json"))]
    json: PathBuf,
    /// Where a picture of the figures goes.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Measures nothing, and shows what an earlier run has written to this file.
    #[arg(long, value_name = "JSON")]
    draw: Option<PathBuf>,
    /// Clients at once in the measurement of memory.
    #[arg(long, default_value_t = 128)]
    clients: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn wants(&self, what: &str) -> bool {
        self.stores.is_empty() || self.stores.iter().any(|store| store == what)
    }
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
        _ => run(&runtime, &Arguments::parse()),
    };
    if let Err(why) = done {
        eprintln!("versus: {why}");
        std::process::exit(1);
    }
}

fn run(runtime: &tokio::runtime::Runtime, arguments: &Arguments) -> Result<(), String> {
    let told = |file: &PathBuf, why: std::io::Error| format!("{}: {why}", file.display());
    let results = match &arguments.draw {
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|why| told(file, why))?;
            let results: Results =
                serde_json::from_str(&text).map_err(|why| format!("{}: {why}", file.display()))?;
            println!("{}", report::HEAD);
            results.cases.iter().for_each(|outcome| print!("{}", report::rows(outcome)));
            results
        }
        None => {
            println!("{}", report::HEAD);
            runtime.block_on(measure(arguments))?
        }
    };
    println!("\n{}", report::reasons(&results));
    if !results.memory.is_empty() {
        println!("{}", report::memory(&results.memory));
    }
    println!("{}", targets::table(&results));
    if let Some(file) = &arguments.svg {
        fs::write(file, plot::svg(&results)).map_err(|why| told(file, why))?;
    }
    println!("{}; {} rounds. Every round: {}", results.machine, results.rounds, arguments.json.display());
    ours_took_part(&results)
}

/// A rival that can't do a load is a result; s3veil, or what it is compared with, is a mistake.
fn ours_took_part(results: &Results) -> Result<(), String> {
    let peers = results.cases.iter().flat_map(|outcome| &outcome.peers);
    let ours =
        peers.filter(|taken| ["direct", "nginx", targets::NATIVE].contains(&&*taken.peer) || is_ours(taken));
    match ours.into_iter().find_map(|taken| Some((&taken.peer, taken.unable.as_ref()?))) {
        None => Ok(()),
        Some((peer, why)) => Err(format!("{peer} could not be measured: {why}")),
    }
}

fn is_ours(taken: &results::Taken) -> bool {
    taken.peer.starts_with(targets::OURS)
}

async fn measure(arguments: &Arguments) -> Result<Results, String> {
    let machine = noise();
    let also = arguments.also.iter().map(|also| {
        let (name, program) = also.split_once('=').ok_or("--also takes NAME=PROGRAM")?;
        Ok((name.to_owned(), program.to_owned()))
    });
    let also = also.collect::<Result<Vec<_>, String>>()?;
    let choice = Choice { names: &arguments.peers, program: &arguments.program, also: &also };
    let extent = Extent { rounds: arguments.rounds, only: &arguments.only, scale: arguments.scale };
    let mut results = Results { machine, rounds: arguments.rounds, cases: vec![], memory: vec![] };
    if arguments.wants("null") || arguments.wants("memory") {
        let (server, store) = peers::null_store()?;
        let process = peers::Process::of(server);
        let world = World { name: "null", store, process, files: None, counters: None };
        let mut contenders = contenders::usual(&choice, &world.store);
        let mut prepared = Prepared::new(&world.store, None);
        if arguments.wants("null") {
            results.cases.extend(compare(&world, &mut contenders, &mut prepared, &extent).await?);
        }
        if arguments.wants("memory") {
            // What was measured before has left its memory behind.
            let mut contenders = contenders::usual(&choice, &world.store);
            results.memory.extend(peak(&world, &mut contenders, arguments).await?);
        }
        // Before the servers end, and gigabytes are removed with them.
        save(arguments, &results)?;
    }
    if arguments.wants("minio") || arguments.wants("memory") {
        let kes = Kes::start()?;
        let mut variables = kes.of_minio();
        variables.push(("MINIO_PROMETHEUS_AUTH_TYPE", "public".to_owned()));
        let minio = servers::minio_with(&variables)?;
        let world = minio_world(&minio, &kes).await?;
        let mut contenders = contenders::usual(&choice, &world.store);
        contenders.extend(contenders::sealing(&choice, &world.store, &kes));
        if arguments.wants("minio") {
            let mut prepared = Prepared::new(&world.store, world.files.clone());
            results.cases.extend(compare(&world, &mut contenders, &mut prepared, &extent).await?);
        }
        if arguments.wants("memory") {
            drop(contenders);
            let mut contenders = contenders::usual(&choice, &world.store);
            contenders.extend(contenders::sealing(&choice, &world.store, &kes));
            contenders.retain(|contender| contender.name != targets::OURS_KMS);
            results.memory.extend(peak(&world, &mut contenders, arguments).await?);
        }
        // Before the servers end, and gigabytes are removed with them.
        save(arguments, &results)?;
    }
    Ok(results)
}

fn save(arguments: &Arguments, results: &Results) -> Result<(), String> {
    let text = serde_json::to_string_pretty(results).map_err(|why| why.to_string())?;
    fs::write(&arguments.json, text).map_err(|why| format!("{}: {why}", arguments.json.display()))
}

/// The memory of those that have only just been started.
async fn peak(
    world: &World,
    contenders: &mut [Contender],
    arguments: &Arguments,
) -> Result<Vec<results::Memory>, String> {
    let mut prepared = Prepared::new(&world.store, world.files.clone());
    for contender in contenders.iter_mut() {
        if let Err(why) = prepared.bucket(contender).await {
            contender.peer = Err(why);
        }
    }
    Ok(memory::memory(world, contenders, &mut prepared, arguments.clients).await)
}

async fn minio_world(minio: &servers::Store, kes: &Kes) -> Result<World, String> {
    let store = Target::of(minio);
    let counters = Counters { store: store.clone(), kms: kes.counter().await? };
    let process = peers::Process::others(minio.pid());
    let files = Some(minio.directory().join("data"));
    Ok(World { name: "minio", store, process, files, counters: Some(counters) })
}

/// How many cores there are, and what else they do: one that is busy is slower for all, but not for all alike.
fn noise() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loaded = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let loaded = loaded.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{cores} cores, load average {loaded} before the run")
}
