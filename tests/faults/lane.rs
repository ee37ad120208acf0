//! A store, a relay and s3veil in a row, and S3's operations across them: what each finds, does, and may leave.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use s3veil::app::App;

use crate::relay::Relay;
use crate::support::client::{Reply, get, put, try_send};
use crate::support::memory::{Contents, MemoryStore};
use crate::support::proxy::{Proxy, SEALED, pattern};
use crate::support::upload::{Upload, document, inner};

/// Whatever takes longer hangs, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(12);

const ENVELOPE: &str = "x-amz-meta-s3veil";

/// One of S3's operations, on what a lane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Put,
    Get,
    Range,
    Head,
    List,
    Copy,
    Delete,
    Create,
    Part,
    Complete,
}

pub const ALL: [Operation; 10] = {
    use Operation::*;
    [Put, Get, Range, Head, List, Copy, Delete, Create, Part, Complete]
};

/// It holds `/b/k` and `/b/source`, and an upload of `/b/parts` with one part.
pub struct Lane {
    pub store: MemoryStore,
    pub relay: Relay,
    pub proxy: Proxy,
    before: Contents,
    upload: Upload,
    parts: Vec<(u32, String)>,
    /// What reads find.
    right: BTreeMap<Operation, Reply>,
}

pub fn old() -> Vec<u8> {
    pattern(100)
}

pub fn new() -> Vec<u8> {
    pattern(150).split_off(50)
}

fn source() -> Vec<u8> {
    pattern(130).split_off(30)
}

fn part() -> Vec<u8> {
    pattern(180).split_off(80)
}

impl Lane {
    /// A store may be silent for 2 s.
    pub async fn start() -> Self {
        Self::start_with_idle(2).await
    }

    /// It may be for so many seconds.
    pub async fn start_with_idle(seconds: u64) -> Self {
        let store = MemoryStore::start().await;
        let relay = Relay::start(store.endpoint.trim_start_matches("http://").parse().unwrap()).await;
        let settings = format!("idle_timeout_secs = {seconds}");
        // A data key outlasts every run: one that is renewed meanwhile has a timer more, which would count as left behind.
        let sealed = format!("{SEALED}[cache]\nttl_secs = 3600\n");
        let proxy = Proxy::start_with(&relay.endpoint(), &settings, &sealed).await;
        for (path, body) in [("/b/k", old()), ("/b/source", source())] {
            assert_eq!(put(proxy.address, path, &body).await.status, 200);
        }
        let upload = Upload::start(proxy.address, "/b/parts", &[]).await;
        let parts = vec![(1, upload.part(1, &part()).await)];
        let before = store.contents();
        let mut lane = Self { store, relay, proxy, before, upload, parts, right: BTreeMap::new() };
        for read in ALL.into_iter().filter(|operation| operation.reads()) {
            let reply = read.ask(&lane).await;
            assert!(reply.status.is_success() && reply.body.is_ok(), "{read:?}: {reply:?}");
            lane.right.insert(read, reply);
        }
        lane
    }

    /// As it was at the start.
    pub fn reset(&self) {
        self.store.restore(self.before.clone());
    }

    /// The same before this operation: s3veil has forgotten the upload that a part is for, whatever became of the part before.
    pub async fn prepare(&self, operation: Operation) {
        if operation == Operation::Part {
            let mut gone = self.before.clone();
            gone.objects.retain(|path, _| !path.starts_with("/b/.s3veil/"));
            self.store.restore(gone);
            assert_eq!(self.upload.complete(&self.parts).await.code(), "NoSuchUpload");
        }
        self.reset();
    }

    /// What broke has come to its end at the store too, and so has what s3veil has given up for it: nothing of that happens
    /// any more. What was given up may still be on its way here, so it is looked for a few times.
    async fn settle(&self, looks: usize) {
        let (begun, mut calm) = (Instant::now(), 0);
        while calm < looks {
            let still = self.relay.waiting() == 0 && self.store.connections() == self.relay.live();
            calm = if still { calm + 1 } else { 0 };
            assert!(begun.elapsed() < PATIENCE, "{} {}", self.store.connections(), self.relay.live());
            if calm < looks {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Nothing is at work any more, and no client is connected; each connection to the store is whole, or gone.
    pub async fn quiet(&self) {
        let begun = Instant::now();
        while at_work(&self.proxy.app) != [0; 3] {
            assert!(begun.elapsed() < PATIENCE, "{:?}", at_work(&self.proxy.app));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.settle(3).await;
    }
}

/// Connections of clients, requests, and what goes on without its client.
fn at_work(app: &App) -> [usize; 3] {
    let metrics = &app.metrics;
    let gauge = |value: i64| usize::try_from(value).unwrap();
    [gauge(metrics.listener.connections.get()), gauge(metrics.in_flight.get()), app.rooms.detached.count()]
}

impl Operation {
    pub fn reads(self) -> bool {
        matches!(self, Self::Get | Self::Range | Self::Head | Self::List)
    }

    /// Asks it of s3veil; none if no answer came, which must be soon.
    pub async fn try_ask(self, lane: &Lane) -> (Option<Reply>, Duration) {
        let part = format!("{}&partNumber=1", lane.upload.at());
        let (whole, list) = (lane.upload.at(), document(&lane.parts));
        let (range, source) = ([("range", "bytes=10-19")], [("x-amz-copy-source", "b/source")]);
        let (method, path, headers, body): (_, &str, &[(&str, &str)], Vec<u8>) = match self {
            Self::Put => ("PUT", "/b/k", &[], new()),
            Self::Get => ("GET", "/b/k", &[], vec![]),
            Self::Range => ("GET", "/b/k", &range, vec![]),
            Self::Head => ("HEAD", "/b/k", &[], vec![]),
            Self::List => ("GET", "/b?list-type=2", &[], vec![]),
            Self::Copy => ("PUT", "/b/k", &source, vec![]),
            Self::Delete => ("DELETE", "/b/k", &[], vec![]),
            Self::Create => ("POST", "/b/more?uploads", &[], vec![]),
            Self::Part => ("PUT", &part, &[], new()),
            Self::Complete => ("POST", &whole, &[], list),
        };
        let begun = Instant::now();
        let asked = try_send(lane.proxy.address, method, path, headers, &body);
        let reply = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{self:?} hangs"));
        let took = begun.elapsed();
        lane.settle(if self == Self::Complete { 3 } else { 1 }).await;
        (reply, took)
    }

    pub async fn ask(self, lane: &Lane) -> Reply {
        self.try_ask(lane).await.0.unwrap_or_else(|| panic!("{self:?} has no answer"))
    }

    /// The answer is the right one or an error that is clear, the store holds what it held or what it should, and it
    /// holds what the client was told that it does.
    pub async fn judge(self, lane: &Lane, reply: Option<&Reply>, what: &str) {
        self.judge_by(lane, reply, what, true).await;
    }

    /// The same where the error may be any that says what it is.
    pub async fn judge_loosely(self, lane: &Lane, reply: Option<&Reply>, what: &str) {
        self.judge_by(lane, reply, what, false).await;
    }

    async fn judge_by(self, lane: &Lane, reply: Option<&Reply>, what: &str, away: bool) {
        // A listing streams: where it breaks off at once, its head may not have gone out yet.
        let Some(reply) = reply else { return assert!(self == Self::List, "{what}: there is no answer") };
        let told = reply.status.is_success()
            && reply.body.as_ref().is_ok_and(|body| memchr::memmem::find(body, b"<Error>").is_none());
        if !told {
            self.is_clear(reply, what, away);
        }
        if self.reads() {
            let right = &lane.right[&self];
            let begins = right.received.starts_with(&reply.received);
            assert!(begins || !reply.status.is_success() || (!told && reply.body.is_ok()), "{what}");
            if told {
                assert_eq!((reply.status, &reply.received), (right.status, &right.received), "{what}");
                for name in ["content-length", "content-range", "etag"] {
                    assert_eq!(reply.header(name), right.header(name), "{what}");
                }
            }
            assert!(lane.store.contents() == lane.before, "{what}: a read changes nothing");
            return;
        }
        let after = lane.store.contents();
        self.leaves_the_rest(lane, &after, what);
        let to = lane.proxy.address;
        let unchanged = after == lane.before;
        match self {
            _ if unchanged && !told && self != Self::Complete => {}
            Self::Put | Self::Copy => {
                let wanted = if self == Self::Put { new() } else { source() };
                let read = get(to, "/b/k").await;
                assert_eq!((read.status.as_u16(), read.bytes()), (200, &wanted[..]), "{what}");
            }
            Self::Delete => assert_eq!(get(to, "/b/k").await.code(), "NoSuchKey", "{what}"),
            Self::Create if told => {
                let id = inner(reply, "UploadId");
                let upload = Upload { to, path: "/b/more".into(), id };
                let list = [(1, upload.part(1, &new()).await)];
                assert_eq!(upload.complete(&list).await.status, 200, "{what}");
                assert_eq!(get(to, "/b/more").await.bytes(), new(), "{what}");
            }
            // One that nobody has heard of, or cut short in its removal: no object, and `gc` finds it.
            Self::Create => assert_eq!(get(to, "/b/more").await.code(), "NoSuchKey", "{what}"),
            Self::Part => {
                let etag = inner(&lane.upload.list().await, "ETag").replace("&quot;", "\"");
                if told {
                    assert_eq!(etag, reply.header("etag"), "{what}");
                }
                let wanted = if etag == lane.parts[0].1 { part() } else { new() };
                assert_eq!(lane.upload.complete(&[(1, etag)]).await.status, 200, "{what}");
                assert_eq!(get(to, "/b/parts").await.bytes(), wanted, "{what}");
            }
            Self::Complete => {
                if !told {
                    let again = lane.upload.complete(&lane.parts).await;
                    assert_eq!(again.status, 200, "{what}, and again: {}", again.code());
                }
                assert_eq!(get(to, "/b/parts").await.bytes(), part(), "{what}");
            }
            _ => unreachable!("reads are judged above"),
        }
    }

    /// An error with status and code, or a body that broke off and does not look whole. `away`: it says that the store is.
    fn is_clear(self, reply: &Reply, what: &str, away: bool) {
        let streams = self.reads() || self == Self::Delete;
        let broke_off = streams && reply.status.is_success() && reply.body.is_err();
        assert!(broke_off || reply.body.is_ok(), "{what}: {reply:?}");
        // Of a 304 nobody says more.
        let nameless = self == Self::Head || broke_off || reply.status == 304;
        let code = if nameless { String::new() } else { reply.code() };
        assert!(broke_off || nameless || !code.starts_with("no error"), "{what}: {reply:?}");
        if away {
            let said = reply.status == 503 && (nameless || code == "ServiceUnavailable");
            assert!(said || broke_off, "{what}: {} {code} {reply:?}", reply.status);
            assert!(broke_off || !reply.header("retry-after").is_empty(), "{what}");
        } else {
            let said = reply.status.as_u16() >= 400 || reply.status == 304 || code == "SlowDown";
            assert!(said || broke_off, "{what}: {} {code} {reply:?}", reply.status);
        }
    }

    /// What a completion has left is what was written, or an error says that it is damaged, or it is not there.
    pub async fn opens_or_fails(self, lane: &Lane, done: &Reply, what: &str) {
        if !done.status.is_success() {
            self.is_clear(done, what, false);
        }
        let read = get(lane.proxy.address, "/b/parts").await;
        match read.status.is_success() {
            true => {
                assert!(part().starts_with(&read.received) && (read.body.is_err() || read.bytes() == part()))
            }
            false => assert!(["InternalError", "NoSuchKey"].contains(&&*read.code()), "{what}: {read:?}"),
        }
    }

    /// All but what it writes is as it was, and each object is whole.
    fn leaves_the_rest(self, lane: &Lane, after: &Contents, what: &str) {
        let own = |path: &str| match self {
            Self::Create => path.starts_with("/b/.s3veil/"),
            Self::Part | Self::Complete => path == "/b/parts" || path.starts_with("/b/.s3veil/"),
            _ => path == "/b/k",
        };
        let rest = |contents: &Contents| {
            let rest = contents.objects.iter().filter(|(path, _)| !own(path));
            rest.map(|(path, object)| (path.clone(), object.clone())).collect::<Vec<_>>()
        };
        assert!(rest(after) == rest(&lane.before), "{what}: {:?}", lane.store.paths());
        for (path, object) in after.objects.iter().filter(|(path, _)| !path.starts_with("/b/.s3veil/")) {
            assert!(object.headers.contains_key(ENVELOPE), "{what}: {path}");
        }
    }
}
