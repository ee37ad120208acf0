//! OpenBao for the tests of `vault`, how they manage it, and a server that answers as a test tells it to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::servers::{self, Plan, Ready, Server};

pub const ROOT: &str = "root";

/// A server in memory: plain HTTP on one port; TLS on another, with a certificate asked of clients. Unsealed.
pub struct Bao {
    server: Server,
    pub port: u16,
    pub tls_port: u16,
    /// `server.pem`, `client.pem`, `client.key` and `other.pem`.
    files: TempDir,
}

/// The one that tests share, each with mounts and roles of its own.
pub fn shared() -> Result<&'static Bao, String> {
    static BAO: LazyLock<Result<Bao, String>> = LazyLock::new(Bao::start);
    BAO.as_ref().map_err(Clone::clone)
}

impl Bao {
    pub fn start() -> Result<Self, String> {
        let program = servers::tool("bao")?;
        let files = tempfile::tempdir().map_err(|why| why.to_string())?;
        for name in ["server", "client", "other"] {
            write_certificate(files.path(), name);
        }
        let at = |name: &str| files.path().join(name).display().to_string();
        let (server, [port, tls_port]) = servers::start("openbao", |dir, [port, tls_port]| {
            let config = dir.join("bao.hcl");
            let text = format!(
                r#"
                disable_clustering = true
                listener "tcp" {{
                  address = "127.0.0.1:{tls_port}"
                  tls_cert_file = "{}"
                  tls_key_file = "{}"
                  tls_require_and_verify_client_cert = true
                  tls_client_ca_file = "{}"
                }}
                "#,
                at("server.pem"),
                at("server.key"),
                at("client.pem")
            );
            std::fs::write(&config, text).map_err(|why| why.to_string())?;
            let mut command = Command::new(&program);
            command
                .args(["server", "-dev", "-dev-no-store-token"])
                .arg(format!("-dev-root-token-id={ROOT}"))
                .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
                .arg("-config")
                .arg(&config);
            Ok(Plan { command, ready: vec![Ready::status(port, "/v1/sys/health", "200")], litter: vec![] })
        })?;
        Ok(Self { server, port, tls_port, files })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// What the development server prints at its start, a moment after it serves.
    pub fn unseal_key(&self) -> String {
        loop {
            let log = self.server.log();
            if let Some((key, _)) = log.split_once("Unseal Key: ").and_then(|(_, rest)| rest.split_once('\n'))
            {
                return key.trim().to_owned();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Asks for the test, not for s3veil.
    pub fn ask(&self, token: &str, namespace: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} /v1/{path} HTTP/1.0\r\nX-Vault-Token: {token}\r\nX-Vault-Namespace: {namespace}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The same as root; it must succeed.
    pub fn root(&self, method: &str, path: &str, body: Value) -> Value {
        self.root_in("", method, path, body)
    }

    pub fn root_in(&self, namespace: &str, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(ROOT, namespace, method, path, &body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn mount_transit(&self, mount: &str) {
        self.root("POST", &format!("sys/mounts/{mount}"), json!({ "type": "transit" }));
    }

    pub fn mount_kv(&self, mount: &str, version: u8) {
        let options = json!({ "version": version.to_string() });
        self.root("POST", &format!("sys/mounts/{mount}"), json!({ "type": "kv", "options": options }));
    }

    pub fn policy(&self, name: &str, text: &str) {
        self.root("POST", &format!("sys/policies/acl/{name}"), json!({ "policy": text }));
    }

    /// A token with these policies and no other.
    pub fn token(&self, name: &str, policies: &[String]) -> String {
        let names: Vec<_> = (0..policies.len()).map(|at| format!("{name}-{at}")).collect();
        for (name, policy) in names.iter().zip(policies) {
            self.policy(name, policy);
        }
        let body = json!({ "policies": names, "no_default_policy": true, "ttl": "1h" });
        client_token(&self.root("POST", "auth/token/create", body))
    }

    /// An AppRole of this name in a mount of its own: the role's id and secret.
    pub fn app_role(&self, name: &str, role: Value) -> (String, String) {
        self.root("POST", &format!("sys/auth/{name}"), json!({ "type": "approle" }));
        let path = format!("auth/{name}/role/{name}");
        self.root("POST", &path, role);
        let id = self.root("GET", &format!("{path}/role-id"), Value::Null);
        (text(&id["data"]["role_id"]), self.secret_id(name))
    }

    pub fn secret_id(&self, name: &str) -> String {
        let secret = self.root("POST", &format!("auth/{name}/role/{name}/secret-id"), json!({}));
        text(&secret["data"]["secret_id"])
    }

    /// Revokes what a mount of logins has given.
    pub fn revoke_all(&self, mount: &str) {
        // The answer comes when it is done, else revocation is a queue.
        self.root("POST", &format!("sys/leases/revoke-prefix/auth/{mount}"), json!({ "sync": true }));
    }

    /// How many tokens a mount of logins has given that still live.
    pub fn logins(&self, mount: &str) -> usize {
        let path = format!("sys/leases/lookup/auth/{mount}/login?list=true");
        let (_, answer) = self.ask(ROOT, "", "GET", &path, &Value::Null);
        answer["data"]["keys"].as_array().map_or(0, Vec::len)
    }
}

pub fn client_token(answer: &Value) -> String {
    text(&answer["auth"]["client_token"])
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is text").to_owned()
}

fn write_certificate(directory: &Path, name: &str) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.join(format!("{name}.pem")), cert.pem()).unwrap();
    std::fs::write(directory.join(format!("{name}.key")), signing_key.serialize_pem()).unwrap();
}

/// The policy of this name in `docs/kms/vault.md`, for other mounts than there.
pub fn documented(name: &str, engine: &str, mount: &str) -> String {
    let page = include_str!("../../docs/kms/vault.md");
    let start = format!("```hcl\n# {name}\n");
    let (_, rest) = page.split_once(&start).expect("the page has the policy");
    let (policy, _) = rest.split_once("```").expect("the policy ends");
    policy.replace(&format!("path \"{engine}/"), &format!("path \"{mount}/"))
}

/// A server that answers as it is told, by the first line and the body of a question. Ends with the tests.
pub fn fake(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                head.push(line);
            }
            let length = head.iter().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            let mut body = vec![0; length.unwrap_or(0)];
            if head.is_empty() || stream.read_exact(&mut body).is_err() {
                continue;
            }
            let (status, text) = answer(&head[0], &String::from_utf8(body).unwrap());
            let length = text.len();
            let mut stream = stream.into_inner();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            );
        }
    });
    port
}
