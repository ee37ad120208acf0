//! The real program, as a process of its own that can be killed.
#![allow(dead_code)] // Each test file uses its own part of this.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::proxy::{ACCESS_KEY, SECRET_KEY};

/// `s3veil serve`. It is killed with the value.
pub struct Program {
    pub address: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    /// A configuration whose keystore and file are in `directory`. `store`: the inside of the table.
    pub async fn configure(directory: &Path, store: &str, more: &str) -> PathBuf {
        let keys = directory.join("keys");
        s3veil::kms::local::init_dev(&keys).await.unwrap();
        let text = format!(
            r#"
            log.level = "warn"
            store = {{ {store} }}
            kms.local = {{ kind = "local", path = "{keys}", master_key = {{ file = "{keys}/master.key" }} }}
            policy = [{{ bucket = "*", ek = "s3veil-dev-key" }}]
            auth.identities = [{{ name = "t", access_key = "{ACCESS_KEY}", secret_key = "{SECRET_KEY}" }}]
            {more}
            "#,
            keys = keys.display()
        );
        let file = directory.join("proxy.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// Starts it on a free port, with its log beside the configuration, and waits until it listens.
    pub fn start(configuration: &Path) -> Self {
        Self::start_at(configuration, Self::free_address())
    }

    /// A loopback address whose port is free now.
    pub fn free_address() -> SocketAddr {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// The same at an address.
    pub fn start_at(configuration: &Path, address: SocketAddr) -> Self {
        Self::start_with(configuration, address, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(configuration: &Path, address: SocketAddr, variables: &[(&str, String)]) -> Self {
        let log = configuration.with_file_name(format!("{}.log", address.port()));
        let child = Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(["serve", "--config", configuration.to_str().unwrap()])
            .env("S3VEIL_LISTEN", address.to_string())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            // Each thread's part of the heap keeps some of what it frees: as many threads on every machine.
            .env("TOKIO_WORKER_THREADS", "4")
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let program = Self { address, log, child };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", program.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        program
    }

    /// SIGKILL: nothing is finished, nothing is tidied up.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Any signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended by itself, and says how.
    pub async fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.ended() {
                Some(status) => return status,
                None => assert!(start.elapsed() < Duration::from_secs(60), "{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until this stands in the log for the `times`-th time.
    pub async fn logged(&self, words: &str, times: usize) {
        let start = Instant::now();
        while self.log().matches(words).count() < times {
            assert!(start.elapsed() < Duration::from_secs(60), "no {times} × '{words}' in {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many files and sockets it has open.
    pub fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The most memory that the process has had, in KiB.
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has now, in KiB.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
