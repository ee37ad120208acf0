//! What is measured: s3veil and nginx in front of a store, each a process of its own, and what the kernel says of it.
#![allow(dead_code)] // Another bench uses its own part of this.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::servers::{self, Plan, Ready, Server};
use super::wire::Target;

const ACCESS_KEY: &str = "VERSUSACCESSKEY";
const SECRET_KEY: &str = "versus-secret-key";

/// One of those that take turns.
pub struct Peer {
    pub name: String,
    pub target: Target,
    /// Writes only: its reads would be another's over again.
    pub writes_only: bool,
    /// None for the store itself.
    pub process: Option<Process>,
}

/// A proxy's process, or nginx's master and its workers.
pub struct Process {
    // Ended before the workers are, which it would else start anew.
    server: Option<Server>,
    workers: Vec<u32>,
    /// Another's processes that work for it, as a KMS does: they count, and are not its to end.
    helpers: Vec<u32>,
}

/// A KMS for s3veil: the inside of a table `kms.NAME`, and an EK that is there.
pub struct Kms {
    pub settings: String,
    pub ek: String,
    pub pid: u32,
}

impl Peer {
    /// The store without anything before it.
    pub fn direct(store: &Target) -> Self {
        Self { name: "direct".into(), target: store.clone(), writes_only: false, process: None }
    }

    /// nginx as a plain reverse proxy that streams both ways and keeps connections.
    pub fn nginx(store: &Target) -> Result<Self, String> {
        let program = servers::tool("nginx")?;
        let upstream = store.address;
        let (server, [port]) = servers::start("nginx", |dir, [port]| {
            let file = dir.join("nginx.conf");
            fs::write(&file, nginx_config(dir, port, upstream)).map_err(|why| why.to_string())?;
            let mut command = Command::new(&program);
            command.arg("-c").arg(&file).arg("-p").arg(dir);
            Ok(Plan { command, ready: vec![Ready::status(port, "/nginx-is-ready", "200")], litter: vec![] })
        })?;
        let workers = children(server.pid());
        let target = Target { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ..store.clone() };
        let process = Some(Process { server: Some(server), workers, helpers: vec![] });
        Ok(Self { name: "nginx".into(), target, writes_only: false, process })
    }

    /// s3veil with a keystore of its own. `payload` as in `proxy.toml`.
    pub fn s3veil(name: &str, program: &Path, store: &Target, payload: &str) -> Result<Self, String> {
        Self::s3veil_with(name, program, store, payload, None)
    }

    /// The same with this KMS instead.
    pub fn s3veil_with(
        name: &str,
        program: &Path,
        store: &Target,
        payload: &str,
        kms: Option<&Kms>,
    ) -> Result<Self, String> {
        let (server, [port]) = start_s3veil(program, store, payload, kms)?;
        let target = client(port);
        let helpers = kms.map(|kms| kms.pid).into_iter().collect();
        let process = Some(Process { workers: vec![server.pid()], server: Some(server), helpers });
        Ok(Self { name: name.into(), target, writes_only: payload != "auto", process })
    }
}

/// s3veil as a process, with a keystore of its own unless there is a KMS. Its ports: the first is that of S3, a second one that of
/// its metrics.
pub fn start_s3veil<const PORTS: usize>(
    program: &Path,
    store: &Target,
    payload: &str,
    kms: Option<&Kms>,
) -> Result<(Server, [u16; PORTS]), String> {
    servers::start("s3veil", |dir, ports: [u16; PORTS]| {
        let file = dir.join("proxy.toml");
        let master = dir.join("master.key");
        let config = s3veil_config(dir, &ports, store, payload, kms);
        fs::write(&file, config).map_err(|why| why.to_string())?;
        fs::write(&master, "ab".repeat(32)).map_err(|why| why.to_string())?;
        fs::set_permissions(&master, fs::Permissions::from_mode(0o600)).map_err(|why| why.to_string())?;
        if kms.is_none() {
            create_ek(program, &file)?;
        }
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(&file);
        // An anonymous request is refused, which is an answer.
        let mut ready = vec![Ready::status(ports[0], "/", "403")];
        ready.extend(ports.get(1).map(|admin| Ready::status(*admin, "/metrics", "200")));
        Ok(Plan { command, ready, litter: vec![] })
    })
}

/// Its client, of the S3 port.
pub fn client(port: u16) -> Target {
    Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
    }
}

fn create_ek(program: &Path, config: &Path) -> Result<(), String> {
    let made = Command::new(program).args(["key", "--config"]).arg(config).args(["create", "main"]).output();
    let made = made.map_err(|why| format!("{}: {why}", program.display()))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&made.stderr).into_owned()),
    }
}

/// Starts the null store: this very program, told to be it.
pub fn null_store() -> Result<(Server, Target), String> {
    let program: PathBuf = std::env::current_exe().map_err(|why| why.to_string())?;
    let (server, [port]) = servers::start("null-store", |_, [port]| {
        let mut command = Command::new(&program);
        command.args(["null-store", &port.to_string()]);
        Ok(Plan { command, ready: vec![Ready::status(port, "/", "200")], litter: vec![] })
    })?;
    let target = Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        access_key: "null".into(),
        secret_key: "null".into(),
    };
    Ok((server, target))
}

impl Process {
    /// A server that is one process, and ends with this.
    pub fn of(server: Server) -> Self {
        Self { workers: vec![server.pid()], server: Some(server), helpers: vec![] }
    }

    /// One that another has started and ends.
    pub fn others(pid: u32) -> Self {
        Self { server: None, workers: vec![], helpers: vec![pid] }
    }

    /// CPU seconds used so far, in user and kernel mode.
    pub fn cpu(&self) -> f64 {
        // The kernel's USER_HZ, a constant of its interface.
        const TICKS: f64 = 100.0;
        let ticks = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Behind the name, which may hold anything, come the state and then the fields from number 4 on.
            let fields: Vec<&str> =
                stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
            let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
            field(14).unwrap_or(0.0) + field(15).unwrap_or(0.0)
        };
        self.workers.iter().chain(&self.helpers).map(ticks).sum::<f64>() / TICKS
    }

    /// The most memory used since the start, or since [`Process::forget_peak`], in bytes. What helps it is not counted.
    pub fn peak(&self) -> u64 {
        let peak = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
        };
        self.workers.iter().map(peak).sum()
    }

    /// Starts the peak anew, where the kernel lets us: the process's owner only, and root for s3veil, which hardens
    /// itself against being looked at.
    pub fn forget_peak(&self) {
        for pid in &self.workers {
            fs::write(format!("/proc/{pid}/clear_refs"), "5").ok();
        }
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let own = server.pid();
            drop(server);
            for worker in self.workers.iter().filter(|pid| **pid != own) {
                if let Some(pid) = rustix::process::Pid::from_raw(*worker as i32) {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
        }
    }
}

/// The processes that this one has started.
fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn nginx_config(dir: &Path, port: u16, upstream: SocketAddr) -> String {
    let dir = dir.display();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"
        daemon off;
        {user}
        worker_processes auto;
        pid {dir}/nginx.pid;
        error_log stderr warn;
        events {{ worker_connections 2048; }}
        http {{
            access_log off;
            client_body_temp_path {dir}/body;
            proxy_temp_path {dir}/proxy;
            fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi;
            scgi_temp_path {dir}/scgi;
            tcp_nodelay on;
            keepalive_requests 1000000000;
            client_max_body_size 0;
            client_body_buffer_size 256k;
            upstream store {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
            server {{
                listen 127.0.0.1:{port} backlog=1024;
                location = /nginx-is-ready {{ return 200; }}
                location / {{
                    proxy_pass http://store;
                    proxy_http_version 1.1;
                    proxy_set_header Host $http_host;
                    proxy_set_header Connection "";
                    proxy_request_buffering off;
                    proxy_buffering on;
                    proxy_buffer_size 64k;
                    proxy_buffers 8 64k;
                    proxy_busy_buffers_size 256k;
                    proxy_max_temp_file_size 0;
                }}
            }}
        }}
        "#
    )
}

fn s3veil_config(dir: &Path, ports: &[u16], store: &Target, payload: &str, kms: Option<&Kms>) -> String {
    let port = ports[0];
    let admin = ports.get(1).map(|admin| format!("admin.listen = \"127.0.0.1:{admin}\"")).unwrap_or_default();
    let keystore = format!(
        "kind = \"local\"\npath = \"{0}/keys\"\nmaster_key = {{ file = \"{0}/master.key\" }}",
        dir.display()
    );
    let (kms, ek) = kms.map_or((&*keystore, "main"), |kms| (&*kms.settings, &*kms.ek));
    let endpoint = store.address;
    let (store_access, store_secret) = (&store.access_key, &store.secret_key);
    format!(
        r#"
        listen = "127.0.0.1:{port}"
        {admin}
        # nginx writes no access log here, so neither does s3veil.
        log.level = "warn"
        [store]
        endpoint = "http://{endpoint}"
        payload = "{payload}"
        credentials.default = {{ access_key = "{store_access}", secret_key = "{store_secret}" }}
        [kms.versus]
        {kms}
        [[policy]]
        bucket = "*"
        ek = "{ek}"
        [auth]
        [[auth.identities]]
        name = "versus"
        access_key = "{ACCESS_KEY}"
        secret_key = "{SECRET_KEY}"
        "#
    )
}
