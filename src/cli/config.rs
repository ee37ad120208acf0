//! `s3veil config check`.

use std::time::{Duration, SystemTime};

use super::ConfigFile;
use crate::app::App;
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what is wrong with the configuration: file, key, value and remedy. Seals and opens a probe with every EK, and asks
    /// the store for its buckets with each of its credentials.
    Check {
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl ConfigCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self::Check { file } = self;
        let config = Config::load(&file.config, &[]).map_err(anyhow::Error::msg)?;
        let name = file.config.display();
        let (listen, endpoint) = (config.listen, config.store.endpoint.clone());
        let app = App::build(config).map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
        app.probe().await.map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
        let notes = app.rooms.backend.check().await.map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
        println!("{name}: good. Listens on {listen}, in front of {endpoint}.");
        if let Some(tls) = &app.tls {
            let expires =
                SystemTime::UNIX_EPOCH + Duration::from_secs(tls.expires().try_into().unwrap_or_default());
            println!(
                "TLS: certificate and key belong together; valid until {}.",
                httpdate::fmt_http_date(expires)
            );
        }
        for ek in app.policy.eks() {
            println!("EK '{}' of kms '{}': sealed and opened a probe.", ek.ek.as_str(), ek.kms);
        }
        for note in notes {
            println!("{note}");
        }
        Ok(())
    }
}
