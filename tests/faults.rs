//! What stands between s3veil and its store, or its KMS, breaks: at every byte of an exchange (`faults/offsets.rs`), by
//! answers that are not what they should be (`answers.rs`), in front of a KMS (`key_service.rs`), and thousands of
//! times before the real program (`leaks.rs`). The client gets the right answer or a clear error, in time; the store holds
//! what it held or what it should; and nothing is left of any of it.

#[path = "faults/answers.rs"]
mod answers;
#[path = "faults/key_service.rs"]
mod key_service;
#[path = "faults/lane.rs"]
mod lane;
#[path = "faults/leaks.rs"]
mod leaks;
#[path = "faults/offsets.rs"]
mod offsets;
#[path = "faults/relay.rs"]
mod relay;
#[path = "support/servers.rs"]
mod servers;
mod support;
#[allow(dead_code)] // The tests of the KMSs use the rest.
#[path = "kms/vault_server.rs"]
mod vault_server;

use std::sync::{Mutex, Once, PoisonError};

use tokio::runtime::Builder;

/// Runs a test alone in this process, and looks whether all that it opened is closed after it.
fn alone(test: impl Future<Output = ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    static FIRST: Once = Once::new();
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let build = || Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    // What the first s3veil of a process opens stays: the runtime's pipe for signals.
    FIRST.call_once(|| drop(build().block_on(lane::Lane::start())));
    let before = open_files("self");
    let runtime = build();
    runtime.block_on(test);
    drop(runtime);
    assert_eq!(open_files("self"), before, "files and sockets are left open");
}

/// How many files and sockets a process has open.
fn open_files(process: &str) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}
