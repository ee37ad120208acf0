//! `s3veil dev`: the main job with nothing to install.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::app::{App, Live};
use crate::config::Config;
use crate::kms::local::{DEV_EK, init_dev};
use crate::telemetry::LogConfig;

/// The identity of the development mode. It opens nothing but a loopback port.
const ACCESS_KEY: &str = "s3veil";
const SECRET_KEY: &str = "s3veil-dev-secret";

#[derive(Debug, clap::Args)]
pub(super) struct Dev {
    /// Address and port; loopback only.
    #[arg(long, default_value = "127.0.0.1:8333")]
    listen: SocketAddr,
    /// Address and port of the status page; loopback only. 0: any port that is free.
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// Where objects (sealed) and keys are kept.
    #[arg(long, default_value = "s3veil-data")]
    data: PathBuf,
}

impl Dev {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        for (flag, address) in [("--listen", self.listen), ("--admin", self.admin)] {
            anyhow::ensure!(
                address.ip().is_loopback(),
                "{flag}: '{address}' is not loopback, and the development identity is known to all. Use 127.0.0.1, or \
                 `s3veil serve` with identities of your own"
            );
        }
        let mut stops = super::Stops::listen()?;
        // The embedded store logs what a client does wrong as its own error.
        let log = LogConfig { level: "info,s3s=off,s3s_fs=off".into(), ..LogConfig::default() };
        crate::telemetry::start(&log, None).map_err(anyhow::Error::msg)?;
        std::fs::create_dir_all(&self.data)
            .with_context(|| format!("--data: '{}' can't be made", self.data.display()))?;
        let keys = self.data.join("keys");
        init_dev(&keys).await.with_context(|| format!("--data: '{}'", self.data.display()))?;
        let (store_secret, token) = (random_secret()?, random_secret()?);
        let store = super::embedded::start(&self.data.join("objects"), ACCESS_KEY, &store_secret).await?;

        let config: Config =
            toml::from_str(&configuration((self.listen, self.admin, &token), (store, &store_secret), &keys))
                .context("the development configuration is the program's own")?;
        let app = App::build(config).map_err(anyhow::Error::msg)?;
        app.probe().await.map_err(anyhow::Error::msg)?;
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("--listen: '{}' can't be bound. Name another port", self.listen))?;
        let live = Arc::new(Live::new(app));
        let admin = super::serve_admin(&live).await.map_err(anyhow::Error::msg)?;
        print!("{}", welcome(listener.local_addr()?, (admin.expect("it is configured"), &token), &self.data));
        crate::listener::serve(live, listener, async || stops.next().await).await;
        Ok(())
    }
}

/// What `proxy.toml` would say.
fn configuration(
    (listen, admin, token): (SocketAddr, SocketAddr, &str),
    (store, store_secret): (SocketAddr, &str),
    keys: &Path,
) -> String {
    let (path, master) = (toml_string(keys), toml_string(&keys.join("master.key")));
    format!(
        r#"
        listen = "{listen}"
        admin = {{ listen = "{admin}", token = "{token}" }}
        [store]
        endpoint = "http://{store}"
        credentials.default = {{ access_key = "{ACCESS_KEY}", secret_key = "{store_secret}" }}
        [kms.local]
        kind = "local"
        path = {path}
        master_key = {{ file = {master} }}
        [[policy]]
        bucket = "*"
        ek = "{DEV_EK}"
        client_eks = ["*"]
        [auth]
        [[auth.identities]]
        name = "dev"
        access_key = "{ACCESS_KEY}"
        secret_key = "{SECRET_KEY}"
        "#
    )
}

fn toml_string(path: &Path) -> String {
    toml::Value::from(path.display().to_string()).to_string()
}

/// Secrets of the store and of the status page live as long as this process: nobody else gets at them.
fn random_secret() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(hex::encode(bytes))
}

fn welcome(listen: SocketAddr, (admin, token): (SocketAddr, &str), data: &Path) -> String {
    format!(
        "s3veil serves S3 on http://{listen}. Objects are sealed; look at what is stored in {}.\n\
         Its status page is at http://{admin}/ (admin token: {token}).\n\
         Paste this into another terminal:\n\n\
         export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_REGION=us-east-1\n\
         aws --endpoint-url http://{listen} s3 mb s3://demo\n\
         aws --endpoint-url http://{listen} s3 cp README.md s3://demo/\n\
         aws --endpoint-url http://{listen} s3 cp s3://demo/README.md -\n\n",
        data.join("objects").display()
    )
}
