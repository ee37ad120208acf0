//! Multipart uploads where requests meet each other, where a client claims, and where a store says too much.

mod support;

use http::Method;
use support::client::{get, put, send};
use support::memory::Fault;
use support::proxy::start;
use support::upload::{Upload, inner};

const SEALED: &str = r#"
[[policy]]
bucket = "*"
ek = "s3veil-dev-key"
[[policy]]
bucket = "b"
prefix = "denied/"
mode = "deny"
"#;

#[tokio::test]
async fn a_completion_that_another_overtakes_is_one_that_is_repeated() {
    let (store, proxy) = start(SEALED).await;
    let upload = Upload::start(proxy.address, "/b/k", &[("x-amz-meta-a", "1")]).await;
    let list = [(1, upload.part(1, b"short").await)];
    // Held where it closes the upload, and where it completes it.
    for method in [Method::PUT, Method::POST] {
        let upload = Upload::start(proxy.address, "/b/k", &[("x-amz-meta-a", "1")]).await;
        let list = [(1, upload.part(1, b"short").await)];
        let held = store.hold_next_of(method.clone());
        let (late, same) = (upload.clone(), list.clone());
        let late = tokio::spawn(async move { late.complete(&same).await });
        held.met().await;
        assert_eq!(upload.complete(&list).await.status, 200, "{method}");
        held.release();
        let reply = late.await.unwrap();
        assert_eq!((reply.status.as_u16(), inner(&reply, "Key").as_str()), (200, "k"), "{method}");
        assert!(!reply.headers.contains_key("x-amz-meta-a"), "a completion shows no metadata");
    }
    assert_eq!(upload.complete(&list).await.status, 200);
    assert_eq!(store.paths(), ["/b/k"]);
}

/// No replica has seen the whole of an upload: a checksum of it is worth what the parts' are.
#[tokio::test]
async fn a_checksum_that_cannot_be_verified_is_not_kept() {
    let (_store, proxy) = start(SEALED).await;
    let wanted = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let upload = Upload::start(proxy.address, "/b/k", &wanted).await;
    let list = [(1, upload.part(1, b"123456789").await)];
    let claimed = [("x-amz-checksum-crc32", "AAAAAA==")];
    assert_eq!(upload.complete_with(&list, &claimed).await.code(), "InvalidRequest");
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>\
         </Part></CompleteMultipartUpload>",
        list[0].1
    );
    let reply = send(proxy.address, "POST", &upload.at(), &claimed, document.as_bytes()).await;
    assert_eq!(reply.code(), "BadDigest");
    let right = [("x-amz-checksum-crc32", "y/Q5Jg==")];
    let reply = send(proxy.address, "POST", &upload.at(), &right, document.as_bytes()).await;
    assert_eq!((reply.status.as_u16(), inner(&reply, "ChecksumCRC32").as_str()), (200, "y/Q5Jg=="));
}

#[tokio::test]
async fn no_prefix_of_a_listing_shows_an_upload() {
    let (_store, proxy) = start(SEALED).await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    upload.part(1, b"kept aside").await;
    put(proxy.address, "/b/a/b", b"x").await;
    for query in [
        "delimiter=/",
        "prefix=.s3veil/&delimiter=/",
        "prefix=.s3veil/u&delimiter=/",
        "delimiter=u",
        "prefix=.s",
    ] {
        let listing = get(proxy.address, &format!("/b?list-type=2&{query}")).await;
        assert_eq!(listing.status, 200);
        let text = String::from_utf8_lossy(listing.bytes()).into_owned();
        assert!(!text.contains(".s3veil/") && !text.contains("<Contents><Key>.s"), "{query}: {text}");
    }
}

#[tokio::test]
async fn uploads_are_listed_where_the_policy_shows_their_keys() {
    let (store, proxy) = start(SEALED).await;
    for key in ["seen", "denied/k"] {
        let path = format!("/b/{key}?uploads");
        let status = send(proxy.address, "POST", &path, &[], b"").await.status;
        assert_eq!(status.is_success(), key == "seen");
    }
    // Begun past s3veil.
    let hidden = store.uploads()["upload-1"].clone();
    store.change_upload("upload-1", |upload| upload.path = "/b/denied/k".into());
    assert_eq!(hidden.path, "/b/seen");
    assert_eq!(Upload::start(proxy.address, "/b/seen", &[]).await.id, "upload-2");
    let listing = get(proxy.address, "/b?uploads").await;
    let text = String::from_utf8_lossy(listing.bytes()).into_owned();
    assert!(text.contains("<Key>seen</Key>") && text.contains("upload-2"), "{text}");
    assert!(!text.contains("denied") && !text.contains("upload-1"), "{text}");
}

/// The state of an upload is s3veil's affair: what the store says of it is not passed on, and what passes is not final.
#[tokio::test]
async fn a_store_that_fails_beside_an_upload_is_unwell() {
    let (store, proxy) = start(SEALED).await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    store.fail_next_of(Method::PUT, Fault::Status(500));
    assert_eq!(upload.send_part(1, &[], b"short").await.code(), "ServiceUnavailable");
    // What it forbids it forbids again: no client should try until it gives up.
    store.fail_next_of(Method::PUT, Fault::Refuse("OfTheState"));
    assert_eq!(upload.send_part(1, &[], b"short").await.code(), "AccessDenied");
    let list = [(1, upload.part(1, b"short").await)];
    // Record, list of parts, the part that is kept aside.
    for fails in 0..3 {
        for _ in 0..fails {
            store.fail_next_of(Method::GET, Fault::Pass);
        }
        store.fail_next_of(Method::GET, Fault::Status(500));
        assert_eq!(upload.complete(&list).await.code(), "ServiceUnavailable", "{fails}");
    }
    let reply = upload.complete(&list).await;
    assert_eq!((reply.status.as_u16(), inner(&reply, "Location").as_str()), (200, "/b/k"));
}
