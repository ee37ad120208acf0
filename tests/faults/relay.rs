//! A relay between s3veil and whoever it asks, which breaks off, holds or changes what passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From s3veil: requests.
    Asking,
    /// To s3veil: answers.
    Answering,
}

/// What befalls a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both ends are told that it is reset.
    Reset,
    /// It is closed.
    Close,
    /// This way is at its end, the other one stays open.
    Half,
    /// Nothing more passes this way, and nobody is told.
    Stall,
}

/// When it does: once so many bytes have passed and there would be more.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub way: Way,
    pub at: usize,
    pub kind: Kind,
    /// To every connection, by its own bytes; else to the first one that meets it, by the bytes of all together.
    pub always: bool,
}

/// An answer as it came.
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    /// As it came.
    pub fn as_it_is(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// The same with another Content-Length.
    pub fn announcing(&self, length: impl std::fmt::Display) -> Vec<u8> {
        let lines = self.head.lines().map(|line| match length_of(line) {
            Some(_) => format!("content-length: {length}\r\n"),
            None => format!("{line}\r\n"),
        });
        [lines.collect::<String>().as_bytes(), b"\r\n", &self.body].concat()
    }

    /// The same with another body, and its length.
    pub fn saying(&self, body: &[u8]) -> Vec<u8> {
        Self { head: self.head.clone(), body: body.to_vec() }.announcing(body.len())
    }
}

/// What an answer becomes on the wire, in pieces with a pause between them, and whether the connection then ends.
pub struct Changed {
    pub pieces: Vec<Vec<u8>>,
    pub pause: std::time::Duration,
    pub close: bool,
}

impl Changed {
    pub fn to(bytes: Vec<u8>) -> Self {
        Self { pieces: vec![bytes], pause: std::time::Duration::ZERO, close: false }
    }
}

type Change = Arc<dyn Fn(Message) -> Changed + Send + Sync>;

#[derive(Default)]
struct Plan {
    fault: Option<Fault>,
    /// Of all connections, since it was last armed: asking, answering.
    passed: [usize; 2],
    met: usize,
    /// Where something begins, each way: what is written at once, a head, a body.
    marks: [Vec<usize>; 2],
    /// For the answers to this method.
    change: Option<(&'static str, Change)>,
    /// The last one that was seen.
    method: String,
}

/// A running relay.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    live: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
}

/// Whether something has been asked on a connection that has no answer yet.
struct Asked<'a> {
    now: AtomicBool,
    all: &'a AtomicUsize,
}

impl Asked<'_> {
    fn set(&self, asked: bool) {
        match (self.now.swap(asked, Ordering::SeqCst), asked) {
            (false, true) => self.all.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.all.fetch_sub(1, Ordering::SeqCst),
            _ => 0,
        };
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl Relay {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Self { address, plan: Arc::default(), live: Arc::default(), waiting: Arc::default() };
        let served = relay.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let relay = served.clone();
                relay.live.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(to).await {
                        relay.connection(near, far).await;
                    }
                    relay.live.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        relay
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this happens, and bytes are counted from none.
    pub fn arm(&self, fault: Option<Fault>) {
        *self.plan() = Plan { fault, ..Plan::default() };
    }

    /// Answers to this method are changed from now on.
    pub fn change(&self, method: &'static str, change: impl Fn(Message) -> Changed + Send + Sync + 'static) {
        *self.plan() = Plan { change: Some((method, Arc::new(change))), ..Plan::default() };
    }

    /// Nothing happens any more. How often it has, and what has passed since: asking, answering.
    pub fn disarm(&self) -> (usize, [usize; 2]) {
        let plan = std::mem::take(&mut *self.plan());
        (plan.met, plan.passed)
    }

    /// Where something has begun since it was armed: asking, answering.
    pub fn marks(&self) -> [Vec<usize>; 2] {
        self.plan().marks.clone()
    }

    /// Connections that have not ended.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Those of them on which something has been asked that has no answer yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    async fn connection(&self, mut near: TcpStream, mut far: TcpStream) {
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let asked = Asked { now: AtomicBool::new(false), all: &self.waiting };
        let broken = {
            let (ask, answer) = (near.split(), far.split());
            let asking = self.pump(Way::Asking, &asked, ask.0, answer.1);
            let answering = self.pump(Way::Answering, &asked, answer.0, ask.1);
            tokio::pin!(asking, answering);
            // Either may end it; else both must have come to their ends.
            tokio::select! {
                end = &mut asking => if end.is_some() { end } else { answering.await },
                end = &mut answering => if end.is_some() { end } else { asking.await },
            }
        };
        if broken == Some(Kind::Reset) {
            near.set_zero_linger().unwrap();
            far.set_zero_linger().unwrap();
        }
    }

    /// Passes on until the end. How the whole connection ends at once, if it does.
    async fn pump(
        &self,
        way: Way,
        asked: &Asked<'_>,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Option<Kind> {
        let (mut buffer, mut own, mut silent) = (vec![0; 32 * 1024], 0, false);
        loop {
            let Ok(len @ 1..) = from.read(&mut buffer).await else {
                to.shutdown().await.ok();
                return None;
            };
            asked.set(way == Way::Asking);
            if silent {
                continue;
            }
            let mut bytes = buffer[..len].to_vec();
            if let Some(change) = self.changes(way, &bytes) {
                let bodiless = self.plan().method == "HEAD";
                let changed = change(whole(&mut from, bytes, bodiless).await?);
                for piece in changed.pieces {
                    to.write_all(&piece).await.ok()?;
                    tokio::time::sleep(changed.pause).await;
                }
                if changed.close {
                    return Some(Kind::Close);
                }
                continue;
            }
            let kind = self.passes(way, &mut own, &mut bytes);
            // Whoever does not take it has ended; what he still says is seen on the other way.
            silent = to.write_all(&bytes).await.is_err();
            match kind {
                None => {}
                Some(Kind::Reset | Kind::Close) => return kind,
                Some(Kind::Half) => {
                    to.shutdown().await.ok();
                    silent = true;
                }
                Some(Kind::Stall) => silent = true,
            }
        }
    }

    /// Cuts what may not pass any more, and says what happens then.
    fn passes(&self, way: Way, own: &mut usize, bytes: &mut Vec<u8>) -> Option<Kind> {
        let plan = &mut *self.plan();
        let all = &mut plan.passed[way as usize];
        let heads = bytes.windows(4).enumerate().filter(|(_, four)| four == b"\r\n\r\n");
        plan.marks[way as usize]
            .extend([0].into_iter().chain(heads.map(|(at, _)| at + 4)).map(|at| *all + at));
        let before = if plan.fault.is_some_and(|fault| fault.always) { *own } else { *all };
        let met = plan.fault.filter(|fault| fault.way == way && before + bytes.len() > fault.at);
        if let Some(fault) = met {
            bytes.truncate(fault.at.saturating_sub(before));
            plan.met += 1;
            if !fault.always {
                plan.fault = None;
            }
        }
        *all += bytes.len();
        *own += bytes.len();
        met.map(|fault| fault.kind)
    }

    /// What is done with an answer that begins here, if anything is. Requests begin where s3veil begins to write.
    fn changes(&self, way: Way, bytes: &[u8]) -> Option<Change> {
        let plan = &mut *self.plan();
        let change = plan.change.as_ref()?;
        if way == Way::Asking {
            let word = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
            if ["GET", "HEAD", "PUT", "POST", "DELETE"].iter().any(|method| method.as_bytes() == word) {
                plan.method = String::from_utf8_lossy(word).into_owned();
            }
            return None;
        }
        let (method, change) = (change.0, change.1.clone());
        if plan.method != method {
            return None;
        }
        plan.met += 1;
        Some(change)
    }
}

fn length_of(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
}

/// All of an answer that has begun.
async fn whole(from: &mut ReadHalf<'_>, mut bytes: Vec<u8>, bodiless: bool) -> Option<Message> {
    let mut buffer = [0; 32 * 1024];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8(bytes[..end - 2].to_vec()).unwrap();
            let length = if bodiless { 0 } else { head.lines().find_map(length_of).unwrap_or(0) };
            if bytes.len() >= end + length {
                return Some(Message { head, body: bytes[end..].to_vec() });
            }
        }
        let len = from.read(&mut buffer).await.ok().filter(|len| *len > 0)?;
        bytes.extend_from_slice(&buffer[..len]);
    }
}
