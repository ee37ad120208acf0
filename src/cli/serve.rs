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
        let stop = super::asked_to_stop()?;
        let (config, origin) = source.read().map_err(anyhow::Error::msg)?;
        config.log.start().map_err(anyhow::Error::msg)?;
        let listen = config.listen;
        let app = App::build(config).map_err(|why| anyhow::Error::msg(source.say(why)))?;
        app.probe().await.map_err(|why| anyhow::Error::msg(source.say(why)))?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| source.say(format!("listen: '{listen}' can't be bound")))?;
        let admin = app.admin.as_ref().map(|admin| admin.listen);
        let live = Arc::new(Live::new(app));
        if let Some(listen) = admin {
            let listener = TcpListener::bind(listen)
                .await
                .with_context(|| source.say(format!("admin.listen: '{listen}' can't be bound")))?;
            let live = live.clone();
            let current = move || live.get().admin.clone().expect("once it is there it stays");
            tokio::spawn(crate::admin::serve(current, listener));
        }
        tokio::spawn(Reloader::new(source, origin, live.clone()).run(hangups));
        tracing::info!(listen = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "s3veil serves");
        crate::listener::serve(live, listener, stop).await;
        Ok(())
    }
}
