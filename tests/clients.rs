//! Real clients, unchanged, through the real program, in front of real stores.
//!
//! What a client does is in `tests/clients/`; here the stores and proxies are started, once each, and skipped in words
//! where they can't be had.

#[path = "support/servers.rs"]
mod servers;

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use servers::Store;
use tempfile::TempDir;

const ACCESS_KEY: &str = "CLIENTSACCESSKEY";
const SECRET_KEY: &str = "clients-secret-key";

/// s3veil in front of a store.
struct Setup {
    store: Store,
    endpoint: String,
    directory: TempDir,
    _proxy: Ended,
}

/// A child that ends with the value. A static is not dropped: then it ends with its parent's `stdin`.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs the program so that it ends when this process does, however that ends.
fn guarded(arguments: &[&str], log: &File) -> Ended {
    let script = r#""$0" "$@" & pid=$!; read -r _; kill "$pid"; wait "$pid""#;
    let child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_s3veil")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap())
        .spawn()
        .unwrap();
    Ended(child)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn wait_for(port: u16, log: &std::path::Path) {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Setup {
    fn start(store: Result<Store, String>) -> Result<Self, String> {
        let store = store?;
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let master = directory.path().join("master.key");
        fs::write(&master, "ab".repeat(32)).unwrap();
        fs::set_permissions(&master, fs::Permissions::from_mode(0o600)).unwrap();
        let port = free_port();
        let config = format!(
            r#"
            listen = "127.0.0.1:{port}"
            [store]
            endpoint = "{}"
            region = "{}"
            credentials.default = {{ access_key = "{}", secret_key = "{}" }}
            [kms.local]
            kind = "local"
            path = "{}"
            master_key = {{ file = "{}" }}
            [[policy]]
            bucket = "*"
            ek = "main"
            [[policy]]
            bucket = "mixed-*"
            ek = "other"
            plaintext = "read"
            [auth]
            [[auth.identities]]
            name = "clients"
            access_key = "{ACCESS_KEY}"
            secret_key = "{SECRET_KEY}"
            "#,
            store.endpoint,
            store.region,
            store.access_key,
            store.secret_key,
            path("keys"),
            path("master.key"),
        );
        fs::write(directory.path().join("proxy.toml"), config).unwrap();
        let file = path("proxy.toml");
        for ek in ["main", "other"] {
            let done = Command::new(env!("CARGO_BIN_EXE_s3veil"))
                .args(["key", "--config", &file, "create", ek])
                .output();
            let done = done.unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let check = Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(["config", "check", "--config", &file])
            .output()
            .unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let log = directory.path().join("log");
        let proxy = guarded(&["serve", "--config", &file], &File::create(&log).unwrap());
        wait_for(port, &log);
        Ok(Self { store, endpoint: format!("http://127.0.0.1:{port}"), directory, _proxy: proxy })
    }

    fn run(&self, script: &str, arguments: &[&str]) {
        let (Ok(python), Ok(aws)) = (servers::python(), servers::tool("aws")) else {
            return servers::skip("Python and its packages are not installed; run tests/setup");
        };
        let done = Command::new(python)
            .arg(format!("{}/tests/clients/{script}.py", env!("CARGO_MANIFEST_DIR")))
            .args(arguments)
            .env("ENDPOINT", &self.endpoint)
            .env("ACCESS_KEY", ACCESS_KEY)
            .env("SECRET_KEY", SECRET_KEY)
            .env("STORE", self.store.name)
            .env("STORE_ENDPOINT", &self.store.endpoint)
            .env("STORE_ACCESS_KEY", &self.store.access_key)
            .env("STORE_SECRET_KEY", &self.store.secret_key)
            .env("TOOLS_BIN", aws.parent().unwrap())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(25).collect();
        assert!(
            done.status.success(),
            "{script} {arguments:?} on {}\n{}{}\n--- the proxy's last lines, newest first\n{}",
            self.store.name,
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
            tail.join("\n")
        );
    }
}

type Lazy = LazyLock<Result<Setup, String>>;

static MINIO: Lazy = LazyLock::new(|| Setup::start(servers::minio()));
static GARAGE: Lazy = LazyLock::new(|| Setup::start(servers::garage()));
static SEAWEEDFS: Lazy = LazyLock::new(|| Setup::start(servers::seaweedfs()));

fn on(setup: &Lazy, script: &str, arguments: &[&str]) {
    match &**setup {
        Ok(setup) => setup.run(script, arguments),
        Err(why) => servers::skip(why),
    }
}

macro_rules! tests {
    ($( $name:ident: $setup:ident, $script:literal $(, $argument:literal)*; )*) => { $(
        #[test]
        fn $name() {
            on(&$setup, $script, &[$($argument),*]);
        }
    )* };
}

tests! {
    minio_boto3: MINIO, "basics", "boto3";
    minio_awscli: MINIO, "basics", "awscli";
    minio_rclone: MINIO, "basics", "rclone";
    minio_s3cmd: MINIO, "basics", "s3cmd";
    minio_minio_py: MINIO, "basics", "minio-py";
    minio_s5cmd: MINIO, "basics", "s5cmd";
    minio_depth: MINIO, "depth";
    garage_boto3: GARAGE, "basics", "boto3";
    garage_awscli: GARAGE, "basics", "awscli";
    garage_rclone: GARAGE, "basics", "rclone";
    garage_s3cmd: GARAGE, "basics", "s3cmd";
    garage_minio_py: GARAGE, "basics", "minio-py";
    garage_s5cmd: GARAGE, "basics", "s5cmd";
    garage_depth: GARAGE, "depth";
    seaweedfs_boto3: SEAWEEDFS, "basics", "boto3";
    seaweedfs_awscli: SEAWEEDFS, "basics", "awscli";
    seaweedfs_depth: SEAWEEDFS, "depth";
}

/// The `object_store` crate, as Rust applications use it.
#[tokio::test]
async fn object_store_crate() {
    use object_store::aws::AmazonS3Builder;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    for setup in [&MINIO, &GARAGE] {
        let setup = match &**setup {
            Ok(setup) => setup,
            Err(why) => {
                servers::skip(why);
                continue;
            }
        };
        let aws = |arguments: &[&str]| {
            let done = Command::new(servers::tool("aws").unwrap())
                .args(["--endpoint-url", &setup.endpoint, "--region", "us-east-1", "s3"])
                .args(arguments)
                .envs([("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)])
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        aws(&["mb", "s3://object-store"]);
        let store = AmazonS3Builder::new()
            .with_endpoint(&setup.endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name("object-store")
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()
            .unwrap();
        let body: Vec<u8> = (0..200_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
        let path = Path::from("dir/über x");
        store.put(&path, body.clone().into()).await.unwrap();
        assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == body);
        let ranges = store.get_ranges(&path, &[0..10, 65_530..65_545, 199_990..200_000]).await.unwrap();
        assert!(ranges[1] == body[65_530..65_545] && ranges[2] == body[199_990..]);
        assert_eq!(store.head(&path).await.unwrap().size, 200_000);
        let listed: Vec<_> = futures_util::TryStreamExt::try_collect(store.list(None)).await.unwrap();
        assert_eq!(listed.iter().map(|meta| meta.size).collect::<Vec<_>>(), [200_000]);
        store.delete(&path).await.unwrap();
        aws(&["rb", "s3://object-store"]);
    }
}

/// README's first command: a store and a keystore of its own, and both survive a restart.
#[test]
fn dev_keeps_data_and_keys() {
    let Ok(aws) = servers::tool("aws") else {
        return servers::skip("the AWS CLI is not installed; run tests/setup");
    };
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let log = directory.path().join("log");
    let body: Vec<u8> = (0..200_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
    fs::write(directory.path().join("up"), &body).unwrap();
    for round in 0..2 {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut proxy = guarded(
            &["dev", "--listen", &listen, "--data", data.to_str().unwrap()],
            &File::create(&log).unwrap(),
        );
        wait_for(port, &log);
        let s3 = |arguments: &[&str]| {
            let done = Command::new(&aws)
                .args(["--endpoint-url", &format!("http://{listen}"), "s3"])
                .args(arguments)
                .current_dir(&directory)
                .envs([
                    ("AWS_ACCESS_KEY_ID", "s3veil"),
                    ("AWS_SECRET_ACCESS_KEY", "s3veil-dev-secret"),
                    ("AWS_REGION", "us-east-1"),
                ])
                .output()
                .unwrap();
            assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        if round == 0 {
            s3(&["mb", "s3://demo"]);
            s3(&["cp", "up", "s3://demo/up"]);
            let stored = fs::read(data.join("objects/demo/up")).unwrap();
            assert_eq!(stored.len(), body.len() + 4 * 16 + 80);
            assert!(!stored.windows(16).any(|window| window == &body[1000..1016]));
        }
        s3(&["cp", "s3://demo/up", "down"]);
        assert!(fs::read(directory.path().join("down")).unwrap() == body);
        // Ends as an operator would end it.
        drop(proxy.0.stdin.take());
        proxy.0.wait().unwrap();
        let welcome = fs::read_to_string(&log).unwrap();
        assert!(
            welcome.contains("export AWS_ACCESS_KEY_ID=s3veil") && welcome.contains(&listen),
            "{welcome}"
        );
    }
}
