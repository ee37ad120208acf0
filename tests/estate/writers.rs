//! Clients that write, overwrite and delete while a bucket is being sealed lose nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::site::Site;
use crate::support::client::{get, send};

const OBJECTS: usize = 400;
const WRITERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_meanwhile_is_there_afterwards() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    for number in 0..OBJECTS {
        site.direct("PUT", &format!("/box/{number:04}"), &[], format!("before {number}").as_bytes()).await;
    }
    let long = vec![7; 11 << 20];
    for number in 0..4 {
        site.direct("PUT", &format!("/box/long-{number}"), &[], &long).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let proxy = site.proxy.address;
    // Each has keys of its own, and knows what it was told of each: its last write, or that it is gone.
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let over = over.clone();
            tokio::spawn(async move {
                let mut told = BTreeMap::<String, Option<Vec<u8>>>::new();
                let mut turn = 0;
                while !over.load(Ordering::Relaxed) {
                    turn += 1;
                    // Forwards with the walk, backwards against it.
                    let at = if writer % 2 == 0 { turn } else { OBJECTS * 1_000 - turn } % OBJECTS;
                    let number = at / WRITERS * WRITERS + writer;
                    let (path, value) = match turn % 97 {
                        0 => (format!("/box/long-{writer}"), vec![writer as u8; 6 << 20]),
                        _ => (format!("/box/{number:04}"), format!("turn {turn}").into_bytes()),
                    };
                    let gone = turn % 7 == 0 && turn % 97 != 0;
                    let (method, body) = if gone { ("DELETE", &b""[..]) } else { ("PUT", value.as_slice()) };
                    let reply = send(proxy, method, &path, &[], body).await;
                    assert!(reply.status.is_success(), "{method} {path}: {}", reply.code());
                    told.insert(path, (!gone).then_some(value));
                }
                (turn, told)
            })
        })
        .collect();
    let done = site.run(&["migrate", "s3://box", "--apply", "--part-mib", "5", "--workers", "8"]).await;
    over.store(true, Ordering::Relaxed);
    assert!(done.good, "{done:?}");
    let (mut turns, mut told) = (0, BTreeMap::new());
    for writer in writers {
        let (turn, mine) = writer.await.unwrap();
        turns += turn;
        told.extend(mine);
    }
    assert!(turns > WRITERS * 20, "the writers were at work: {turns}");
    for (path, value) in &told {
        let reply = get(proxy, path).await;
        match value {
            Some(value) => assert!(reply.bytes() == value, "{path} is not what was written last"),
            None => assert_eq!(reply.code(), "NoSuchKey", "{path} was deleted"),
        }
    }
    for number in 0..OBJECTS {
        let path = format!("/box/{number:04}");
        if !told.contains_key(&path) {
            assert_eq!(get(proxy, &path).await.bytes(), format!("before {number}").as_bytes());
        }
    }
    let verified = site.done(&["verify", "s3://box"]).await;
    assert_eq!(verified.count("good") as usize, site.keys("box").await.len());
    assert_eq!(site.left("box").await, (0, 0));
}
