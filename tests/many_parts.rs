//! The longest list that an upload can have: 9,999 parts, whose manifest is as long as it gets.

mod support;

use futures_util::stream::{self, StreamExt as _};
use support::client::{get, get_range, send};
use support::memory::MemoryStore;
use support::proxy::{Proxy, SEALED};
use support::upload::{Upload, inner};

const PARTS: u32 = 9_999;

fn plain(number: u32) -> Vec<u8> {
    (0..number % 7 + 1).map(|at| (number * 31 + at) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_9999_parts() {
    let store = MemoryStore::start().await;
    // Parts of any length have a place in the middle.
    let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 1", SEALED).await;
    let to = proxy.address;
    let upload = Upload::start(to, "/b/k", &[]).await;
    let sent = stream::iter((1..=PARTS).rev()).map(|number| {
        let upload = upload.clone();
        async move { (number, upload.part(number, &plain(number)).await) }
    });
    let mut parts: Vec<(u32, String)> = sent.buffer_unordered(16).collect().await;
    parts.sort();

    let mut marker = 0;
    for pages in 1.. {
        let page = get(to, &format!("{}&part-number-marker={marker}", upload.at())).await;
        let first = marker + 1;
        marker = inner(&page, "NextPartNumberMarker").parse().unwrap();
        assert_eq!(inner(&page, "PartNumber"), first.to_string());
        if inner(&page, "IsTruncated") == "false" {
            assert_eq!((pages, marker), (10, PARTS));
            break;
        }
    }
    let done = upload.complete(&parts).await;
    assert_eq!(done.status, 200, "{}", done.code());

    let whole: Vec<u8> = (1..=PARTS).flat_map(plain).collect();
    let fresh = Proxy::start_beside(&proxy, &store.endpoint, SEALED).await.address;
    for to in [fresh, to] {
        assert!(get(to, "/b/k").await.bytes() == whole);
        let middle = get_range(to, "/b/k", "bytes=20001-20100").await;
        assert!(middle.bytes() == &whole[20_001..=20_100]);
        let last = get(to, &format!("/b/k?partNumber={PARTS}")).await;
        assert_eq!(last.bytes(), plain(PARTS));
        assert_eq!(last.header("x-amz-mp-parts-count"), PARTS.to_string());
    }
    let attributes = [("x-amz-object-attributes", "ObjectParts"), ("x-amz-part-number-marker", "9000")];
    let shown = send(to, "GET", "/b/k?attributes", &attributes, b"").await;
    assert_eq!(inner(&shown, "PartsCount"), PARTS.to_string());
    assert_eq!(inner(&shown, "PartNumber"), "9001");
    let list = get(to, "/b?list-type=2").await;
    assert_eq!(inner(&list, "Size"), whole.len().to_string());
}
