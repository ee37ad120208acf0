//! Where a client's write could be lost, nothing is begun.

use crate::servers;
use crate::site::Site;
use crate::support::client::put;
use crate::support::memory::MemoryStore;
use crate::support::program::Program;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditions_is_refused_unless_nobody_writes() {
    let Some(site) = Site::before(servers::garage()).await else { return };
    assert_eq!(site.client("PUT", "/bucket", b"").await.status, 200);
    site.direct("PUT", "/bucket/k", &[], b"plain").await;
    let refused = site.run(&["migrate", "s3://bucket", "--apply"]).await;
    assert!(!refused.good && refused.errors.contains("--unguarded"), "{refused:?}");
    assert!(refused.errors.contains("does not keep If-Match"), "{refused:?}");
    assert!(!site.is_sealed("/bucket/k").await);
    assert_eq!(site.keys("bucket").await, ["k"], "the probe has gone");
    assert_eq!(site.done(&["migrate", "s3://bucket", "--apply", "--unguarded"]).await.count("sealed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let directory = tempfile::TempDir::new().unwrap();
    let store = MemoryStore::start().await;
    let settings = format!(
        "endpoint = \"{}\", credentials.default = {{ access_key = \"a\", secret_key = \"s\" }}",
        store.endpoint
    );
    let configuration = Program::configure(directory.path(), &settings, "").await;
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_s3veil"));
        command
            .args(&arguments[..1])
            .args(["--config", configuration.to_str().unwrap()])
            .args(&arguments[1..]);
        tokio::task::spawn_blocking(move || {
            let output = command.output().unwrap();
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        })
    };
    for (arguments, said) in [
        (&["migrate", "b"][..], "write s3://BUCKET or s3://BUCKET/PREFIX"),
        (&["migrate", "s3://box", "--shard", "3/3"], "write I/N with I from 0 to N - 1"),
        (&["migrate", "s3://box", "--part-mib", "1"], "5..=4096"),
        (&["migrate", "s3://box", "--decrypt", "--old-versions", "remove"], "goes with sealing only"),
        (
            &["rotate", "s3://box", "--to", "no-such-key"],
            "--to: the EK 'no-such-key' of kms 'local' can't seal",
        ),
        (&["rotate", "s3://box", "--to", "x", "--kms", "other"], "--kms: there is no 'other', but local"),
        (&["rotate", "s3://box", "--to", "x", "--where", "main"], "write ek=NAME"),
        (&["verify", "s3://box", "--sample", "1"], "write a share in percent"),
    ] {
        let errors = run(arguments).await.unwrap();
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    let proxy = Program::start(&configuration);
    assert_eq!(put(proxy.address, "/box/k", b"x").await.status, 200);
    drop(store);
}
