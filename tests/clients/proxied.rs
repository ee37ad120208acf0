//! s3veil in front of a store, each started once, and how a client's script is run against it.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::servers::{self, Store};

const ACCESS_KEY: &str = "CLIENTSACCESSKEY";
const SECRET_KEY: &str = "clients-secret-key";

/// s3veil in front of a store.
pub struct Proxied {
    pub name: &'static str,
    pub endpoint: String,
    pub access_key: &'static str,
    pub secret_key: &'static str,
    behind: Behind,
    /// The same behind TLS: its address and certificate.
    tls: Option<(String, String)>,
    directory: TempDir,
    _proxies: Vec<Ended>,
}

/// Where the sealed objects can be seen.
enum Behind {
    Store(Store),
    /// The embedded store's own files: its credentials never leave the program.
    Files(PathBuf),
}

/// A child that ends with the value. A static is not dropped: then it ends with its parent's `stdin`.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // The shell between holds the child's number: closing its input lets it end the child first.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// Runs the program so that it ends when this process does, however that ends, and takes `litter` with it.
pub fn guarded(arguments: &[&str], log: &Path, litter: Option<&Path>) -> Ended {
    let log = File::create(log).unwrap();
    // A background job's own input is /dev/null, so that only the shell sees the pipe close.
    let script = r#""$0" "$@" & pid=$!; read -r _; kill "$pid"; wait "$pid"; rm -rf -- ${LITTER:+"$LITTER"}"#;
    let child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_s3veil")])
        .args(arguments)
        .env("LITTER", litter.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Ended(child)
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub fn wait_for(port: u16, log: &Path) {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says what a test covered, past the harness's capture.
pub fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Runs a command of the program that ends by itself.
fn s3veil(arguments: &[&str]) {
    let done = Command::new(env!("CARGO_BIN_EXE_s3veil")).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Proxied {
    /// `s3veil serve` with a keystore of its own.
    pub fn serve(store: Result<Store, String>) -> Result<Self, String> {
        let store = store?;
        let directory = tempfile::Builder::new().prefix("s3veil-clients-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("master.key"), "ab".repeat(32)).unwrap();
        fs::set_permissions(path("master.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let (port, file) = (free_port(), path("proxy.toml"));
        fs::write(&file, configuration(port, &store, &path("keys"), &path("master.key"))).unwrap();
        for ek in ["main", "other"] {
            s3veil(&["key", "--config", &file, "create", ek]);
        }
        s3veil(&["config", "check", "--config", &file]);
        let (tls_port, tls_file) = (free_port(), path("tls.toml"));
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let (certificate, tls_key) = (path("tls.crt"), path("tls.key"));
        fs::write(&certificate, key.cert.pem()).unwrap();
        fs::write(&tls_key, key.signing_key.serialize_pem()).unwrap();
        let tls = format!("tls = {{ certificate_file = \"{certificate}\", key_file = \"{tls_key}\" }}\n");
        let plain = configuration(tls_port, &store, &path("keys"), &path("master.key"));
        fs::write(&tls_file, tls + &plain).unwrap();
        let log = directory.path().join("log");
        let proxy = guarded(&["serve", "--config", &file], &log, Some(directory.path()));
        let with_tls = guarded(&["serve", "--config", &tls_file], &directory.path().join("tls.log"), None);
        wait_for(port, &log);
        wait_for(tls_port, &directory.path().join("tls.log"));
        Ok(Self {
            name: store.name,
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: ACCESS_KEY,
            secret_key: SECRET_KEY,
            behind: Behind::Store(store),
            tls: Some((format!("https://127.0.0.1:{tls_port}"), certificate)),
            directory,
            _proxies: vec![with_tls, proxy],
        })
    }

    /// `s3veil dev`, which brings store and keystore.
    pub fn dev() -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("s3veil-clients-").tempdir().unwrap();
        let (port, data, log) = (free_port(), directory.path().join("data"), directory.path().join("log"));
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["dev", "--listen", &listen, "--data", data.to_str().unwrap()];
        let proxy = guarded(&arguments, &log, Some(directory.path()));
        wait_for(port, &log);
        Ok(Self {
            name: "dev",
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: "s3veil",
            secret_key: "s3veil-dev-secret",
            behind: Behind::Files(data.join("objects")),
            tls: None,
            directory,
            _proxies: vec![proxy],
        })
    }

    /// Runs a script of `tests/clients/`, which fails the test with all it knows.
    pub fn run(&self, script: &str, arguments: &[&str]) {
        let (Ok(python), Ok(aws)) = (servers::python(), servers::tool("aws")) else {
            return servers::skip("Python and its packages are not installed; run tests/setup");
        };
        let mut command = Command::new(python);
        command
            .arg(format!("{}/tests/clients/{script}.py", env!("CARGO_MANIFEST_DIR")))
            .args(arguments)
            .env("ENDPOINT", &self.endpoint)
            .env("ACCESS_KEY", self.access_key)
            .env("SECRET_KEY", self.secret_key)
            .env("STORE", self.name)
            .env("TOOLS_BIN", aws.parent().unwrap())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Nothing of whoever runs the tests; all is on loopback.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        match &self.behind {
            Behind::Store(store) => command
                .env("STORE_ENDPOINT", &store.endpoint)
                .env("STORE_ACCESS_KEY", &store.access_key)
                .env("STORE_SECRET_KEY", &store.secret_key)
                .env("STORE_REGION", &store.region),
            Behind::Files(files) => command.env("STORE_DIRECTORY", files),
        };
        if let Some((endpoint, certificate)) = &self.tls {
            command.env("TLS_ENDPOINT", endpoint).env("TLS_CERTIFICATE", certificate);
        }
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success(),
            "{script} {arguments:?} on {}\n{said}{}\n{}",
            self.name,
            String::from_utf8_lossy(&done.stderr),
            self.logs()
        );
        said.lines().for_each(|line| say(&format!("{}: {line}", self.name)));
    }

    /// The ends of the logs, for a test that failed.
    pub fn logs(&self) -> String {
        let end = |log: &str| {
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(25)..].join("\n")
        };
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let proxy = read("tls.log") + &read("log");
        let store = match &self.behind {
            Behind::Store(store) => store.log(),
            Behind::Files(_) => String::new(),
        };
        format!("--- s3veil's log ends\n{}\n--- the store's log ends\n{}", end(&proxy), end(&store))
    }
}

fn configuration(port: u16, store: &Store, keys: &str, master: &str) -> String {
    let Store { endpoint, region, access_key, secret_key, .. } = store;
    format!(
        r#"
        listen = "127.0.0.1:{port}"
        [store]
        endpoint = "{endpoint}"
        region = "{region}"
        credentials.default = {{ access_key = "{access_key}", secret_key = "{secret_key}" }}
        [kms.local]
        kind = "local"
        path = "{keys}"
        master_key = {{ file = "{master}" }}
        [[policy]]
        bucket = "*"
        ek = "main"
        [[policy]]
        bucket = "depth-encryption-*"
        ek = "main"
        client_eks = ["other"]
        [[policy]]
        bucket = "mixed-*"
        ek = "other"
        plaintext = "read"
        [auth]
        [[auth.identities]]
        name = "clients"
        access_key = "{ACCESS_KEY}"
        secret_key = "{SECRET_KEY}"
        "#
    )
}
