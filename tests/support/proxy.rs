//! s3veil in this process, on a free loopback port, with a keystore of its own.
#![allow(dead_code)] // Each test file uses its own part of this.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use s3veil::app::{App, Live};
use s3veil::config::Config;
use s3veil::kms::local::init_dev;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::memory::MemoryStore;

pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// The policy of most tests: all is sealed, and nothing plain is served.
pub const SEALED: &str = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\n";

const ROOT: &str = "limits.client_idle_secs = 3";

/// A running s3veil. It ends with the test's runtime.
pub struct Proxy {
    pub address: SocketAddr,
    /// What it has begun with.
    pub app: Arc<App>,
    pub live: Arc<Live>,
    pub keys: Arc<TempDir>,
}

impl Proxy {
    /// In front of `store`. `more` is policy, and whatever else `proxy.toml` can say after an identity.
    pub async fn start(store: &str, more: &str) -> Self {
        Self::start_with(store, "", more).await
    }

    /// The same with more settings of the store.
    pub async fn start_with(store: &str, store_settings: &str, more: &str) -> Self {
        Self::run(Arc::new(tempfile::tempdir().unwrap()), store, store_settings, more).await
    }

    /// Another one with the same keystore.
    pub async fn start_beside(other: &Self, store: &str, more: &str) -> Self {
        Self::run(other.keys.clone(), store, "", more).await
    }

    /// With the KMS `test` instead of the keystore: `settings` is what stands below `[kms.test]`.
    pub async fn start_with_kms(store: &str, settings: &str, more: &str) -> Self {
        let text = format!(
            r#"
            listen = "127.0.0.1:0"
            store = {{ endpoint = "{store}", credentials.default = {{ access_key = "store", secret_key = "store-secret" }} }}
            auth.identities = [{{ name = "test", access_key = "{ACCESS_KEY}", secret_key = "{SECRET_KEY}" }}]
            [kms.test]
            {settings}
            {more}
            "#
        );
        Self::serve(&text, Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// With this keystore, `store_settings` and all.
    pub async fn run(keys: Arc<TempDir>, store: &str, store_settings: &str, more: &str) -> Self {
        Self::run_with(keys, store, (ROOT, store_settings), more).await
    }

    /// In front of `store`. `root`: keys of the root, such as `limits.connections = 1`.
    pub async fn start_with_root(store: &str, root: &str, more: &str) -> Self {
        Self::run_with(Arc::new(tempfile::tempdir().unwrap()), store, (root, ""), more).await
    }

    async fn run_with(
        keys: Arc<TempDir>,
        store: &str,
        (root, store_settings): (&str, &str),
        more: &str,
    ) -> Self {
        let path = keys.path().join("keys");
        init_dev(&path).await.unwrap();
        // What `more` says of [auth] itself stands beside the identities, which TOML wants before it.
        let (more, auth) = more.split_once("[auth]\n").unwrap_or((more, ""));
        let idle = if store_settings.contains("idle_timeout_secs") { "" } else { "idle_timeout_secs = 2" };
        let text = format!(
            r#"
            listen = "127.0.0.1:0"
            {root}
            kms.local = {{ kind = "local", path = "{path}", master_key = {{ file = "{path}/master.key" }} }}
            [store]
            endpoint = "{store}"
            {idle}
            credentials.default = {{ access_key = "store", secret_key = "store-secret" }}
            {store_settings}
            [auth]
            region = "us-east-1"
            {auth}
            [[auth.identities]]
            name = "test"
            access_key = "{ACCESS_KEY}"
            secret_key = "{SECRET_KEY}"
            {more}
            "#,
            path = path.display()
        );
        Self::serve(&text, keys).await
    }

    async fn serve(text: &str, keys: Arc<TempDir>) -> Self {
        let config: Config = toml::from_str(text).unwrap();
        let live = Arc::new(Live::new(App::build(config).unwrap()));
        let app = live.get();
        app.probe().await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(s3veil::listener::serve(live.clone(), listener, std::future::pending::<()>));
        Self { address, app, live, keys }
    }

    /// The admin listener, which `more` must have asked for: by `[admin]` with any address.
    pub async fn admin(&self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let live = self.live.clone();
        let current = move || live.get().admin.clone().expect("[admin] is configured");
        tokio::spawn(s3veil::admin::serve(current, listener));
        address
    }

    /// The embedded KMS, as `s3veil key` opens it.
    pub fn kms(&self) -> Box<dyn s3veil::kms::Kms> {
        let path = self.keys.path().join("keys");
        let text = format!("path = {path:?}\nmaster_key = {{ file = {:?} }}", path.join("master.key"));
        toml::from_str::<s3veil::kms::local::LocalConfig>(&text).unwrap().build().unwrap()
    }
}

/// A store that an attacker owns, and s3veil in front of it.
pub async fn start(policy: &str) -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start(&store.endpoint, policy).await;
    (store, proxy)
}

/// Bytes that repeat at no chunk's distance.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}
