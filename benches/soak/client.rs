//! One client: draws what it does next, and knows what every object of its own must be.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::chance;
use super::exchange::{Answer, Ask, Connection, whole};
use super::wire::Target;

/// The least of a part that is not the last one.
const PART: usize = 5 << 20;
/// Keys of a client.
const KEYS: u64 = 8;
/// No body is longer.
const LONGEST: usize = 24 << 20;

/// Random bytes that every body is a piece of, so that neither making nor comparing one costs much.
pub struct Material(Bytes);

/// A body: where it begins in the material, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    from: usize,
    len: usize,
}

/// An object is one piece, or those of its parts.
type Object = Vec<Piece>;

/// How often what was done, and how many bytes of plaintext it moved.
#[derive(Default)]
pub struct Counts(BTreeMap<&'static str, (u64, u64)>);

pub struct Client {
    target: Target,
    material: Arc<Material>,
    number: usize,
    chance: u64,
    connection: Option<Connection>,
    objects: BTreeMap<u64, Object>,
    counts: Counts,
}

impl Material {
    pub fn new() -> Self {
        Self(chance::bytes(2 * LONGEST))
    }

    fn piece(&self, piece: Piece) -> Bytes {
        self.0.slice(piece.from..piece.from + piece.len)
    }
}

impl Client {
    pub fn new(target: Target, material: Arc<Material>, number: usize, seed: u64) -> Self {
        let (connection, objects, counts) = (None, BTreeMap::new(), Counts::default());
        let chance = seed.wrapping_mul(chance::SEED) | 1;
        Self { target, material, number, chance, connection, objects, counts }
    }

    /// Works until then.
    ///
    /// Errors: an answer that it should not have got, and to what.
    pub async fn work(mut self, until: Instant) -> Result<Counts, String> {
        while Instant::now() < until {
            let (what, moved) =
                self.something().await.map_err(|why| format!("client {}: {why}", self.number))?;
            self.counts.count(what, moved as u64);
        }
        Ok(self.counts)
    }

    fn draw(&mut self, below: u64) -> u64 {
        // The low bits of xorshift are the weak ones.
        (chance::next(&mut self.chance) >> 16) % below
    }

    fn path(&self, key: u64) -> String {
        format!("/soak/client-{}/{key}", self.number)
    }

    /// A piece whose length is below `longest`, of every magnitude alike.
    fn draw_piece(&mut self, longest: usize) -> Piece {
        let bits = u64::from(usize::BITS - longest.leading_zeros());
        let magnitude = 1_usize << self.draw(bits);
        let len = (self.draw(2 * magnitude as u64) as usize).min(longest);
        Piece { from: self.draw((2 * LONGEST - len) as u64) as usize, len }
    }

    async fn something(&mut self) -> Result<(&'static str, usize), String> {
        let key = self.draw(KEYS);
        Ok(match self.draw(100) {
            0..20 => ("PutObject, small", self.put(key, 8 << 10).await?),
            20..30 => ("PutObject, up to 24 MiB", self.put(key, LONGEST).await?),
            30..55 => ("GetObject", self.get(key).await?),
            55..72 => ("GetObject, a range", self.range(key).await?),
            72..79 => ("HeadObject", self.head(key).await?),
            79..83 => ("ListObjectsV2", self.list().await?),
            83..87 => ("CopyObject", self.copy(key).await?),
            87..90 => ("DeleteObject", self.delete(key).await?),
            90..92 => ("multipart upload", self.upload(key, true).await?),
            92..93 => ("multipart upload, aborted", self.upload(key, false).await?),
            93..95 => ("upload broken off", self.broken_upload(key).await?),
            95..97 => ("download broken off", self.broken_download(key).await?),
            97..98 => ("wrong signature", self.stranger(key).await?),
            _ => {
                self.connection = None;
                ("new connection", 0)
            }
        })
    }

    async fn put(&mut self, key: u64, longest: usize) -> Result<usize, String> {
        let piece = self.draw_piece(longest);
        let body = self.material.piece(piece);
        self.ask("PUT", &self.path(key), &[], body, 200).await?;
        self.objects.insert(key, vec![piece]);
        Ok(piece.len)
    }

    async fn get(&mut self, key: u64) -> Result<usize, String> {
        let Some(object) = self.objects.get(&key).cloned() else { return self.missing(key, "GET").await };
        let answer = self.ask("GET", &self.path(key), &[], Bytes::new(), 200).await?;
        self.compare(&object, 0..length(&object), &answer.body)
    }

    async fn range(&mut self, key: u64) -> Result<usize, String> {
        let Some(object) = self.objects.get(&key).cloned() else { return self.missing(key, "GET").await };
        let total = length(&object);
        if total == 0 {
            let ranges = [("range", "bytes=0-".to_owned())];
            return self.ask("GET", &self.path(key), &ranges, Bytes::new(), 416).await.map(|_| 0);
        }
        let from = self.draw(total as u64) as usize;
        let len = 1 + self.draw((total - from).min(256 << 10) as u64) as usize;
        let ranges = [("range", format!("bytes={from}-{}", from + len - 1))];
        let answer = self.ask("GET", &self.path(key), &ranges, Bytes::new(), 206).await?;
        self.compare(&object, from..from + len, &answer.body)
    }

    async fn head(&mut self, key: u64) -> Result<usize, String> {
        let Some(object) = self.objects.get(&key).cloned() else { return self.missing(key, "HEAD").await };
        let answer = self.ask("HEAD", &self.path(key), &[], Bytes::new(), 200).await?;
        let told = answer.headers.get("content-length").and_then(|value| value.to_str().ok());
        match told == Some(length(&object).to_string().as_str()) {
            true => Ok(0),
            false => Err(format!("HEAD says {told:?} of {object:?}")),
        }
    }

    async fn list(&mut self) -> Result<usize, String> {
        let path = format!("/soak?list-type=2&prefix=client-{}%2F", self.number);
        let answer = self.ask("GET", &path, &[], Bytes::new(), 200).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let field = |entry: &str, name: &str| {
            let (_, rest) = entry.split_once(&format!("<{name}>"))?;
            Some(rest.split_once('<')?.0.to_owned())
        };
        let listed =
            text.split("<Contents>").skip(1).map(|entry| Some((field(entry, "Key")?, field(entry, "Size")?)));
        let known = self
            .objects
            .iter()
            .map(|(key, object)| Some((format!("client-{}/{key}", self.number), length(object).to_string())));
        match listed.eq(known) {
            true => Ok(0),
            false => Err(format!("another listing than of {:?}: {text}", self.objects)),
        }
    }

    async fn copy(&mut self, key: u64) -> Result<usize, String> {
        let to = self.draw(KEYS);
        let Some(object) = self.objects.get(&key).filter(|_| key != to).cloned() else { return Ok(0) };
        let source = [("x-amz-copy-source", self.path(key))];
        self.ask("PUT", &self.path(to), &source, Bytes::new(), 200).await?;
        let len = length(&object);
        self.objects.insert(to, object);
        Ok(len)
    }

    async fn delete(&mut self, key: u64) -> Result<usize, String> {
        self.ask("DELETE", &self.path(key), &[], Bytes::new(), 204).await?;
        self.objects.remove(&key);
        Ok(0)
    }

    async fn upload(&mut self, key: u64, complete: bool) -> Result<usize, String> {
        let path = self.path(key);
        let begun = self.ask("POST", &format!("{path}?uploads="), &[], Bytes::new(), 200).await?;
        let text = String::from_utf8_lossy(&begun.body).into_owned();
        let id = text.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once('<')).map(|(id, _)| id);
        let id = id.ok_or_else(|| format!("no UploadId: {text}"))?;
        let (mut object, mut list) = (Object::new(), String::new());
        let count = 1 + self.draw(3);
        for number in 1..=count {
            let more = if number == count { 0 } else { PART };
            let short = self.draw_piece(1 << 20);
            let piece = Piece { from: short.from.min(2 * LONGEST - short.len - more), len: short.len + more };
            let at = format!("{path}?partNumber={number}&uploadId={id}");
            let answer = self.ask("PUT", &at, &[], self.material.piece(piece), 200).await?;
            let etag = answer.headers.get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
            object.push(piece);
        }
        let at = format!("{path}?uploadId={id}");
        if !complete {
            return self.ask("DELETE", &at, &[], Bytes::new(), 204).await.map(|_| length(&object));
        }
        let document = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let answer = self.ask("POST", &at, &[], document.into(), 200).await?;
        if !String::from_utf8_lossy(&answer.body).contains("<ETag>") {
            return Err(format!("CompleteMultipartUpload: {:?}", answer.body));
        }
        let len = length(&object);
        self.objects.insert(key, object);
        Ok(len)
    }

    /// The object stays what it was.
    async fn broken_upload(&mut self, key: u64) -> Result<usize, String> {
        let piece = Piece { len: self.draw_piece(LONGEST).len.max(2), from: 0 };
        let half = self.material.piece(Piece { len: piece.len / 2, ..piece });
        let frames = [Ok(Frame::data(half)), Err(std::io::Error::other("the client has gone"))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let path = self.path(key);
        let ask = Ask { method: "PUT", path: &path, headers: &[], body, length: piece.len };
        match self.send(ask, usize::MAX).await {
            Ok(answer) if answer.status.is_success() => Err("half a body was stored".to_owned()),
            // The connection may have broken before the answer.
            _ => Ok(piece.len / 2),
        }
    }

    async fn broken_download(&mut self, key: u64) -> Result<usize, String> {
        if self.objects.get(&key).is_none_or(|object| length(object) < 2) {
            return Ok(0);
        }
        let path = self.path(key);
        let ask = Ask { method: "GET", path: &path, headers: &[], body: whole(Bytes::new()), length: 0 };
        let answer = self.send(ask, 1).await;
        self.connection = None;
        answer.map(|answer| answer.body.len())
    }

    async fn stranger(&mut self, key: u64) -> Result<usize, String> {
        let secret = std::mem::replace(&mut self.target.secret_key, "another's".to_owned());
        let answer = self.ask("GET", &self.path(key), &[], Bytes::new(), 403).await;
        self.target.secret_key = secret;
        answer.map(|_| 0)
    }

    async fn missing(&mut self, key: u64, method: &str) -> Result<usize, String> {
        self.ask(method, &self.path(key), &[], Bytes::new(), 404).await.map(|_| 0)
    }

    /// The answer, if it has this status.
    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
        status: u16,
    ) -> Result<Answer, String> {
        let length = body.len();
        let ask = Ask { method, path, headers, body: whole(body), length };
        let answer = self.send(ask, usize::MAX).await.map_err(|why| format!("{method} {path}: {why}"))?;
        match answer.status.as_u16() == status {
            true => Ok(answer),
            false => {
                let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(2048)]).into_owned();
                Err(format!("{method} {path}: {} instead of {status}: {text}", answer.status))
            }
        }
    }

    /// On the connection that is there, or on a new one; it is kept if it can be.
    async fn send(&mut self, ask: Ask<'_>, enough: usize) -> Result<Answer, String> {
        let mut connection = match self.connection.take().filter(Connection::is_open) {
            Some(open) => open,
            None => Connection::open(self.target.address).await?,
        };
        let answer = connection.send(&self.target, ask, enough).await?;
        let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
        self.connection = (!closes).then_some(connection);
        Ok(answer)
    }

    /// Whether these are those bytes of the object.
    fn compare(&self, object: &Object, range: Range<usize>, body: &[u8]) -> Result<usize, String> {
        let (mut begin, mut left) = (0, body);
        for piece in object {
            let end = begin + piece.len;
            let (from, to) = (range.start.max(begin), range.end.min(end));
            if from < to {
                let all = self.material.piece(*piece);
                let rest = left.strip_prefix(&all[from - begin..to - begin]);
                left =
                    rest.ok_or_else(|| format!("other bytes than were written, {range:?} of {object:?}"))?;
            }
            begin = end;
        }
        match left.is_empty() {
            true => Ok(body.len()),
            false => Err(format!("{} bytes too many, {range:?} of {object:?}", left.len())),
        }
    }
}

fn length(object: &Object) -> usize {
    object.iter().map(|piece| piece.len).sum()
}

impl Counts {
    fn count(&mut self, what: &'static str, moved: u64) {
        let (times, bytes) = self.0.entry(what).or_default();
        *times += 1;
        *bytes += moved;
    }

    pub fn add(&mut self, other: Self) {
        for (what, (times, bytes)) in other.0 {
            let sum = self.0.entry(what).or_default();
            *sum = (sum.0 + times, sum.1 + bytes);
        }
    }

    /// For people.
    pub fn table(&self, took: Duration) -> String {
        let row = |(what, (times, bytes)): (&&str, &(u64, u64))| {
            format!(
                "| {what} | {times} | {:.1} | {:.1} |\n",
                *times as f64 / took.as_secs_f64(),
                *bytes as f64 / 1e9
            )
        };
        let rows: String = self.0.iter().map(row).collect();
        let (times, bytes) =
            self.0.values().fold((0, 0), |sum, (times, bytes)| (sum.0 + times, sum.1 + bytes));
        let all = row((&"all", &(times, bytes)));
        format!("| | times | a second | GB |\n| --- | ---: | ---: | ---: |\n{rows}{all}")
    }

    pub fn json(&self) -> Value {
        self.0
            .iter()
            .map(|(what, (times, bytes))| (*what, json!({ "times": times, "bytes": bytes })))
            .collect()
    }
}
