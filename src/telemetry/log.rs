//! The log: text for people, JSON for machines.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Where s3veil's own events come from: its crate, and the access log.
const OWN: [&str; 2] = ["s3veil", "access"];

/// Libraries whose events at `debug` are of use and known to hold no secret: connections come and go.
const HARMLESS: [&str; 3] = ["hyper", "hyper_util", "rustls"];

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

    /// The log, on standard error.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn layer<S>(&self) -> Result<Box<dyn Layer<S> + Send + Sync>, String>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        // The hint leaves the level to the first: without one all that libraries trace would have to be looked at.
        let filter = self.filter()?.and(filter_fn(may_tell).with_max_level_hint(LevelFilter::TRACE));
        let log = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        Ok(match self.format {
            LogFormat::Text => log.with_filter(filter).boxed(),
            LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        })
    }
}

/// What a library says in detail may hold what it was given to carry: a header with a token, an answer with a key. So its
/// details are not logged, whatever the filter says. Spans are for traces: the access log says the same on one line.
fn may_tell(event: &Metadata<'_>) -> bool {
    if event.is_span() {
        return false;
    }
    let of = |crates: &[&str]| crates.contains(&event.target().split("::").next().unwrap_or_default());
    let most = match () {
        () if of(&OWN) => Level::TRACE,
        () if of(&HARMLESS) => Level::DEBUG,
        () => Level::INFO,
    };
    *event.level() <= most
}
