//! `s3veil serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::ConfigFile;
use crate::app::App;
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Address and port, instead of the configuration's.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let flags: Vec<_> = self.listen.iter().map(|listen| ("listen", listen.to_string())).collect();
        let config = Config::load(&self.file.config, &flags).map_err(anyhow::Error::msg)?;
        config.log.start().map_err(anyhow::Error::msg)?;
        let listen = config.listen;
        let file = self.file.config.display();
        let app = App::build(config).map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
        app.probe().await.map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("{file}: listen: '{listen}' can't be bound"))?;
        if let Some(admin) = app.admin.clone() {
            let listen = admin.listen;
            let listener = TcpListener::bind(listen)
                .await
                .with_context(|| format!("{file}: admin.listen: '{listen}' can't be bound"))?;
            tokio::spawn(admin.serve(listener));
        }
        tracing::info!(listen = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "s3veil serves");
        crate::listener::serve(Arc::new(app), listener, super::asked_to_stop()).await;
        Ok(())
    }
}
