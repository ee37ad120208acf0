//! What does not authenticate is found and named.

use std::process::Command;

use crate::site::Site;
use crate::support::proxy::pattern;
use crate::support::upload::Upload;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    for key in ["altered", "cut", "good", "moved", "stripped"] {
        assert_eq!(site.client("PUT", &format!("/box/{key}"), &pattern(100_000)).await.status, 200);
    }
    let parts = [(1, pattern(5 << 20)), (2, pattern(10))];
    assert_eq!(Upload::whole(site.proxy.address, "/box/parts", &parts).await.status, 200);
    assert_eq!(site.done(&["verify", "s3://box"]).await.count("good"), 6);

    // What a store could do.
    let stored = |key: &'static str| {
        let site = &site;
        async move {
            let stored = site.direct("GET", &format!("/box/{key}"), &[], b"").await;
            (stored.header("x-amz-meta-s3veil").to_owned(), stored.bytes().to_vec())
        }
    };
    let store = |key: &'static str, envelope: Option<String>, body: Vec<u8>| {
        let site = &site;
        async move {
            let headers: Vec<_> =
                envelope.iter().map(|value| ("x-amz-meta-s3veil", value.as_str())).collect();
            site.direct("PUT", &format!("/box/{key}"), &headers, &body).await;
        }
    };
    let (envelope, mut body) = stored("altered").await;
    body[90_000] ^= 1;
    store("altered", Some(envelope), body).await;
    let (envelope, body) = stored("cut").await;
    store("cut", Some(envelope), body[..body.len() - 1].to_vec()).await;
    let (envelope, body) = stored("good").await;
    store("moved", Some(envelope), body).await;
    let (_, body) = stored("stripped").await;
    store("stripped", None, body).await;
    let (envelope, mut body) = stored("parts").await;
    body[3 << 20] ^= 1;
    store("parts", Some(envelope), body).await;
    site.direct("PUT", "/box/plain", &[], b"plain").await;

    let done = site.run(&["verify", "s3://box"]).await;
    assert!(!done.good);
    assert_eq!(done.count("good"), 1);
    let expected = [
        ("s3://box/altered", "InternalError"),
        ("s3://box/cut", "InternalError"),
        ("s3://box/moved", "InternalError"),
        ("s3://box/parts", "InternalError"),
        ("s3://box/plain", "Plain"),
        ("s3://box/stripped", "EnvelopeLost"),
    ];
    assert_eq!(done.problems(), expected);
    assert_eq!((done.count("tampered"), done.count("stripped"), done.count("plain")), (4, 1, 1));
    // No body is read: what is wrong with a body alone is not seen.
    let done = site.run(&["verify", "s3://box", "--envelopes", "--allow-plain"]).await;
    let expected = [
        ("s3://box/cut", "InternalError"),
        ("s3://box/moved", "InternalError"),
        ("s3://box/stripped", "EnvelopeLost"),
    ];
    assert_eq!(done.problems(), expected);
    // Nor is it sealed once more.
    let done = site.run(&["migrate", "s3://box", "--apply"]).await;
    assert_eq!(done.problems(), [("s3://box/stripped", "InternalError")]);
    assert_eq!(done.count("sealed"), 1);
    let done = site.run(&["verify", "s3://box", "--sample", "0.0001%"]).await;
    assert_eq!(done.count("not in the sample"), 7, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_ek_is_told_from_damage() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    assert_eq!(site.client("PUT", "/box/k", b"x").await.status, 200);
    let key = |what: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(["key", "--config", site.configuration.to_str().unwrap(), what, "s3veil-dev-key"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    key("disable");
    for depth in [&["verify", "s3://box"][..], &["verify", "s3://box", "--envelopes"]] {
        let done = site.run(depth).await;
        assert!(!done.good);
        assert_eq!(
            (done.count("locked"), done.problems()),
            (1, vec![("s3://box/k", "KMS.DisabledException")])
        );
    }
    // What an object is, its envelope says without a key.
    let stat = site.done(&["stat", "s3://box"]).await;
    assert_eq!(stat.count("sealed under EK 's3veil-dev-key' of kms 'local'"), 1);
    key("enable");
    assert_eq!(site.done(&["verify", "s3://box"]).await.count("good"), 1);
}
