//! Random requests to a store directly and through the real program: the answers differ only by the rules of docs/operations.md.
//!
//! The stream, its rules and its regressions are in `tests/differential/`; a failure prints the seed, the request and both answers.

#[path = "support/servers.rs"]
mod servers;

use std::io::{self, Write as _};
use std::process::Command;

/// Sends the same seeds each time, those of the regressions too: a new one is for `tests/differential/run`.
fn differs_by_rule_only(store: &str, programs: &[&str], count: &str) {
    for program in programs.iter().chain(&["s3tests-python"]) {
        if let Err(why) = servers::tool(program) {
            return servers::skip(&why);
        }
    }
    let done = Command::new(servers::tool("s3tests-python").unwrap())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/run"))
        .args([
            "--program",
            env!("CARGO_BIN_EXE_s3veil"),
            "--store",
            store,
            "--seed",
            "1",
            "--count",
            count,
            "--regressions",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    write!(io::stdout(), "{said}").ok();
}

#[test]
fn minio() {
    differs_by_rule_only("minio", &["minio", "mc"], "2000");
}
