//! `s3veil serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigFile;
use crate::app::{App, Live};
use crate::reload::{Reloader, Source};

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
        let flags = self.listen.iter().map(|listen| ("listen", listen.to_string())).collect();
        let source = Source::new(self.file.config.clone(), flags);
        // Before the file is read: whoever changes it meanwhile and says so is heard.
        let hangups = signal(SignalKind::hangup()).context("SIGHUP can't be listened for")?;
        let mut stops = super::Stops::listen()?;
        super::open_files();
        let (mut config, origin) = source.read().map_err(anyhow::Error::msg)?;
        let traces = crate::telemetry::start(&config.log, config.traces.take())
            .map_err(|why| anyhow::Error::msg(source.say(why)))?;
        let listen = config.listen;
        let app = App::build(config).map_err(|why| anyhow::Error::msg(source.say(why)))?;
        app.probe().await.map_err(|why| anyhow::Error::msg(source.say(why)))?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| source.say(format!("listen: '{listen}' can't be bound")))?;
        let live = Arc::new(Live::new(app));
        super::serve_admin(&live).await.map_err(|why| anyhow::Error::msg(source.say(why)))?;
        tokio::spawn(Reloader::new(source, origin, live.clone()).run(hangups));
        let (listen, tls) = (listener.local_addr()?, live.get().tls.is_some());
        tracing::info!(%listen, tls, version = env!("CARGO_PKG_VERSION"), "s3veil serves");
        crate::listener::serve(live, listener, async || stops.next().await).await;
        if let Some(traces) = traces {
            tokio::task::spawn_blocking(|| traces.end()).await?;
        }
        Ok(())
    }
}
