//! What s3veil tells of itself while it runs: the log, and traces where a collector is configured.

mod log;
mod traces;

pub use log::{LogConfig, LogFormat};
pub use traces::{Traces, TracesConfig};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts both, once for the process. What is given back ends the traces.
///
/// Errors: a message that names the key, its value and the remedy.
pub fn start(log: &LogConfig, traces: Option<TracesConfig>) -> Result<Option<Traces>, String> {
    let traces = traces.map(TracesConfig::build).transpose()?;
    let registry = tracing_subscriber::registry().with(log.layer()?).with(traces.as_ref().map(Traces::layer));
    registry.try_init().map_err(|why| format!("log: {why}"))?;
    Ok(traces)
}
