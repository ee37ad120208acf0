//! Buckets that keep versions, and objects under a lock.

use crate::site::Site;
use crate::support::client::get;

pub const ENABLED: &[u8] = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

pub async fn versions(site: &Site, bucket: &str) -> Vec<(String, String, bool)> {
    let listing = site.direct("GET", &format!("/{bucket}?versions"), &[], b"").await;
    let text = String::from_utf8(listing.bytes().to_vec()).unwrap();
    let inner = |entry: &str, name: &str| {
        let rest = entry.split_once(&format!("<{name}>")).unwrap().1;
        rest.split_once("</").unwrap().0.to_owned()
    };
    let entries = text.split("<Version>").skip(1);
    entries
        .map(|one| (inner(one, "Key"), inner(one, "VersionId"), inner(one, "IsLatest") == "true"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_stay_until_they_are_to_go() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    site.direct("PUT", "/box/k", &[], b"null").await;
    site.direct("PUT", "/box?versioning", &[], ENABLED).await;
    for body in [&b"first"[..], b"second"] {
        site.direct("PUT", "/box/k", &[], body).await;
    }
    site.client("PUT", "/box/sealed", b"old").await;
    site.client("PUT", "/box/sealed", b"new").await;
    site.direct("PUT", "/box/gone", &[], b"gone").await;
    site.direct("DELETE", "/box/gone", &[], b"").await;

    let done = site.done(&["migrate", "s3://box", "--apply"]).await;
    assert_eq!((done.count("sealed"), done.count("already so")), (1, 1));
    assert_eq!(get(site.proxy.address, "/box/k").await.bytes(), b"second");
    assert_eq!(get(site.proxy.address, "/box/gone").await.code(), "NoSuchKey");
    let all = versions(&site, "box").await;
    assert_eq!(all.iter().filter(|(key, ..)| key == "k").count(), 4, "history is kept: {all:?}");
    let stat = site.done(&["stat", "s3://box", "--versions"]).await;
    assert_eq!((stat.count("plain"), stat.count("delete markers")), (4, 1), "{stat:?}");
    for (key, version, latest) in &all {
        let stored = site.direct("GET", &format!("/box/{key}?versionId={version}"), &[], b"").await;
        let sealed = stored.headers.contains_key("x-amz-meta-s3veil");
        assert_eq!(sealed, *latest && key != "gone" || key == "sealed", "{key} {version}");
    }
    // What is old and sealed verifies as well.
    let verified = site.done(&["verify", "s3://box", "--versions", "--allow-plain"]).await;
    assert_eq!((verified.count("good"), verified.count("plain")), (3, 4));

    let done = site.done(&["migrate", "s3://box", "--apply", "--old-versions", "remove"]).await;
    // Of a deleted object it may be the last good copy.
    assert_eq!(done.count("old plain versions removed"), 3, "{done:?}");
    assert_eq!(done.count("old plain versions left: their objects are not sealed"), 1, "{done:?}");
    let stat = site.done(&["stat", "s3://box", "--versions"]).await;
    assert_eq!((stat.count("plain"), stat.count("delete markers")), (1, 1), "{stat:?}");
    assert_eq!(get(site.proxy.address, "/box/k").await.bytes(), b"second");
    assert_eq!(get(site.proxy.address, "/box/sealed").await.bytes(), b"new");
    assert_eq!(get(site.proxy.address, "/box/gone").await.code(), "NoSuchKey");
    assert_eq!(site.left("box").await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_goes_on() {
    let Some(site) = Site::minio().await else { return };
    site.direct("PUT", "/locked", &[("x-amz-bucket-object-lock-enabled", "true")], b"").await;
    let lock = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", "2044-12-01T16:00:00.000Z"),
        ("x-amz-object-lock-legal-hold", "ON"),
    ];
    site.direct("PUT", "/locked/k", &lock, b"kept").await;
    site.direct("PUT", "/locked/free", &[], b"free").await;
    let done = site.run(&["migrate", "s3://locked", "--apply", "--old-versions", "remove"]).await;
    // The old version is under a lock too: it stays, and that is said.
    assert_eq!(done.count("sealed"), 2, "{done:?}");
    assert!(!done.good);
    assert_eq!(done.problems().iter().map(|(object, _)| *object).collect::<Vec<_>>(), ["s3://locked/k"]);
    let head = site.direct("HEAD", "/locked/k", &[], b"").await;
    assert!(head.headers.contains_key("x-amz-meta-s3veil"));
    assert_eq!(head.header("x-amz-object-lock-mode"), "GOVERNANCE");
    assert!(head.header("x-amz-object-lock-retain-until-date").starts_with("2044-12-01T16:00:00"));
    assert_eq!(head.header("x-amz-object-lock-legal-hold"), "ON");
    assert_eq!(get(site.proxy.address, "/locked/k").await.bytes(), b"kept");
    assert!(
        !site.direct("HEAD", "/locked/free", &[], b"").await.headers.contains_key("x-amz-object-lock-mode")
    );
}
