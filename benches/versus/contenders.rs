//! Who takes turns before a store, in which bucket, and whether the store may see what is in it.

use std::path::Path;

use super::kms::Kes;
use super::peers::{Peer, Process};
use super::rivals;
use super::targets::{NATIVE, OURS, OURS_KMS, RIVALS, UNSIGNED};
use super::wire::Target;

/// One of those that take turns.
pub struct Contender {
    pub name: String,
    /// Why it does not run, if so.
    pub peer: Result<Peer, String>,
    /// Its bucket, as its clients call it.
    pub bucket: String,
    /// The same, as the store calls it.
    pub stored: String,
    /// Whether the store holds nothing that it was sent as it was.
    pub seals: bool,
    /// Whether the bucket is told to seal by default, for a store that does so itself.
    pub native: bool,
}

/// What to start, and of which programs.
pub struct Choice<'a> {
    /// A part of each wanted name, in small letters. All if there is none.
    pub names: &'a [String],
    pub program: &'a Path,
    /// Further builds: name and program.
    pub also: &'a [(String, String)],
}

impl Choice<'_> {
    pub fn wants(&self, name: &str) -> bool {
        self.names.is_empty()
            || self.names.iter().any(|part| name.to_lowercase().contains(&part.to_lowercase()))
    }
}

impl Contender {
    fn new(name: &str, bucket: &str, peer: Result<Peer, String>) -> Self {
        let (name, bucket) = (name.to_owned(), bucket.to_owned());
        Self { stored: bucket.clone(), name, bucket, peer, seals: true, native: false }
    }

    /// The path of an object that it reads, which it has itself written.
    pub fn kept(&self, what: &str) -> String {
        let plain: String = what.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("/{}/keep/{plain}", self.bucket)
    }

    /// The path of what is written and not read.
    pub fn written(&self) -> String {
        format!("/{}/written", self.bucket)
    }

    pub fn writes_only(&self) -> bool {
        self.peer.as_ref().is_ok_and(|peer| peer.writes_only)
    }
}

/// Those before any store: nothing, nginx, s3veil.
pub fn usual(choice: &Choice<'_>, store: &Target) -> Vec<Contender> {
    let plain = |name: &str, peer| Contender { seals: false, ..Contender::new(name, "versus-plain", peer) };
    let mut contenders = Vec::new();
    if choice.wants("direct") {
        contenders.push(plain("direct", Ok(Peer::direct(store))));
    }
    if choice.wants("nginx") {
        contenders.push(plain("nginx", Peer::nginx(store)));
    }
    let mut ours = vec![(OURS, choice.program, "auto"), (UNSIGNED, choice.program, "unsigned")];
    ours.extend(choice.also.iter().map(|(name, program)| (name.as_str(), Path::new(program), "auto")));
    for (index, (name, program, payload)) in ours.into_iter().enumerate() {
        if choice.wants(name) {
            let peer = Peer::s3veil(name, program, store, payload);
            contenders.push(Contender::new(name, &format!("versus-s3veil-{index}"), peer));
        }
    }
    contenders
}

/// Those that seal before a MinIO, and MinIO that seals itself.
pub fn sealing(choice: &Choice<'_>, store: &Target, kes: &Kes) -> Vec<Contender> {
    let mut contenders = Vec::new();
    if choice.wants(OURS_KMS) {
        let peer = Peer::s3veil_with(OURS_KMS, choice.program, store, "auto", Some(&kes.of_s3veil()));
        contenders.push(Contender::new(OURS_KMS, "versus-s3veil-kes", peer));
    }
    if choice.wants(NATIVE) {
        let process = Some(Process::others(kes.pid()));
        let peer = Peer { name: NATIVE.into(), target: store.clone(), writes_only: false, process };
        contenders.push(Contender { native: true, ..Contender::new(NATIVE, "versus-native", Ok(peer)) });
    }
    let [rclone, s3proxy] = RIVALS;
    if choice.wants(rclone) {
        let stored = "versus-rclone".to_owned();
        let peer = rivals::rclone(rclone, store, &stored);
        contenders.push(Contender { stored, ..Contender::new(rclone, "versus", peer) });
    }
    if choice.wants(s3proxy) {
        contenders.push(Contender::new(s3proxy, "versus-s3proxy", rivals::s3proxy(s3proxy, store)));
    }
    contenders
}
