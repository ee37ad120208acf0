//! What belongs to an object is kept, there and back.

use crate::servers;
use crate::site::Site;
use crate::support::proxy::pattern;

const MIB: usize = 1 << 20;

/// Keys over the wire, and lengths: around a chunk, and around a part of the least length.
const OBJECTS: [(&str, usize); 10] = [
    ("empty", 0),
    ("one", 1),
    ("dir/a%20chunk%20%2B", 65_536),
    ("dir/over", 65_537),
    ("%C3%BCber%20%2541", 1_000),
    ("a%26b%3Cc%3E%22", 10),
    ("a-part", 5 * MIB),
    ("parts", 5 * MIB + 1),
    ("whole", 8 * MIB),
    ("many-parts", 16 * MIB + 3),
];

const HEADERS: [(&str, &str); 8] = [
    ("cache-control", "max-age=60"),
    ("content-disposition", "attachment; filename=\"x\""),
    ("content-language", "de"),
    ("content-type", "text/x-test"),
    ("expires", "Thu, 01 Dec 2044 16:00:00 GMT"),
    ("x-amz-meta-color", "blue"),
    ("x-amz-meta-long", "0123456789012345678901234567890123456789"),
    ("x-amz-tagging", "team=red&what=a%20b"),
];

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_kept_there_and_back() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    let body = pattern(16 * MIB + 3);
    for (key, length) in OBJECTS {
        site.direct("PUT", &format!("/box/{key}"), &HEADERS, &body[..length]).await;
    }
    let gzip = [("content-encoding", "gzip"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    site.direct("PUT", "/box/gzip", &gzip, b"not really").await;
    site.direct_upload("/box/uploaded", &HEADERS, &[&body[..6 * MIB], &body[..10]]).await;
    let sum = [("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")];
    site.direct("PUT", "/box/sum", &sum, b"hello").await;
    assert_eq!(site.client("PUT", "/box/sealed", b"by the proxy").await.status, 200);
    let sealed_before = site.direct("GET", "/box/sealed", &[], b"").await.header("etag").to_owned();
    let stat = site.done(&["stat", "s3://box"]).await;
    assert_eq!(stat.count("plain"), 13);
    assert_eq!(stat.count("sealed under EK 's3veil-dev-key' of kms 'local'"), 1);

    let dry = site.done(&["migrate", "s3://box", "--part-mib", "5"]).await;
    assert_eq!((dry.count("to do with --apply"), dry.count("already so")), (13, 1));
    assert_eq!(site.done(&["stat", "s3://box"]).await.count("plain"), 13, "nothing was written");

    let done = site.done(&["migrate", "s3://box", "--part-mib", "5", "--apply"]).await;
    assert_eq!((done.count("sealed"), done.count("already so")), (13, 1));
    let check = |sealed: bool| {
        let (site, body) = (&site, &body);
        async move {
            for (key, length) in OBJECTS.into_iter().chain([("uploaded", 6 * MIB + 10)]) {
                let path = format!("/box/{key}");
                assert_eq!(site.is_sealed(&path).await, sealed, "{key}");
                let reply = site.client("GET", &path, b"").await;
                let expected = match key {
                    "uploaded" => [&body[..6 * MIB], &body[..10]].concat(),
                    _ => body[..length].to_vec(),
                };
                assert!(reply.bytes() == expected, "{key}");
                for (name, value) in HEADERS.into_iter().filter(|(name, _)| *name != "x-amz-tagging") {
                    assert_eq!(reply.header(name), value, "{key}: {name}");
                }
                let tags = site.client("GET", &format!("{path}?tagging"), b"").await;
                let text = String::from_utf8_lossy(tags.bytes()).into_owned();
                assert!(
                    text.contains("<Value>red</Value>") && text.contains("<Value>a b</Value>"),
                    "{key}: {text}"
                );
            }
            let gzip = site.client("GET", "/box/gzip", b"").await;
            assert_eq!((gzip.bytes(), gzip.header("content-encoding")), (&b"not really"[..], "gzip"));
            let class =
                site.direct("HEAD", "/box/gzip", &[], b"").await.header("x-amz-storage-class").to_owned();
            assert_eq!(class, "REDUCED_REDUNDANCY");
        }
    };
    check(true).await;
    assert_eq!(
        site.direct("GET", "/box/sealed", &[], b"").await.header("etag"),
        sealed_before,
        "it was let be"
    );
    let wanted = [("x-amz-checksum-mode", "ENABLED")];
    let sum_now = crate::support::client::send(site.proxy.address, "GET", "/box/sum", &wanted, b"").await;
    assert_eq!(sum_now.header("x-amz-checksum-sha256"), sum[0].1);
    assert_eq!(site.left("box").await, (0, 0));
    assert_eq!(site.done(&["migrate", "s3://box", "--apply"]).await.count("already so"), 14);
    let verified = site.done(&["verify", "s3://box"]).await;
    assert_eq!(verified.count("good"), 14);

    // The way back, once the rule says so.
    let refused = site.run(&["migrate", "s3://box", "--decrypt", "--apply"]).await;
    assert_eq!(refused.count("left, by the rule for them"), 14);
    let back = ["migrate", "s3://box", "--decrypt", "--part-mib", "5", "--apply"];
    let back = site.run_with(&site.passing, &back).await;
    assert!(back.good, "{back:?}");
    assert_eq!(back.count("opened"), 14);
    check(false).await;
    assert_eq!(site.direct("GET", "/box/sealed", &[], b"").await.bytes(), b"by the proxy");
    assert_eq!(site.left("box").await, (0, 0));
}

/// MinIO makes a write under a condition wait until nobody reads the object.
#[tokio::test(flavor = "multi_thread")]
async fn no_object_waits_for_itself() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    let body = pattern(60 * MIB);
    site.direct("PUT", "/box/long", &[], &body).await;
    // With parts longer than the object.
    let done = site.done(&["migrate", "s3://box", "--apply"]).await;
    assert_eq!(done.count("sealed"), 1);
    assert!(site.client("GET", "/box/long", b"").await.bytes() == body);
    let back = site.run_with(&site.passing, &["migrate", "s3://box", "--decrypt", "--apply"]).await;
    assert_eq!(back.count("opened"), 1, "{back:?}");
    assert!(site.direct("GET", "/box/long", &[], b"").await.bytes() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_or_a_shard_is_all_that_is_touched() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    for number in 0..40 {
        site.direct("PUT", &format!("/box/in/{number}"), &[], b"x").await;
    }
    site.direct("PUT", "/box/out", &[], b"x").await;
    let mut sealed = 0;
    for shard in ["0/3", "1/3", "2/3"] {
        let done = site.done(&["migrate", "s3://box/in/", "--apply", "--shard", shard]).await;
        assert!(done.count("sealed") > 0, "{shard}");
        sealed += done.count("sealed");
    }
    assert_eq!(sealed, 40);
    assert!(!site.is_sealed("/box/out").await);
    for number in 0..40 {
        assert!(site.is_sealed(&format!("/box/in/{number}")).await);
    }
}

/// Other stores keep less than MinIO does, and read and write differently.
#[tokio::test(flavor = "multi_thread")]
async fn other_stores_are_sealed_as_well() {
    for store in [servers::garage(), servers::seaweedfs()] {
        let Some(site) = Site::before(store).await else { continue };
        let name = site.store.name;
        assert_eq!(site.client("PUT", "/bucket", b"").await.status, 200);
        let body = pattern(11 * MIB);
        for (key, length) in [("empty", 0), ("one", 1), ("dir/a%20chunk%20%2B", 65_536), ("parts", 11 * MIB)]
        {
            site.direct("PUT", &format!("/bucket/{key}"), &[("x-amz-meta-color", "blue")], &body[..length])
                .await;
        }
        let done = site.run(&["migrate", "s3://bucket", "--part-mib", "5", "--apply", "--unguarded"]).await;
        assert!(done.good, "{name}: {done:?}");
        assert_eq!(done.count("sealed"), 4, "{name}");
        let verified = site.done(&["verify", "s3://bucket"]).await;
        assert_eq!(verified.count("good"), 4, "{name}");
        let back = ["migrate", "s3://bucket", "--decrypt", "--part-mib", "5", "--apply", "--unguarded"];
        let back = site.run_with(&site.passing, &back).await;
        assert!(back.good, "{name}: {back:?}");
        for (key, length) in [("empty", 0), ("one", 1), ("dir/a%20chunk%20%2B", 65_536), ("parts", 11 * MIB)]
        {
            let reply = site.direct("GET", &format!("/bucket/{key}"), &[], b"").await;
            assert!(reply.bytes() == &body[..length], "{name}: {key}");
            assert_eq!(reply.header("x-amz-meta-color"), "blue", "{name}: {key}");
        }
    }
}
