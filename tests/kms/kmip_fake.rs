//! A small KMIP server, written from the specification (1.4 and 2.1) apart from s3veil's own code: for what PyKMIP
//! does not do (2.1, Re-Key, decrypting with deactivated keys, activating them again), and for lies.
//!
//! It is strict: attributes must come in the form of the version that the message says it is in.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::kmip_server::Certificates;

/// How the server behaves.
#[derive(Clone)]
pub struct Rules {
    pub versions: &'static [(i32, i32)],
    /// As the specification allows.
    pub decrypts_deactivated: bool,
    /// Against the specification, as some servers do.
    pub reactivates: bool,
    /// It shows destroyed keys.
    pub keeps_destroyed: bool,
    /// Re-Key leaves the old key its name, against the specification.
    pub old_keeps_name: bool,
    /// Every Decrypt is refused for this reason.
    pub decrypt_fails: Option<u32>,
    pub lie: Option<Lie>,
    /// Every Encrypt waits until so many are under way.
    pub meet: Option<Arc<Barrier>>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            versions: &[(1, 4), (2, 0), (2, 1)],
            decrypts_deactivated: true,
            reactivates: true,
            keeps_destroyed: false,
            old_keeps_name: false,
            decrypt_fails: None,
            lie: None,
            meet: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    OtherKey,
    OtherOperation,
    ShortDek,
    NoTag,
    ShortTag,
    OtherIv,
    ShortKey,
    NoState,
    WrongTag,
    Truncated,
    HugeLength,
    LengthOverflow,
    Deep,
    NotKmip,
    GoneBeforeTheAnswer,
}

pub struct Key {
    pub names: Vec<String>,
    pub state: u32,
    bytes: [u8; 32],
    links: Vec<(u32, String)>,
}

#[derive(Default)]
pub struct State {
    pub rules: Rules,
    pub keys: BTreeMap<String, Key>,
    /// Versions that requests were in.
    pub spoken: Vec<(i32, i32)>,
    pub connections: usize,
    made: u32,
}

/// A running server. Dropping it closes all its connections.
pub struct Fake {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
    /// It reads, and answers no more.
    pub silent: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub async fn start(certificates: &Certificates, rules: Rules) -> Self {
        let state = Arc::new(Mutex::new(State { rules, ..State::default() }));
        Self::start_at(certificates, 0, state).await
    }

    pub async fn start_at(certificates: &Certificates, port: u16, state: Arc<Mutex<State>>) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        let silent = Arc::new(AtomicBool::new(false));
        tasks.spawn(serve(listener, acceptor(certificates), state.clone(), silent.clone()));
        Self { port, state, silent, _tasks: tasks }
    }

    pub fn rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state.lock().unwrap().rules);
    }
}

fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificates.path("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>, silent: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state, silent) = (tls.clone(), state.clone(), silent.clone());
        connections.spawn(async move {
            let _ = connection(stream, tls, state, &silent).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    state: Arc<Mutex<State>>,
    silent: &AtomicBool,
) -> io::Result<()> {
    let mut stream = tls.accept(stream).await?;
    state.lock().unwrap().connections += 1;
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes(head[4..].try_into().unwrap()) as usize;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let request = Node::parse(&[&head[..], &body].concat());
        let meet = state.lock().unwrap().rules.meet.clone().filter(|_| operation(&request) == 0x1f);
        if let Some(meet) = meet {
            meet.wait().await;
        }
        let (answer, lie) = {
            let mut state = state.lock().unwrap();
            (answer(&mut state, &request), state.rules.lie)
        };
        let answer = match lie {
            Some(Lie::GoneBeforeTheAnswer) => return Ok(()),
            Some(Lie::Truncated) => {
                stream.write_all(&answer[..answer.len() - 8]).await?;
                return stream.shutdown().await;
            }
            Some(Lie::HugeLength) => [&answer[..4], &[0x7f, 0, 0, 0], &answer[8..]].concat(),
            Some(Lie::LengthOverflow) => {
                let mut broken = answer;
                broken[12..16].copy_from_slice(&[0xff; 4]);
                broken
            }
            Some(Lie::Deep) => (0..1000).fold(Vec::new(), |within, _| item(0x42_007b, 1, &within)),
            Some(Lie::NotKmip) => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            _ => answer,
        };
        stream.write_all(&answer).await?;
    }
}

fn operation(request: &Node) -> u32 {
    request.at(&[0x42_000f, 0x42_005c]).number()
}

/// The answer to a request, as bytes.
fn answer(state: &mut State, request: &Node) -> Vec<u8> {
    let version = request.at(&[0x42_0077, 0x42_0069]);
    let version = (version.get(0x42_006a).number() as i32, version.get(0x42_006b).number() as i32);
    let asked = operation(request);
    let payload = &request.at(&[0x42_000f, 0x42_0079]);
    let lie = state.rules.lie;
    let result = match state.rules.versions.contains(&version) || asked == 0x1e {
        true => run(state, version, asked, payload),
        false => Err(0x04),
    };
    state.spoken.push(version);
    let shown = if lie == Some(Lie::OtherOperation) { asked ^ 1 } else { asked };
    let mut batch = item(0x42_005c, 5, &shown.to_be_bytes());
    match result {
        Ok(payload) => {
            batch.extend(item(0x42_007f, 5, &0u32.to_be_bytes()));
            batch.extend(item(0x42_007c, 1, &payload));
        }
        Err(reason) => {
            batch.extend(item(0x42_007f, 5, &1u32.to_be_bytes()));
            batch.extend(item(0x42_007e, 5, &u32::to_be_bytes(reason)));
            batch.extend(item(0x42_007d, 7, b"refused"));
        }
    }
    let header = [protocol_version(version), item(0x42_0092, 9, &[0; 8]), item(0x42_000d, 2, &[0, 0, 0, 1])];
    item(0x42_007b, 1, &[item(0x42_007a, 1, &header.concat()), item(0x42_000f, 1, &batch)].concat())
}

fn protocol_version((major, minor): (i32, i32)) -> Vec<u8> {
    let numbers = [item(0x42_006a, 2, &major.to_be_bytes()), item(0x42_006b, 2, &minor.to_be_bytes())];
    item(0x42_0069, 1, &numbers.concat())
}

fn identifier(id: &str) -> Vec<u8> {
    item(0x42_0094, 7, id.as_bytes())
}

/// The payload of the answer, or a result reason.
fn run(state: &mut State, version: (i32, i32), asked: u32, payload: &Node) -> Result<Vec<u8>, u32> {
    let new = version.0 == 2;
    match asked {
        0x1e if state.rules.versions.is_empty() => return Err(0x05),
        0x1e => {
            return Ok(state.rules.versions.iter().flat_map(|version| protocol_version(*version)).collect());
        }
        0x01 => return create(state, new, payload),
        0x08 => return locate(state, new, payload),
        _ => {}
    }
    let id = payload.get(0x42_0094).text();
    let lie = state.rules.lie;
    let shown = if lie == Some(Lie::OtherKey) { "another".into() } else { id.clone() };
    if asked == 0x04 {
        return rekey(state, &id, payload);
    }
    let Rules {
        decrypts_deactivated: decrypts,
        reactivates,
        keeps_destroyed: keeps,
        decrypt_fails: fails,
        ..
    } = state.rules;
    let key = state.keys.get_mut(&id).ok_or(0x01u32)?;
    let mut out = identifier(&shown);
    match asked {
        0x0b => out.extend(attributes(key, new, lie)),
        0x12 if key.state == 1 || (reactivates && key.state == 3) => key.state = 2,
        0x13 if key.state == 2 => {
            assert_eq!(payload.get(0x42_0081).get(0x42_0082).number(), 6, "CessationOfOperation");
            key.state = 3;
        }
        0x14 if key.state != 2 && keeps => key.state = 5,
        0x14 if key.state != 2 => {
            state.keys.remove(&id);
        }
        0x0a => {
            assert_eq!(payload.get(0x42_0042).number(), 1, "Raw");
            let length = if lie == Some(Lie::ShortKey) { 16 } else { 32 };
            let value = item(0x42_0045, 1, &item(0x42_0043, 8, &key.bytes[..length]));
            let block = item(0x42_0040, 1, &[item(0x42_0042, 5, &[0, 0, 0, 1]), value].concat());
            out = [item(0x42_0057, 5, &[0, 0, 0, 2]), out, item(0x42_008f, 1, &block)].concat();
        }
        0x1f if key.state == 2 => out.extend(encrypt(key, payload, lie)),
        0x20 if fails.is_some() => return Err(fails.unwrap()),
        0x20 if key.state == 2 || decrypts => out.extend(decrypt(key, payload, lie)?),
        0x12 | 0x13 | 0x14 | 0x1f | 0x20 => return Err(0x43),
        _ => return Err(0x05),
    }
    Ok(out)
}

/// The attributes of a request, in the form of its version and in no other.
fn asked_for(new: bool, payload: &Node, frame: Option<u32>) -> BTreeMap<String, Node> {
    if new {
        assert!(payload.find(0x42_0008).is_none() && payload.find(0x42_0091).is_none(), "1.x in 2.x");
        let names = BTreeMap::from([
            (0x42_0053, "Name"),
            (0x42_0057, "Object Type"),
            (0x42_0028, "Cryptographic Algorithm"),
            (0x42_002a, "Cryptographic Length"),
            (0x42_002c, "Cryptographic Usage Mask"),
        ]);
        let attributes = payload.get(0x42_0125).children();
        return attributes.into_iter().map(|node| (names[&node.tag].to_owned(), node)).collect();
    }
    assert!(payload.find(0x42_0125).is_none(), "2.x in 1.x");
    let holder = frame.map_or(payload.clone(), |frame| payload.get(frame));
    let attributes = holder.children().into_iter().filter(|node| node.tag == 0x42_0008);
    attributes.map(|node| (node.get(0x42_000a).text(), node.get(0x42_000b))).collect()
}

fn create(state: &mut State, new: bool, payload: &Node) -> Result<Vec<u8>, u32> {
    assert_eq!(payload.get(0x42_0057).number(), 2, "a symmetric key");
    let wanted = asked_for(new, payload, Some(0x42_0091));
    let number = |name: &str| wanted[name].number();
    assert_eq!(number("Cryptographic Algorithm"), 3);
    assert_eq!(number("Cryptographic Length"), 256);
    assert_eq!(number("Cryptographic Usage Mask"), 12);
    let name = wanted["Name"].get(0x42_0055).text();
    if state.keys.values().any(|key| key.names.contains(&name) && key.state != 5) {
        return Err(0x35);
    }
    let id = state.make(name, 1, vec![]);
    Ok([item(0x42_0057, 5, &[0, 0, 0, 2]), identifier(&id)].concat())
}

impl State {
    /// A new key of this name.
    pub fn make(&mut self, name: String, state: u32, links: Vec<(u32, String)>) -> String {
        self.made += 1;
        let id = format!("key-{}", self.made);
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        self.keys.insert(id.clone(), Key { names: vec![name], state, bytes, links });
        id
    }
}

fn locate(state: &State, new: bool, payload: &Node) -> Result<Vec<u8>, u32> {
    let wanted = asked_for(new, payload, None);
    assert_eq!(wanted["Object Type"].number(), 2);
    let name = wanted.get("Name").map(|name| name.get(0x42_0055).text());
    let found =
        state.keys.iter().filter(|(_, key)| name.as_ref().is_none_or(|name| key.names.contains(name)));
    Ok(found.flat_map(|(id, _)| identifier(id)).collect())
}

/// The name goes to the new key; the offset of nothing makes it active. Specification 1.4, section 4.4.
fn rekey(state: &mut State, id: &str, payload: &Node) -> Result<Vec<u8>, u32> {
    let active = payload.find(0x42_0058).is_some_and(|offset| offset.number() == 0);
    let old = state.keys.get_mut(id).ok_or(0x01u32)?;
    let name = old.names.pop().ok_or(0x0bu32)?;
    if state.rules.old_keeps_name {
        old.names.push(name.clone());
    }
    let new = state.make(name, if active { 2 } else { 1 }, vec![(0x107, id.to_owned())]);
    state.keys.get_mut(id).unwrap().links.push((0x106, new.clone()));
    Ok(identifier(&new))
}

fn attributes(key: &Key, new: bool, lie: Option<Lie>) -> Vec<u8> {
    let mut all = vec![
        ("Initial Date", 0x42_0039, 9, 1_700_000_000u64.to_be_bytes().to_vec()),
        ("Cryptographic Algorithm", 0x42_0028, 5, vec![0, 0, 0, 3]),
        ("Cryptographic Length", 0x42_002a, 2, vec![0, 0, 1, 0]),
    ];
    if lie != Some(Lie::NoState) {
        all.push(("State", 0x42_008d, 5, key.state.to_be_bytes().to_vec()));
    }
    for name in &key.names {
        let value = [item(0x42_0055, 7, name.as_bytes()), item(0x42_0054, 5, &[0, 0, 0, 1])];
        all.push(("Name", 0x42_0053, 1, value.concat()));
    }
    for (kind, to) in &key.links {
        let value = [item(0x42_004b, 5, &kind.to_be_bytes()), item(0x42_004c, 7, to.as_bytes())];
        all.push(("Link", 0x42_004a, 1, value.concat()));
    }
    if new {
        let within: Vec<u8> = all.iter().flat_map(|(_, tag, kind, value)| item(*tag, *kind, value)).collect();
        return item(0x42_0125, 1, &within);
    }
    let one = |(name, _, kind, value): &(&str, u32, u8, Vec<u8>)| {
        item(0x42_0008, 1, &[item(0x42_000a, 7, name.as_bytes()), item(0x42_000b, *kind, value)].concat())
    };
    all.iter().flat_map(one).collect()
}

fn parameters(payload: &Node) -> bool {
    let parameters = payload.get(0x42_002b);
    assert_eq!(parameters.get(0x42_0011).number(), 9, "GCM");
    assert_eq!(parameters.get(0x42_0028).number(), 3, "AES");
    assert_eq!(parameters.get(0x42_00ce).number(), 16, "bytes of the tag");
    let random = parameters.find(0x42_00c5).is_some();
    assert_eq!(
        parameters.find(0x42_00cd).map(|length| length.number()),
        random.then_some(12),
        "bytes of the IV"
    );
    random
}

fn encrypt(key: &Key, payload: &Node, lie: Option<Lie>) -> Vec<u8> {
    let random = parameters(payload);
    let mut iv: [u8; 12] = [7; 12];
    match payload.find(0x42_003d) {
        Some(given) => iv.copy_from_slice(&given.value),
        None => getrandom::fill(&mut iv).unwrap(),
    }
    let data = payload.get(0x42_00c2).value;
    let aad = payload.get(0x42_00fe).value;
    let sealed =
        Aes256Gcm::new(&key.bytes.into()).encrypt(&iv.into(), Payload { msg: &data, aad: &aad }).unwrap();
    let (data, tag) = sealed.split_at(data.len());
    let data = if lie == Some(Lie::ShortDek) { &data[..16] } else { data };
    let tag = if lie == Some(Lie::ShortTag) { &tag[..12] } else { tag };
    let mut out = item(0x42_00c2, 8, data);
    if random || lie == Some(Lie::OtherIv) {
        iv[0] ^= u8::from(lie == Some(Lie::OtherIv));
        out.extend(item(0x42_003d, 8, &iv));
    }
    if lie != Some(Lie::NoTag) {
        out.extend(item(0x42_00ff, if lie == Some(Lie::WrongTag) { 7 } else { 8 }, tag));
    }
    out
}

fn decrypt(key: &Key, payload: &Node, lie: Option<Lie>) -> Result<Vec<u8>, u32> {
    parameters(payload);
    let iv: [u8; 12] = payload.get(0x42_003d).value.try_into().map_err(|_| 0x24u32)?;
    let sealed = [payload.get(0x42_00c2).value, payload.get(0x42_00ff).value].concat();
    let aad = payload.get(0x42_00fe).value;
    let data = Aes256Gcm::new(&key.bytes.into()).decrypt(&iv.into(), Payload { msg: &sealed, aad: &aad });
    let data = data.map_err(|_| 0x0au32)?;
    Ok(item(0x42_00c2, 8, if lie == Some(Lie::ShortDek) { &data[..16] } else { &data }))
}

/// Tag, type, length, value, zeros.
fn item(tag: u32, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut out = tag.to_be_bytes()[1..].to_vec();
    out.push(kind);
    out.extend((value.len() as u32).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// An item as read. A request that is broken ends the test.
#[derive(Clone, Debug)]
struct Node {
    tag: u32,
    kind: u8,
    value: Vec<u8>,
}

impl Node {
    fn parse(bytes: &[u8]) -> Self {
        let tag = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        Self { tag, kind: bytes[3], value: bytes[8..8 + length].to_vec() }
    }

    fn children(&self) -> Vec<Self> {
        assert_eq!(self.kind, 1, "{:#x} is a structure", self.tag);
        let mut rest = self.value.as_slice();
        let mut children = Vec::new();
        while !rest.is_empty() {
            let child = Self::parse(rest);
            rest = &rest[8 + child.value.len().next_multiple_of(8)..];
            children.push(child);
        }
        children
    }

    fn find(&self, tag: u32) -> Option<Self> {
        self.children().into_iter().find(|child| child.tag == tag)
    }

    fn get(&self, tag: u32) -> Self {
        self.find(tag).unwrap_or_else(|| panic!("{tag:#x} in {self:?}"))
    }

    fn at(&self, path: &[u32]) -> Self {
        path.iter().fold(self.clone(), |node, tag| node.get(*tag))
    }

    fn text(&self) -> String {
        assert_eq!(self.kind, 7, "{:#x} is a text", self.tag);
        String::from_utf8(self.value.clone()).unwrap()
    }

    fn number(&self) -> u32 {
        assert!(matches!(self.kind, 2 | 5 | 10), "{:#x} is a number", self.tag);
        u32::from_be_bytes(self.value.as_slice().try_into().unwrap())
    }
}
