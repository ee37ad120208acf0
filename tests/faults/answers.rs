//! Answers of the store that are errors, slow, of another length than they say, or no answers at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;

use crate::lane::{ALL, Lane, Operation, PATIENCE};
use crate::relay::{self, Changed, Kind, Message, Way};
use crate::support::client::{get, send};
use crate::support::memory::Fault;
use crate::support::upload::inner;

/// The methods of the requests to the store that an operation takes, in order.
async fn methods(lane: &Lane, operation: Operation) -> Vec<Method> {
    lane.prepare(operation).await;
    lane.store.take_seen();
    assert!(operation.ask(lane).await.status.is_success());
    let seen = lane.store.take_seen().into_iter().map(|seen| seen.method).collect();
    lane.reset();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_stores_own_faults() {
    let lane = Lane::start().await;
    for operation in ALL {
        let count = methods(&lane, operation).await.len();
        for fault in [
            Fault::Status(500),
            Fault::Status(502),
            Fault::Status(503),
            Fault::Status(429),
            Fault::Refuse("AccessDenied"),
            Fault::ErrorIn200("SlowDown"),
            Fault::Close,
            Fault::NoLength,
            Fault::CloseAfter(0),
            Fault::CloseAfter(40),
            Fault::StallAfter(40),
        ] {
            for at in 0..count {
                let what = format!("{operation:?}, request {at}: {fault:?}");
                lane.prepare(operation).await;
                (0..at).for_each(|_| lane.store.fail_next(Fault::Pass));
                lane.store.fail_next(fault);
                let (reply, _) = operation.try_ask(&lane).await;
                while lane.store.take_fault().is_some() {}
                let lied = matches!(fault, Fault::ErrorIn200(_)) && operation == Operation::Delete;
                if !lied {
                    operation.judge_loosely(&lane, reply.as_ref(), &what).await;
                }
            }
        }
    }
    lane.quiet().await;
}

/// What is made of an answer.
pub type Change = fn(&Message) -> Changed;

fn half(message: &Message) -> Changed {
    Changed::to(message.saying(&message.body[..message.body.len() / 2]))
}

fn closing(bytes: Vec<u8>) -> Changed {
    Changed { close: true, ..Changed::to(bytes) }
}

fn instead(body: &[u8]) -> impl Fn(&Message) -> Changed {
    move |message| Changed::to(message.saying(body))
}

fn status(message: &Message, line: &str) -> Changed {
    let (_, headers) = message.head.split_once("\r\n").unwrap();
    let head = format!("HTTP/1.1 {line}\r\n{headers}");
    Changed::to(Message { head, body: message.body.clone() }.as_it_is())
}

/// Not an answer of a store's.
const PAGE: &[u8] =
    b"<!doctype html><html><head><title>Sorry</title></head><body>Come back later.</body></html>";

pub const CHANGES: [(&str, Change); 27] = [
    ("shorter than its body", |m| Changed::to(m.announcing(m.body.len().saturating_sub(1)))),
    ("nothing of its body", |m| Changed::to(m.announcing(0))),
    ("longer than its body, and closed", |m| closing(m.announcing(m.body.len() + 1))),
    ("much longer than its body, and closed", |m| closing(m.announcing(1_u64 << 40))),
    ("longer than its body, and silent", |m| Changed::to(m.announcing(m.body.len() + 1))),
    ("a length below zero", |m| Changed::to(m.announcing(-1))),
    ("a length beyond numbers", |m| Changed::to(m.announcing("18446744073709551616"))),
    ("a length in words", |m| Changed::to(m.announcing("ten"))),
    ("two lengths", |m| Changed::to(m.announcing(format!("{}\r\ncontent-length: 7", m.body.len())))),
    ("half of the body", half),
    ("no body", |m| Changed::to(m.saying(b""))),
    ("a page", |m| instead(PAGE)(m)),
    ("a page of XML", |m| instead(b"<?xml version=\"1.0\"?><html><body>Come back later.</body></html>")(m)),
    ("words", |m| instead(b"Come back later.")(m)),
    ("only a declaration", |m| instead(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>")(m)),
    ("bytes that are no text", |m| instead(&[0, 159, 146, 150, 255, 60, 60, 62])(m)),
    ("entities", |m| {
        let bomb = b"<!DOCTYPE a [<!ENTITY b \"cccccccc\"><!ENTITY d \"&b;&b;&b;\">]><a>&d;&d;</a>";
        instead(bomb)(m)
    }),
    ("elements without end", |m| instead("<a>".repeat(100_000).as_bytes())(m)),
    ("no HTTP", |_| closing(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
    ("nothing that is anything", |_| closing(vec![0; 4096])),
    ("a head without end", |_| closing([&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'x'; 1 << 20]].concat())),
    ("a status that is none", |_| closing(b"HTTP/1.1 99999 OK\r\ncontent-length: 0\r\n\r\n".to_vec())),
    ("204", |m| status(m, "204 No Content")),
    ("206", |m| status(m, "206 Partial Content")),
    ("304", |m| status(m, "304 Not Modified")),
    ("an answer before the answer", |m| {
        Changed::to([&b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n"[..], &m.as_it_is()].concat())
    }),
    ("byte by byte", |m| Changed {
        pieces: m.as_it_is().chunks(97).map(<[u8]>::to_vec).collect(),
        pause: Duration::from_millis(5),
        close: false,
    }),
];

/// Changes that an answer may have.
pub const HARMLESS: [&str; 2] = ["an answer before the answer", "byte by byte"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_are_none() {
    let mut lanes = Vec::new();
    for operation in ALL {
        lanes.push(tokio::spawn(async move {
            let lane = Lane::start().await;
            let methods = methods(&lane, operation).await;
            for (at, method) in methods.iter().enumerate() {
                let method =
                    ["GET", "HEAD", "PUT", "POST", "DELETE"].into_iter().find(|one| method == one).unwrap();
                let before = methods[..at].iter().filter(|one| *one == method).count();
                for (name, change) in CHANGES {
                    let what = format!("{operation:?}, {method} {before}: {name}");
                    lane.prepare(operation).await;
                    let turn = AtomicUsize::new(0);
                    lane.relay.change(method, move |message| {
                        match turn.fetch_add(1, Ordering::SeqCst) == before {
                            true => change(&message),
                            false => Changed::to(message.as_it_is()),
                        }
                    });
                    let (reply, _) = operation.try_ask(&lane).await;
                    lane.relay.disarm();
                    let told = reply.as_ref().is_some_and(|reply| reply.status.is_success());
                    assert!(told || !HARMLESS.contains(&name), "{what}: {reply:?}");
                    match reply {
                        // Of what it holds already a store can spoil what it likes, and say that it is whole: a read
                        // finds it.
                        Some(reply) if told && operation == Operation::Complete && method == "GET" => {
                            operation.opens_or_fails(&lane, &reply, &what).await;
                        }
                        reply => operation.judge_loosely(&lane, reply.as_ref(), &what).await,
                    }
                }
            }
            lane.quiet().await;
        }));
    }
    for lane in lanes {
        lane.await.unwrap();
    }
}

/// An answer to a question that nobody has asked.
const UNASKED: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// What comes behind an answer is none to the next question: the connection ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_beyond_an_answer_end_its_connection() {
    let lane = Lane::start().await;
    for operation in ALL {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            let what = format!("{operation:?}, more behind each answer to {method}");
            lane.reset();
            lane.relay.change(method, |message| Changed::to([&message.as_it_is(), UNASKED].concat()));
            let reply = operation.ask(&lane).await;
            lane.relay.disarm();
            assert!(reply.status.is_success(), "{what}: {} {}", reply.status, reply.code());
            operation.judge(&lane, Some(&reply), &what).await;
        }
    }
    // It comes later, while nothing is asked.
    for (operation, method) in [(Operation::Put, "PUT"), (Operation::Get, "GET"), (Operation::List, "GET")] {
        lane.reset();
        lane.quiet().await;
        let before = lane.relay.live();
        lane.relay.change(method, |message| Changed {
            pieces: vec![message.as_it_is(), UNASKED.to_vec()],
            pause: Duration::from_millis(20),
            close: false,
        });
        let reply = operation.ask(&lane).await;
        lane.relay.disarm();
        let begun = Instant::now();
        while lane.relay.live() > before.max(1) - 1 {
            assert!(begun.elapsed() < PATIENCE, "{operation:?}: {} connections", lane.relay.live());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        operation.judge(&lane, Some(&reply), "more came later").await;
    }
    lane.quiet().await;
}

/// What has no body can be asked again where its connection broke. A write under a condition is not, nor a bucket's making or
/// removal: they would be refused for what they have done themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_under_a_condition_is_asked_once() {
    let lane = Lane::start().await;
    let to = lane.proxy.address;
    let source = ("x-amz-copy-source", "b/source");
    let etag = get(to, "/b/k").await.header("etag").to_owned();
    let (absent, is) = (("if-none-match", "*"), ("if-match", &*etag));
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&'static str, &str, Headers, bool); 8] = [
        ("PUT", "/b/one", &[source], true),
        ("PUT", "/b/two", &[source, absent], false),
        ("DELETE", "/b/k", &[is], false),
        ("DELETE", "/b/k", &[("x-amz-if-match-size", "196")], false),
        ("DELETE", "/b/one", &[], true),
        ("PUT", "/bucket", &[], false),
        ("DELETE", "/bucket", &[], false),
        ("GET", "/b/k", &[is], true),
    ];
    for (method, path, headers, again) in cases {
        let what = format!("{method} {path} {headers:?}");
        lane.reset();
        let times = Arc::new(AtomicUsize::new(0));
        let counted = times.clone();
        lane.relay.change(method, move |message| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Changed { pieces: vec![], ..closing(vec![]) },
            _ => Changed::to(message.as_it_is()),
        });
        let reply = send(to, method, path, headers, b"").await;
        lane.relay.disarm();
        assert_eq!(times.load(Ordering::SeqCst), if again { 2 } else { 1 }, "{what}");
        assert_eq!(reply.status.is_success(), again, "{what}: {}", reply.code());
        assert!(again || reply.status == 503, "{what}: {}", reply.code());
    }
    lane.reset();
    for (path, condition) in [("/b/one", None), ("/b/two", Some(absent))] {
        let headers: Vec<_> = [source].into_iter().chain(condition).collect();
        assert_eq!(send(to, "PUT", path, &headers, b"").await.status, 200);
        assert_eq!(get(to, path).await.bytes(), get(to, "/b/source").await.bytes());
    }
    lane.quiet().await;
}

/// Whether the store closes a connection before it has answered, or resets it, and wherever in the answer's head.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_is_asked_again_after_a_reset_as_after_an_end() {
    let lane = Lane::start().await;
    let to = lane.proxy.address;
    for kind in [Kind::Close, Kind::Reset] {
        for at in [0, 1, 20] {
            lane.relay.arm(Some(relay::Fault { way: Way::Answering, at, kind, always: false }));
            let reply = get(to, "/b/k").await;
            assert_eq!(lane.relay.disarm().0, 1, "{kind:?} at {at}");
            assert_eq!(reply.status, 200, "{kind:?} at {at}: {}", reply.code());
        }
    }
    lane.quiet().await;
}

/// Sizes that no object has, and sizes that another has.
const SIZES: [&str; 17] = [
    "0",
    "1",
    "79",
    "80",
    "95",
    "96",
    "97",
    "196",
    "65632",
    "65633",
    "131169",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e3",
    "",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sizes_that_are_not_the_objects() {
    let lane = Lane::start().await;
    let to = lane.proxy.address;
    for size in SIZES {
        // A listing is nobody's word but the store's: it comes, whatever it says.
        lane.reset();
        lane.relay.change("GET", move |message| {
            let text = String::from_utf8_lossy(&message.body).into_owned();
            let mut parts = text.split("<Size>");
            let mut out = parts.next().unwrap().to_owned();
            for part in parts {
                out.push_str(&format!("<Size>{size}{}", &part[part.find('<').unwrap()..]));
            }
            Changed::to(message.saying(out.as_bytes()))
        });
        let list = get(to, "/b?list-type=2").await;
        assert_eq!(list.status, 200, "{size}");
        assert_eq!(inner(&list, "Key"), "k", "{size}");
        // The parts of an upload: what is stored then may not open, and never opens to anything else.
        let done = Operation::Complete.ask(&lane).await;
        lane.relay.disarm();
        Operation::Complete.opens_or_fails(&lane, &done, size).await;

        lane.reset();
        lane.relay.change("HEAD", move |message| Changed::to(message.announcing(size)));
        let head = send(to, "HEAD", "/b/k", &[], b"").await;
        let right = size == "196";
        assert_eq!(head.status.is_success(), right, "{size}: {}", head.status);
        let copied = Operation::Copy.ask(&lane).await;
        assert_eq!(copied.status.is_success(), right, "{size}: {}", copied.status);
        lane.relay.disarm();
        Operation::Copy.judge_loosely(&lane, Some(&copied), size).await;
    }
    lane.quiet().await;
}
