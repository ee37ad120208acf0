//! The log: text for people, JSON for machines.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// What is logged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,access=warn`.
    pub level: String,
    /// The form.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::default() }
    }
}

impl LogConfig {
    /// What is logged, as the log wants it. A word that is no level is taken for a mistake, and not for a module's name,
    /// which would log next to nothing.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        let word = |part: &str| part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok();
        let wrong =
            || format!("log.level: '{}' is no filter. Write error, warn, info, debug or off", self.level);
        if !self.level.split(',').all(word) {
            return Err(wrong());
        }
        EnvFilter::try_new(&self.level).map_err(|_| wrong())
    }

    /// Starts the log, on standard error.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn start(&self) -> Result<(), String> {
        let log = fmt()
            .with_env_filter(self.filter()?)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let started = match self.format {
            LogFormat::Text => log.try_init(),
            LogFormat::Json => log.json().flatten_event(true).try_init(),
        };
        started.map_err(|why| format!("log: {why}"))
    }
}
