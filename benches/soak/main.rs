//! Half an hour of everything at once, at full speed: is memory flat, is each byte right, and is all closed again in the end?
//!
//! ```text
//! cargo bench --bench soak                        # 30 minutes before MinIO
//! cargo bench --bench soak -- --minutes 5         # a shorter look
//! ```
//!
//! MinIO comes from `tests/setup`. Each client has objects of its own, so that it knows what it must read. It ends with status 1
//! where a read is wrong, a request fails that should not, memory grows, or a connection or file stays open.

#[path = "../versus/chance.rs"]
mod chance;
mod client;
mod exchange;
#[path = "../versus/peers.rs"]
mod peers;
#[path = "../../tests/support/servers.rs"]
mod servers;
mod watch;
#[path = "../versus/wire.rs"]
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use serde_json::json;
use tokio::task::JoinSet;

use client::{Client, Counts, Material};
use watch::{Watch, slope};
use wire::Target;

/// Growth above this is no noise of the heap any more, in MiB an hour of the two thirds that come after the warming up.
const MOST_GROWTH: f64 = 24.0;

/// Connections to the store that nobody uses are closed after so long; then a scrape more.
const CALM: Duration = Duration::from_secs(150);

#[derive(clap::Parser)]
struct Arguments {
    /// How long the load goes on.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// What each client does is drawn by this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The s3veil to load, instead of the one just built.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_s3veil"))]
    program: PathBuf,
    /// Where the samples go besides the summary.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/soak.json"))]
    json: PathBuf,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let Err(why) = runtime.block_on(soak(&Arguments::parse())) {
        eprintln!("soak: {why}");
        std::process::exit(1);
    }
}

async fn soak(arguments: &Arguments) -> Result<(), String> {
    let store = servers::minio()?;
    let (server, [port, admin]) = peers::start_s3veil(&arguments.program, &Target::of(&store), "auto", None)?;
    let told = |why: String| format!("{why}\ns3veil's log ends:\n{}", tail(&server.log()));
    let target = peers::client(port);
    let watch = Watch::new(SocketAddr::from((Ipv4Addr::LOCALHOST, admin)));
    let start = watch.look().await.map_err(told)?;
    exchange::once(&target, "PUT", "/soak").await.map_err(told)?;

    let (begun, length) = (Instant::now(), Duration::from_secs_f64(arguments.minutes * 60.0));
    let material = Arc::new(Material::new());
    let mut working = JoinSet::new();
    for number in 0..arguments.clients {
        let seed = arguments.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let client = Client::new(target.clone(), material.clone(), number, seed);
        working.spawn(client.work(begun + length));
    }
    let sampled = watch.sample(begun + length);
    let mut counts = Counts::default();
    let worked = async {
        while let Some(done) = working.join_next().await {
            counts.add(done.map_err(|why| why.to_string())??);
        }
        Ok::<_, String>(())
    };
    // A client that fails ends the run at once: the log beside it is then short.
    let (samples, ()) = tokio::try_join!(sampled, worked).map_err(told)?;
    let took = begun.elapsed();
    let end = watch.calm(&start, CALM).await.map_err(told)?;

    let warm: Vec<_> = samples.iter().filter(|sample| sample.at > length / 3).collect();
    let growth = slope(warm.iter().map(|sample| (sample.at.as_secs_f64() / 3600.0, sample.resident_mib())));
    let peak = samples.iter().map(watch::Sample::resident_mib).fold(0.0, f64::max);
    println!("{}", counts.table(took));
    println!(
        "memory: {:.1} MiB at the start, {peak:.1} at the peak, {growth:+.1} MiB an hour from minute {:.0} on, {:.1} in the end",
        start.resident_mib(),
        arguments.minutes / 3.0,
        end.resident_mib(),
    );
    println!(
        "open files: {} at the start, {} at most, {} in the end",
        start.files,
        most(&samples),
        end.files
    );
    println!("{:.0} CPU seconds of s3veil in {:.0} s", end.cpu - start.cpu, took.as_secs_f64());
    let text = json!({
        "seconds": took.as_secs_f64(), "clients": arguments.clients, "seed": arguments.seed, "growth_mib_per_hour": growth,
        "requests": counts.json(), "start": start.json(), "end": end.json(),
        "samples": samples.iter().map(watch::Sample::json).collect::<Vec<_>>(),
    });
    std::fs::write(&arguments.json, format!("{text:#}")).map_err(|why| why.to_string())?;
    println!("Every sample: {}", arguments.json.display());
    match growth <= MOST_GROWTH {
        true => Ok(()),
        false => Err(format!("memory grows by {growth:.1} MiB an hour, and may by {MOST_GROWTH}")),
    }
}

fn most(samples: &[watch::Sample]) -> u64 {
    samples.iter().map(|sample| sample.files).max().unwrap_or(0)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
