//! Real stores, started on free loopback ports and ended with the value.
//!
//! `tests/setup` installs them. Each test that wants one starts its own, so that no test sees what another
//! left: Garage is ready in a tenth of a second, MinIO in half of one, SeaweedFS in three. To share one among
//! the tests of a file, keep it in a `LazyLock`: no static is dropped, but the server ends with the process.
#![allow(dead_code)] // Each test file uses its own part of this.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take until it answers. Long, because the machine may be compiling beside the tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a server is started, each time on other ports: a port is surely free only until it is let go.
const ATTEMPTS: usize = 3;

/// A running store. Dropping it ends the server and removes its data.
pub struct Store {
    /// The store's name, for messages and to look up what it cannot do.
    pub name: &'static str,
    /// `http://127.0.0.1:PORT`, without a trailing slash.
    pub endpoint: String,
    /// The access key of a user who may do everything, creating buckets included.
    pub access_key: String,
    /// The secret key that belongs to it.
    pub secret_key: String,
    /// The region that the store expects in a signature.
    pub region: String,
    server: Server,
}

impl Store {
    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.trim_start_matches("http://").parse().unwrap()
    }

    /// Who signs for its own user: access key, secret key, region.
    pub fn signer(&self) -> (&str, &str, &str) {
        (&self.access_key, &self.secret_key, &self.region)
    }

    /// The inside of the table `store` for `proxy.toml`.
    pub fn settings(&self) -> String {
        let Self { endpoint, region, access_key, secret_key, .. } = self;
        format!(
            r#"endpoint = "{endpoint}", region = "{region}", credentials.default = {{ access_key = "{access_key}", secret_key = "{secret_key}" }}"#
        )
    }

    /// Where it keeps its data, and all else.
    pub fn directory(&self) -> &Path {
        self.server.dir.path()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What the server has printed so far, for a test that failed and wants to say why.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Kills the server and starts it again where it was, with its data.
    pub fn restart(&mut self) -> Result<(), String> {
        self.server.restart().map_err(|why| format!("{}: {why}", self.name))
    }
}

/// MinIO: versioning, object lock, conditional writes. It refuses keys like `a//b` and `a/./b`, and more
/// than 2 KiB of metadata, as S3 does.
pub fn minio() -> Result<Store, String> {
    minio_with(&[])
}

/// The same with more in its environment.
pub fn minio_with(variables: &[(&str, String)]) -> Result<Store, String> {
    const USER: &str = "s3veil-test";
    const PASSWORD: &str = "s3veil-test-secret";

    let program = tool("minio")?;
    let (server, [port]) = start("minio", |dir, [port]| {
        let mut command = Command::new(&program);
        command
            .arg("server")
            .arg(dir.join("data"))
            .arg(format!("--address=127.0.0.1:{port}"))
            .arg("--certs-dir")
            .arg(dir.join("certs"))
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            // No web console on a second port, and no look at the world for updates.
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            // It else refuses a data directory on the root disk.
            .env("MINIO_CI_CD", "1")
            .envs(variables.iter().map(|(name, value)| (name, value)));
        // Its page of health says ready before it has its buckets; an anonymous request is 503 until then, and 403 afterwards.
        let ready = vec![Ready::status(port, "/minio/health/ready", "200"), Ready::status(port, "/", "403")];
        Ok(Plan { command, ready, litter: vec![] })
    })?;
    Ok(Store {
        name: "minio",
        endpoint: format!("http://127.0.0.1:{port}"),
        access_key: USER.into(),
        secret_key: PASSWORD.into(),
        region: "us-east-1".into(),
        server,
    })
}

/// Garage: holds every key byte for byte. It has no versioning, tags or ACLs, does a PUT whatever `If-Match`
/// and `If-None-Match` say, and answers `GET ?attributes` with the object itself.
pub fn garage() -> Result<Store, String> {
    const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
    const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const REGION: &str = "garage";

    let program = tool("garage")?;
    let (server, [port, _]) = start("garage", |dir, [port, rpc]| {
        let config = dir.join("garage.toml");
        // Nothing here outlives the test, so nothing is synced to disk.
        let text = format!(
            r#"
            metadata_dir = "{meta}"
            data_dir = "{data}"
            db_engine = "lmdb"
            metadata_fsync = false
            data_fsync = false
            disable_scrub = true
            compression_level = "none"
            replication_factor = 1
            rpc_bind_addr = "127.0.0.1:{rpc}"
            rpc_public_addr = "127.0.0.1:{rpc}"
            rpc_secret = "{SECRET_KEY}"

            [s3_api]
            s3_region = "{REGION}"
            api_bind_addr = "127.0.0.1:{port}"

            [admin]
            "#,
            meta = dir.join("meta").display(),
            data = dir.join("data").display(),
        );
        write(&config, &text)?;
        let mut command = Command::new(&program);
        command
            .arg("-c")
            .arg(&config)
            // Lays out the cluster and creates the key before it listens: no admin calls afterwards.
            .args(["server", "--single-node", "--default-access-key"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY);
        // Anonymous requests are refused, which is an answer.
        Ok(Plan { command, ready: vec![Ready::status(port, "/", "403")], litter: vec![] })
    })?;
    Ok(Store {
        name: "garage",
        endpoint: format!("http://127.0.0.1:{port}"),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        region: REGION.into(),
        server,
    })
}

/// SeaweedFS: versioning, tags, conditional writes. It cleans keys, so that `a//b` becomes `a/b`, and gives
/// `aws-chunked` back as the Content-Encoding of what was sent so.
pub fn seaweedfs() -> Result<Store, String> {
    const ACCESS_KEY: &str = "s3veil-test";
    const SECRET_KEY: &str = "s3veil-test-secret";

    let program = tool("weed")?;
    let (server, [port, ..]) = start("seaweedfs", |dir, ports: [u16; 8]| {
        let [s3, master, volume, filer, s3_rpc, master_rpc, volume_rpc, filer_rpc] = ports;
        let (data, identities) = (dir.join("data"), dir.join("s3.json"));
        fs::create_dir(&data).map_err(|e| format!("{}: {e}", data.display()))?;
        let text = format!(
            r#"{{"identities": [{{"name": "test",
                "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"]}}]}}"#
        );
        write(&identities, &text)?;
        let mut command = Command::new(&program);
        command
            .args(["-logtostderr", "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", identities.display()))
            .arg(format!("-s3.localSocket={}", dir.join("s3.sock").display()))
            .arg(format!("-filer.localSocket={}", dir.join("filer.sock").display()))
            .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_rpc}")])
            .args([format!("-master.port={master}"), format!("-master.port.grpc={master_rpc}")])
            .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_rpc}")])
            .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_rpc}")])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false"])
            .args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=500"])
            // A cluster of one need not wait for peers: this spares a second.
            .args(["-master.peers=none", "-master.electionTimeout=200ms"])
            // Each bucket grows volumes of its own, seven at a time unless told.
            .env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1");
        let rpc = [("s3", s3_rpc), ("master", master_rpc), ("volume", volume_rpc), ("filer", filer_rpc)];
        let litter = rpc.map(|(part, port)| PathBuf::from(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock")));
        // A PUT needs both: the gateway may answer before the volume server has told the master of itself.
        let gateway = Ready::status(s3, "/healthz", "200");
        let volumes = Ready { port: master, path: "/dir/status", expect: r#""DataNodes":[{"#.into() };
        Ok(Plan { command, ready: vec![gateway, volumes], litter: litter.into() })
    })?;
    Ok(Store {
        name: "seaweedfs",
        endpoint: format!("http://127.0.0.1:{port}"),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        region: "us-east-1".into(),
        server,
    })
}

/// The path of a program that `tests/setup` installed: `aws`, `rclone`, `s3cmd`, `s5cmd`, `mc`, `nginx`.
pub fn tool(name: &str) -> Result<PathBuf, String> {
    installed(&format!("bin/{name}"))
}

/// The Python that has boto3, minio and cryptography.
pub fn python() -> Result<PathBuf, String> {
    installed("venv/bin/python")
}

/// Says that a test did not run, past the harness's capture. In CI, where everything is installed, that is a
/// failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "would be skipped in CI: {why}");
    let _ = writeln!(io::stdout(), "skipped: {why}");
}

fn installed(path: &str) -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let tools = set("S3VEIL_TOOLS").or_else(|| set("HOME").map(|home| home.join(".cache/s3veil-tools")));
    let path = tools.ok_or("neither S3VEIL_TOOLS nor HOME is set")?.join(path);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not there; run tests/setup", path.display())) }
}

/// What to run, and how to tell that it serves.
pub struct Plan {
    pub command: Command,
    pub ready: Vec<Ready>,
    /// What the server leaves outside its directory.
    pub litter: Vec<PathBuf>,
}

/// A page whose answer holds `expect` once that part of the server works.
pub struct Ready {
    port: u16,
    path: &'static str,
    expect: String,
}

impl Ready {
    pub fn status(port: u16, path: &'static str, status: &str) -> Self {
        Self { port, path, expect: format!("HTTP/1.1 {status} ") }
    }

    /// Any answer that holds this.
    pub fn answer(port: u16, path: &'static str, expect: &str) -> Self {
        Self { port, path, expect: expect.into() }
    }

    /// For a server that does not speak HTTP: it takes connections.
    pub fn listening(port: u16) -> Self {
        Self { port, path: "", expect: String::new() }
    }

    fn holds(&self) -> bool {
        if self.path.is_empty() {
            return TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        }
        get(self.port, self.path).is_ok_and(|answer| answer.contains(&self.expect))
    }
}

/// Starts a server in a new directory, on ports of its own, and waits until it serves.
pub fn start<const N: usize>(
    name: &'static str,
    plan: impl Fn(&Path, [u16; N]) -> Result<Plan, String>,
) -> Result<(Server, [u16; N]), String> {
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let ports = free_ports().map_err(|e| format!("{name}: no free port: {e}"))?;
        let dir = tempfile::Builder::new().prefix(&format!("s3veil-{name}-")).tempdir();
        let dir = dir.map_err(|e| format!("{name}: no directory: {e}"))?;
        let plan = plan(dir.path(), ports)?;
        let mut server = Server::spawn(plan, dir).map_err(|e| format!("{name}: {e}"))?;
        match server.wait() {
            Ok(()) => return Ok((server, ports)),
            Err(e) => why = format!("{name} {e}; its log ends:\n{}", tail(&server.log())),
        }
        if !server.ended() {
            break; // It had all the time there is. Another try would not be quicker.
        }
    }
    Err(why)
}

/// Where servers listen: below the ports that Linux gives to connections, of which the tests open thousands. One of those
/// could take a port in the second that a slow server needs to come to it.
const PORTS: std::ops::Range<u16> = 10_240..32_768;

/// Ports that were free a moment ago: all held at once, so that they differ.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = (0..1000).find_map(|_| {
            // The standard library's source of chance: each state has keys of its own.
            let chance = RandomState::new().hash_one(());
            let port = PORTS.start + (chance % u64::from(PORTS.end - PORTS.start)) as u16;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
        });
        let listener = listener.ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A process, its directory, and a guard that ends the one and removes the other if nothing drops this value.
pub struct Server {
    command: Command,
    ready: Vec<Ready>,
    child: Child,
    guard: Option<Child>,
    dir: TempDir,
    litter: Vec<PathBuf>,
}

impl Server {
    fn spawn(Plan { mut command, ready, litter }: Plan, dir: TempDir) -> io::Result<Self> {
        let log = File::create(dir.path().join("log"))?;
        // The settings of whoever runs the tests must not reach the server, nor its files their home.
        let own: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(OsStr::to_owned))).collect();
        command.env_clear().envs(own.into_iter().filter_map(|(k, v)| Some((k, v?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", dir.path());
        command.current_dir(dir.path()).stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        let child = command.spawn()?;
        let mut server = Self { command, ready, child, guard: None, dir, litter };
        server.guard = Some(server.watch()?);
        Ok(server)
    }

    /// A shell that reads from a pipe which nobody writes to: the read ends when this process does, however
    /// that happens. The terminal's signals pass it by.
    fn watch(&self) -> io::Result<Child> {
        const SCRIPT: &str = r#"trap '' HUP INT TERM; read -r _; kill -9 "$1"; shift; rm -rf -- "$@""#;
        Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(self.child.id().to_string())
            .arg(self.dir.path())
            .args(&self.litter)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    fn restart(&mut self) -> Result<(), String> {
        self.end();
        self.child = self.command.spawn().map_err(|why| why.to_string())?;
        self.guard = Some(self.watch().map_err(|why| why.to_string())?);
        self.wait()
    }

    fn wait(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while !self.ready.iter().all(Ready::holds) {
            if self.ended() {
                return Err("ended at once".into());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("is not ready after {} s", PATIENCE.as_secs()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        // What answered may be another's server, on a port that ours was too late for.
        if self.ended() { Err("ended at once".into()) } else { Ok(()) }
    }

    /// Kills it. The guard goes before the child is waited for, while the child's number can't belong to another process.
    fn end(&mut self) {
        let _ = self.child.kill();
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        let _ = self.child.wait();
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The process that was started; others may be its children.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has printed so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, not asked: the data goes too, and SeaweedFS takes twelve seconds to say goodbye.
        self.end();
        for path in &self.litter {
            let _ = fs::remove_file(path);
        }
    }
}

/// One request, without a client that has timeouts, pools and opinions of its own.
fn get(port: u16, path: &str) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
