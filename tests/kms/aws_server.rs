//! AWS's emulators, and a small fake that answers what a test tells it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;

use crate::servers::{Plan, Ready, Server, start, tool};

pub const REGION: &str = "eu-central-1";

/// A running emulator. Dropping it ends it.
pub struct Emulator {
    pub endpoint: String,
    _server: Server,
}

/// ministack: enforces the states of keys and secrets. It wraps without authentication.
pub fn ministack() -> Result<Emulator, String> {
    let program = tool("ministack")?;
    let (server, [port]) = start("ministack", |_, [port]| {
        let mut command = Command::new(&program);
        command
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0")
            .env("MINISTACK_REGION", REGION)
            .env("DOCKER_HOST", "unix:///nonexistent");
        Ok(Plan { command, ready: vec![Ready::status(port, "/_ministack/health", "200")], litter: vec![] })
    })?;
    Ok(Emulator { endpoint: format!("http://127.0.0.1:{port}"), _server: server })
}

/// moto: wraps with authentication. `aws_moto.py` adds AWS's rules that it leaves out.
pub fn moto() -> Result<Emulator, String> {
    let (server, [port]) = start("moto", |dir, [port]| {
        let command = moto_command(dir, port)?;
        Ok(Plan { command, ready: vec![Ready::status(port, "/moto-api/data.json", "200")], litter: vec![] })
    })?;
    Ok(Emulator { endpoint: format!("http://127.0.0.1:{port}"), _server: server })
}

fn moto_command(dir: &Path, port: u16) -> Result<Command, String> {
    let script = dir.join("aws_moto.py");
    std::fs::write(&script, include_str!("aws_moto.py")).map_err(|why| why.to_string())?;
    let server = std::fs::canonicalize(tool("moto_server")?).map_err(|why| why.to_string())?;
    let mut command = Command::new(server.with_file_name("python"));
    command.arg(script).args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    Ok(command)
}

/// A certificate of 127.0.0.1, signed by itself.
pub fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

/// moto over TLS.
pub fn moto_tls(certificate: &CertifiedKey<rcgen::KeyPair>) -> Result<Emulator, String> {
    let (server, [port]) = start("moto-tls", |dir, [port]| {
        let mut command = moto_command(dir, port)?;
        let (chain, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        std::fs::write(&chain, certificate.cert.pem()).map_err(|why| why.to_string())?;
        std::fs::write(&key, certificate.signing_key.serialize_pem()).map_err(|why| why.to_string())?;
        command.arg("-c").arg(chain).arg("-k").arg(key);
        Ok(Plan { command, ready: vec![], litter: vec![] })
    })?;
    listens(port);
    Ok(Emulator { endpoint: format!("https://127.0.0.1:{port}"), _server: server })
}

/// Waits until a server of HTTPS listens: whether it is ready can only be asked in clear.
pub fn listens(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the fake was asked.
pub struct Asked {
    /// `PUT /latest/api/token`
    pub line: String,
    /// All of them, names in lower case.
    pub headers: String,
    pub body: String,
}

impl Asked {
    /// The operation of AWS KMS: `GenerateDataKey`.
    pub fn operation(&self) -> &str {
        self.header("x-amz-target").rsplit('.').next().unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        let head = format!("{name}: ");
        self.headers.lines().find_map(|line| line.strip_prefix(&*head)).unwrap_or_default()
    }
}

/// A server that answers what it is told: a status and a body.
pub struct Fake(pub String);

impl Fake {
    /// It ends with the test's process.
    pub fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, answer) = (stream.unwrap(), answer.clone());
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self(endpoint)
    }
}

/// One request, then the connection is closed.
fn serve(mut stream: TcpStream, answer: &dyn Fn(&Asked) -> (u16, String)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push_str(&format!("{}: {value}\n", name.to_lowercase()));
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut asked = Asked { line, headers, body: String::new() };
    let length = asked.header("content-length").parse().unwrap_or(0);
    reader.take(length).read_to_string(&mut asked.body).unwrap();
    let (status, body) = answer(&asked);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 60\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok();
}
