//! What the clients do, and what they write down of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use s3veil::aws::sign::BodyHash;
use tokio::net::TcpStream;

use crate::history::{Action, Condition, Event, Value};
use crate::support::client::{Reply, exchange_on, full, signed};
use crate::support::upload::{document, inner};

pub const KEYS: usize = 4;

/// The value's name goes with it as metadata.
const NAME: &str = "x-amz-meta-value";

/// Longer than any request may take; then it hangs.
const PATIENCE: Duration = Duration::from_secs(90);

const MIB: u32 = 1 << 20;

/// A source of chance that can be had again (SplitMix64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn between(&mut self, begin: u32, end: u32) -> u32 {
        begin + self.below(u64::from(end - begin)) as u32
    }
}

/// Where the replicas are, and what has happened so far.
pub struct World {
    replicas: [SocketAddr; 2],
    begun: Instant,
    histories: [Mutex<Vec<Event>>; KEYS],
}

impl World {
    pub fn new(replicas: [SocketAddr; 2]) -> Self {
        Self { replicas, begun: Instant::now(), histories: Default::default() }
    }

    pub fn histories(&self) -> Vec<Vec<Event>> {
        self.histories.iter().map(|history| history.lock().unwrap().clone()).collect()
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn note(&self, key: usize, event: Event) {
        self.histories[key].lock().unwrap().push(event);
    }

    /// A read at the end, when all is well: it must be answered.
    pub async fn read_at_last(&self, client: u32, replica: SocketAddr, key: usize) {
        let begin = self.now();
        let stream = TcpStream::connect(replica).await.unwrap();
        let head = signed(replica, "GET", &path(key), &[], BodyHash::Unsigned);
        let reply = exchange_on(stream, head.map(|()| full(""))).await.expect("an answer");
        let found = seen(&reply, 0).expect("whole, or nothing there");
        self.note(key, Event { client, begin, end: Some(self.now()), action: Action::Read(found.value()) });
    }
}

fn path(key: usize) -> String {
    format!("/bucket/key-{key}")
}

fn name(value: Value) -> String {
    format!("{}-{}-{}", value.writer, value.number, value.length)
}

/// What a read has found.
enum Found {
    Nothing,
    Value(Value, String),
}

impl Found {
    fn value(&self) -> Option<Value> {
        match self {
            Self::Nothing => None,
            Self::Value(value, _) => Some(*value),
        }
    }
}

/// What an answer to a read shows, from this byte on; none if it shows nothing that is whole.
fn seen(reply: &Reply, offset: usize) -> Option<Found> {
    match (reply.status.as_u16(), &reply.body) {
        (200 | 206, Ok(body)) => {
            let value = Value::of(body, offset).unwrap_or_else(|| {
                panic!("bytes that are no one value's: {:?} {:?}", reply.headers, &body[..64])
            });
            assert_eq!(reply.header(NAME), name(value), "the metadata is another value's");
            let whole = reply.status == 206 || body.len() == value.length as usize;
            assert!(whole, "{} bytes of {value:?}", body.len());
            Some(Found::Value(value, reply.header("etag").to_owned()))
        }
        // It broke off. What came is of one value all the same.
        (200 | 206, Err(_)) => {
            let begins = reply.received.len() < 32 || Value::of(&reply.received, offset).is_some();
            assert!(begins, "what came before the break is no one value's");
            None
        }
        (404, Ok(_)) if reply.code() == "NoSuchKey" => Some(Found::Nothing),
        (500.., _) => {
            assert!(!String::from_utf8_lossy(&reply.received).contains("authenticate"), "{reply:?}");
            None
        }
        (status, _) => panic!("a read was answered {status}: {}", reply.code()),
    }
}

/// Does what chance says until it is time.
pub async fn run(world: &World, number: u32, chance: Chance, until: Instant) {
    let mut client = Client { world, number, chance, written: 0, known: HashMap::new() };
    while Instant::now() < until {
        let key = client.chance.below(KEYS as u64) as usize;
        match client.chance.below(100) {
            0..25 => client.read(key).await,
            25..40 => client.read_range(key).await,
            40..45 => client.look(key).await,
            45..65 => client.put(key, Condition::Always).await,
            65..70 => client.put(key, Condition::Absent).await,
            70..76 => client.put_if_known(key).await,
            76..82 => client.upload(key).await,
            82..91 => client.copy(key).await,
            _ => client.delete(key).await,
        }
    }
}

struct Client<'a> {
    world: &'a World,
    number: u32,
    chance: Chance,
    written: u32,
    /// What the last read of a key has given, and its ETag.
    known: HashMap<usize, (Value, String)>,
}

impl Client<'_> {
    /// The answer of a replica that takes connections, if one came.
    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Reply> {
        let length = body.len().to_string();
        let mut headers = headers.to_vec();
        if method == "PUT" || method == "POST" {
            headers.push(("content-length", &length));
        }
        loop {
            let replica = self.world.replicas[self.chance.below(2) as usize];
            // Nothing has been asked of one that is down.
            let Ok(stream) = TcpStream::connect(replica).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let head = signed(replica, method, path, &headers, BodyHash::Unsigned);
            let asked = exchange_on(stream, head.map(|()| full(body)));
            return tokio::time::timeout(PATIENCE, asked)
                .await
                .unwrap_or_else(|_| panic!("{method} {path} hangs"));
        }
    }

    fn note(&self, key: usize, begin: u64, end: Option<u64>, action: Action) {
        self.world.note(key, Event { client: self.number, begin, end, action });
    }

    /// What has become of a write: done, refused, or unknown.
    async fn outcome(&mut self, key: usize, begin: u64, action: Action, reply: Option<Reply>) {
        let end = self.world.now();
        let Some(reply) = reply.filter(|reply| reply.body.is_ok()) else {
            return self.unknown(key, begin, action).await;
        };
        let (status, error) =
            (reply.status.as_u16(), String::from_utf8_lossy(&reply.received).contains("<Error>"));
        match (status, action) {
            (200..300, _) if !error => self.note(key, begin, Some(end), action),
            (412, Action::Write(_, Condition::Absent)) => self.note(key, begin, Some(end), Action::Present),
            // The same bytes may be there by another ETag: it says nothing.
            (412, Action::Write(_, Condition::Is(_))) => {}
            // An If-Match where nothing is.
            (404, Action::Write(_, Condition::Is(_))) if reply.code() == "NoSuchKey" => {
                self.note(key, begin, Some(end), Action::Read(None));
            }
            (404, Action::Copy(from)) if reply.code() == "NoSuchKey" => {
                self.note(from, begin, Some(end), Action::Read(None));
            }
            (500.. | 200, _) => self.unknown(key, begin, action).await,
            _ => panic!("{action:?} was answered {status} {}", reply.code()),
        }
    }

    async fn unknown(&mut self, key: usize, begin: u64, action: Action) {
        self.note(key, begin, None, action);
        // As clients do, and so that not all that is asked of a dead store is unknown.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }

    fn value(&mut self, length: u32) -> Value {
        self.written += 1;
        Value { writer: self.number, number: self.written, length }
    }

    /// Within a chunk, at its borders, or over several.
    fn length(&mut self) -> u32 {
        match self.chance.below(10) {
            0..6 => self.chance.between(Value::LEAST as u32, 5000),
            6..8 => 65_536 * self.chance.between(1, 4) + self.chance.between(0, 3) - 1,
            _ => self.chance.between(60_000, 300_000),
        }
    }

    async fn read(&mut self, key: usize) {
        let begin = self.world.now();
        let Some(reply) = self.ask("GET", &path(key), &[], Vec::new()).await else { return };
        self.found(key, begin, &reply, 0);
    }

    fn found(&mut self, key: usize, begin: u64, reply: &Reply, offset: usize) {
        let Some(found) = seen(reply, offset) else { return };
        self.note(key, begin, Some(self.world.now()), Action::Read(found.value()));
        match found {
            Found::Nothing => self.known.remove(&key),
            Found::Value(value, etag) => self.known.insert(key, (value, etag)),
        };
    }

    /// A range that every value has some of.
    async fn read_range(&mut self, key: usize) {
        let begin = self.world.now();
        let from = self.chance.between(0, 33) as usize;
        let range = match self.chance.below(4) {
            0 => format!("bytes={from}-{}", from + 31),
            1 => format!("bytes={from}-{}", from + 150_000),
            2 => format!("bytes={from}-"),
            _ => format!("bytes=-{}", self.chance.between(31, 65)),
        };
        let Some(reply) = self.ask("GET", &path(key), &[("range", &range)], Vec::new()).await else { return };
        let shown =
            reply.header("content-range").strip_prefix("bytes ").and_then(|range| range.split_once('-'));
        let offset = shown.map_or(0, |(start, _)| start.parse().unwrap());
        assert!(reply.status != 200, "a range was answered with all of it");
        self.found(key, begin, &reply, offset);
    }

    async fn look(&mut self, key: usize) {
        let begin = self.world.now();
        let Some(reply) = self.ask("HEAD", &path(key), &[], Vec::new()).await else { return };
        let found = match reply.status.as_u16() {
            200 => {
                let words: Vec<u32> =
                    reply.header(NAME).split('-').map(|word| word.parse().unwrap()).collect();
                let value = Value { writer: words[0], number: words[1], length: words[2] };
                assert_eq!(reply.header("content-length"), words[2].to_string(), "{:?}", reply.headers);
                Some(value)
            }
            404 => None,
            500.. => return,
            status => panic!("a look was answered {status}"),
        };
        self.note(key, begin, Some(self.world.now()), Action::Read(found));
    }

    async fn put(&mut self, key: usize, condition: Condition) {
        let length = self.length();
        let value = self.value(length);
        let name = name(value);
        let known = self.known.get(&key).map(|(_, etag)| etag.clone()).unwrap_or_default();
        let mut headers = vec![(NAME, name.as_str())];
        match condition {
            Condition::Always => {}
            Condition::Absent => headers.push(("if-none-match", "*")),
            Condition::Is(_) => headers.push(("if-match", &known)),
        }
        let begin = self.world.now();
        let reply = self.ask("PUT", &path(key), &headers, value.bytes()).await;
        self.outcome(key, begin, Action::Write(value, condition), reply).await;
    }

    async fn put_if_known(&mut self, key: usize) {
        match self.known.get(&key) {
            Some((value, _)) => self.put(key, Condition::Is(*value)).await,
            None => self.read(key).await,
        }
    }

    /// A multipart upload, of one part or of two.
    async fn upload(&mut self, key: usize) {
        let two = self.chance.below(4) == 0;
        let length = self.chance.between(64, 100_000) + if two { 5 * MIB } else { 0 };
        let value = self.value(length);
        let name = name(value);
        let begun = self.ask("POST", &format!("{}?uploads", path(key)), &[(NAME, &name)], Vec::new()).await;
        let Some(begun) = begun.filter(|reply| reply.status == 200 && reply.body.is_ok()) else { return };
        let id = inner(&begun, "UploadId");
        let bytes = value.bytes();
        let parts = if two { bytes.split_at(5 * MIB as usize) } else { bytes.split_at(bytes.len()) };
        let mut list = Vec::new();
        for (number, part) in (1..).zip([parts.0, parts.1]).filter(|(_, part)| !part.is_empty()) {
            let place = format!("{}?partNumber={number}&uploadId={id}", path(key));
            let reply = self.ask("PUT", &place, &[], part.to_vec()).await;
            let Some(reply) = reply.filter(|reply| reply.status == 200) else { return };
            list.push((number, reply.header("etag").to_owned()));
        }
        let begin = self.world.now();
        let reply = self.ask("POST", &format!("{}?uploadId={id}", path(key)), &[], document(&list)).await;
        let action = Action::Write(value, Condition::Always);
        match reply {
            // MinIO loses uploads when it is killed. What it says then is not that the object was never there.
            Some(reply) if reply.status == 404 || reply.status == 400 => {
                assert!(["NoSuchUpload", "InvalidPart"].contains(&&*reply.code()), "{}", reply.code());
                self.unknown(key, begin, action).await;
            }
            reply => self.outcome(key, begin, action, reply).await,
        }
    }

    /// To this key from an earlier one.
    async fn copy(&mut self, key: usize) {
        if key == 0 {
            return;
        }
        let from = self.chance.below(key as u64) as usize;
        let source = path(from);
        let begin = self.world.now();
        let reply = self.ask("PUT", &path(key), &[("x-amz-copy-source", &source)], Vec::new()).await;
        self.outcome(key, begin, Action::Copy(from), reply).await;
    }

    async fn delete(&mut self, key: usize) {
        let begin = self.world.now();
        let reply = self.ask("DELETE", &path(key), &[], Vec::new()).await;
        self.outcome(key, begin, Action::Delete, reply).await;
    }
}
