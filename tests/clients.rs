//! Real clients, unchanged, through the real program, in front of real stores.
//!
//! What a client does is in `tests/clients/`: `basics.py` is what each of them must find to be as it is without s3veil,
//! `depth.py` what else a store can do, `apps.py` what applications do that keep their data there. Stores and proxies are
//! started once, and skipped in words where they can't be had. Each test prints what it covered.

#[path = "clients/object_store.rs"]
mod object_store_client;
#[path = "clients/proxied.rs"]
mod proxied;
#[path = "support/servers.rs"]
mod servers;

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use proxied::{Proxied, free_port, guarded, wait_for};
use tempfile::TempDir;

type Lazy = LazyLock<Result<Proxied, String>>;

static DEV: Lazy = LazyLock::new(Proxied::dev);
static MINIO: Lazy = LazyLock::new(|| Proxied::serve(servers::minio()));
static GARAGE: Lazy = LazyLock::new(|| Proxied::serve(servers::garage()));
static SEAWEEDFS: Lazy = LazyLock::new(|| Proxied::serve(servers::seaweedfs()));

fn on(store: &Lazy, test: impl FnOnce(&Proxied)) {
    match &**store {
        Ok(proxied) => test(proxied),
        Err(why) => servers::skip(why),
    }
}

/// A module for each store, with a test for each client of `basics.py`, part of `depth.py` and application of `apps.py`.
macro_rules! every {
    ($( $store:ident $behind:ident {
        basics: $( $client:ident )*; depth: $( $part:ident )*; $( apps: $( $app:ident )*; )?
    } )*) => { $( mod $store {
        use super::*;

        $( #[test]
        fn $client() {
            on(&$behind, |proxied| proxied.run("basics", &[stringify!($client)]));
        } )*

        #[test]
        fn object_store() {
            on(&$behind, object_store_client::run);
        }

        $( #[test]
        fn $part() {
            on(&$behind, |proxied| proxied.run("depth", &[stringify!($part)]));
        } )*

        $( mod apps {
            use super::*;

            $( #[test]
            fn $app() {
                on(&$behind, |proxied| proxied.run("apps", &[stringify!($app)]));
            } )*
        } )?
    } )* };
}

every! {
    // No versions, tags, ACLs, long keys.
    dev DEV {
        basics: boto3 awscli rclone s3cmd minio_py s5cmd mc;
        depth: pages conditions checksums trailers overrides codings attributes conditional_writes multipart multipart_checksums transfers copies strangers
            encryption_defaults encryption_requests encryption_customers;
    }
    minio MINIO {
        basics: boto3 awscli rclone s3cmd minio_py s5cmd mc;
        depth: keys pages conditions conditional_writes checksums trailers overrides codings attributes mixed multipart multipart_checksums transfers copies plain_copies strangers forms versions
            versioned_uploads object_lock locked_uploads tags acl storage_class
            encryption_defaults encryption_requests encryption_customers;
        apps: awscli mc pyarrow rclone registry restic;
    }
    // No versions, tags, ACLs; a PUT is done whatever its conditions.
    garage GARAGE {
        basics: boto3 awscli rclone s3cmd minio_py s5cmd mc;
        depth: keys pages conditions checksums trailers overrides codings attributes mixed multipart multipart_checksums transfers copies plain_copies strangers forms
            encryption_defaults encryption_requests encryption_customers;
        apps: awscli mc pyarrow rclone registry restic;
    }
    seaweedfs SEAWEEDFS {
        basics: boto3 awscli rclone s3cmd minio_py s5cmd mc;
        depth: keys pages conditions conditional_writes checksums trailers overrides codings attributes mixed multipart multipart_checksums transfers copies plain_copies strangers forms versions
            object_lock tags acl storage_class encryption_defaults encryption_requests encryption_customers;
    }
}

/// README's first command: a store and a keystore of its own, and both survive a restart.
#[test]
fn dev_keeps_data_and_keys() {
    let Ok(aws) = servers::tool("aws") else {
        return servers::skip("the AWS CLI is not installed; run tests/setup");
    };
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let log = directory.path().join("log");
    let body: Vec<u8> = (0..200_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
    fs::write(directory.path().join("up"), &body).unwrap();
    for round in 0..2 {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut proxy = guarded(&["dev", "--listen", &listen, "--data", data.to_str().unwrap()], &log, None);
        wait_for(port, &log);
        let s3 = |arguments: &[&str]| {
            let done = Command::new(&aws)
                .args(["--endpoint-url", &format!("http://{listen}"), "s3"])
                .args(arguments)
                .current_dir(&directory)
                .envs([
                    ("AWS_ACCESS_KEY_ID", "s3veil"),
                    ("AWS_SECRET_ACCESS_KEY", "s3veil-dev-secret"),
                    ("AWS_REGION", "us-east-1"),
                ])
                .output()
                .unwrap();
            assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        if round == 0 {
            s3(&["mb", "s3://demo"]);
            s3(&["cp", "up", "s3://demo/up"]);
            let stored = fs::read(data.join("objects/demo/up")).unwrap();
            assert_eq!(stored.len(), body.len() + 4 * 16 + 80);
            assert!(!stored.windows(16).any(|window| window == &body[1000..1016]));
        }
        s3(&["cp", "s3://demo/up", "down"]);
        assert!(fs::read(directory.path().join("down")).unwrap() == body);
        // Ends as an operator would end it.
        drop(proxy.0.stdin.take());
        proxy.0.wait().unwrap();
        let welcome = fs::read_to_string(&log).unwrap();
        assert!(
            welcome.contains("export AWS_ACCESS_KEY_ID=s3veil") && welcome.contains(&listen),
            "{welcome}"
        );
    }
}
