//! Random clients side by side on few keys, through two replicas of the real program in front of MinIO, while a replica is
//! killed, or the store, again and again. Whatever is read must be, whole, what some write had put there and none had
//! replaced (`model/history.rs`).
//!
//! `S3VEIL_MODEL_SECS` says how long (20 s), `S3VEIL_MODEL_SEED` what the clients do: a failure says it. When they do it, and
//! so what meets what, is chance.

#[path = "model/checked.rs"]
mod checked;
#[path = "model/clients.rs"]
mod clients;
#[path = "model/history.rs"]
mod history;
#[path = "support/servers.rs"]
mod servers;
mod support;

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clients::{Chance, KEYS, World};
use history::{Action, Histories};
use servers::Store;
use support::client::put;
use support::program::Program;
use tempfile::TempDir;

const CLIENTS: u32 = 6;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_read_is_of_a_write_that_was_current() {
    let store = match servers::minio() {
        Ok(store) => store,
        Err(why) => return servers::skip(&why),
    };
    let seed = variable("S3VEIL_MODEL_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    let time = Duration::from_secs(variable("S3VEIL_MODEL_SECS").unwrap_or(20));
    println!("S3VEIL_MODEL_SEED={seed}");
    let directory = TempDir::new().unwrap();
    let file = Program::configure(directory.path(), &store.settings(), "").await;
    let replicas = [Program::start(&file), Program::start(&file)];
    let addresses = [replicas[0].address, replicas[1].address];
    assert_eq!(put(addresses[0], "/bucket", b"").await.status, 200);

    let world = Arc::new(World::new(addresses));
    let until = Instant::now() + time;
    let running: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (world, chance) = (world.clone(), Chance::new(seed.wrapping_add(u64::from(number) + 1)));
            tokio::spawn(async move { clients::run(&world, number, chance, until).await })
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let trouble =
        tokio::task::spawn_blocking(move || trouble(Chance::new(seed), store, replicas, &file, &seen));
    let mut failed = Vec::new();
    for client in running {
        failed.extend(client.await.err().map(|why| why.to_string()));
    }
    over.store(true, Ordering::Relaxed);
    let (store, replicas, kills) = trouble.await.unwrap();
    assert!(failed.is_empty(), "S3VEIL_MODEL_SEED={seed}: {failed:?}\n{}", store.log());

    // What is there at the end is read by both, and belongs to the history.
    for (number, address) in (CLIENTS..).zip(addresses) {
        for key in 0..KEYS {
            world.read_at_last(number, address, key).await;
        }
    }
    let histories = world.histories();
    let checker = Histories::new(&histories);
    for (key, history) in histories.iter().enumerate() {
        if let Err(why) = checker.check(key) {
            let all = write_down(key, history);
            panic!("S3VEIL_MODEL_SEED={seed}, key {key}, all of it in {}: {why}", all.display());
        }
    }
    let count = |what: fn(&Action) -> bool| {
        let known = histories.iter().flatten().filter(|event| event.end.is_some());
        known.filter(|event| what(&event.action)).count()
    };
    let (reads, writes) =
        (count(|a| matches!(a, Action::Read(_))), count(|a| matches!(a, Action::Write(..))));
    let (copies, deletes) = (count(|a| matches!(a, Action::Copy(_))), count(|a| matches!(a, Action::Delete)));
    let unknown = histories.iter().flatten().filter(|event| event.end.is_none()).count();
    println!(
        "{reads} reads, {writes} writes, {copies} copies, {deletes} deletions; {unknown} of unknown outcome; {kills:?} kills \
         of the store and of replicas"
    );
    assert!(reads > 100 && writes > 100 && copies > 10 && deletes > 10, "too little to say anything");
    assert!(kills.iter().all(|count| *count > 1), "{kills:?}");
    drop(replicas);
}

/// The same programs, and how often the store and the replicas have been killed.
type After = (Store, [Program; 2], [usize; 2]);

/// Kills the store or a replica, and starts it again, until it is over.
fn trouble(
    mut chance: Chance,
    mut store: Store,
    mut replicas: [Program; 2],
    file: &Path,
    over: &AtomicBool,
) -> After {
    let mut kills = [0, 0];
    for turn in 0.. {
        std::thread::sleep(Duration::from_millis(600 + chance.below(900)));
        if over.load(Ordering::Relaxed) {
            return (store, replicas, kills);
        }
        if turn % 3 == 1 {
            store.restart().unwrap();
            kills[0] += 1;
        } else {
            let which = chance.below(2) as usize;
            replicas[which].kill();
            std::thread::sleep(Duration::from_millis(chance.below(500)));
            replicas[which] = Program::start_at(file, replicas[which].address);
            kills[1] += 1;
        }
    }
    unreachable!("it ends when it is over")
}

fn write_down(key: usize, history: &[history::Event]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("model-key-{key}.txt"));
    let mut events = history.to_vec();
    events.sort_by_key(|event| event.begin);
    let text: String = events.iter().map(|event| format!("{event:?}\n")).collect();
    std::fs::write(&path, text).unwrap();
    path
}
