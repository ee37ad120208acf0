//! What s3veil tells of itself while it runs: the log, and traces where a collector is configured.

mod log;
mod traces;

pub use log::{LogConfig, LogFormat};
pub use traces::{Traces, TracesConfig};

use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts both, once for the process. What is given back ends the traces.
///
/// Errors: a message that names the key, its value and the remedy.
pub fn start(log: &LogConfig, traces: Option<TracesConfig>) -> Result<Option<Traces>, String> {
    let traces = traces.map(TracesConfig::build).transpose()?;
    dispatch(log, traces.as_ref())?.try_init().map_err(|why| format!("log: {why}"))?;
    Ok(traces)
}

/// Whoever hears of events and spans. A layer that is none would hear of all: each request would have its spans, for nobody.
fn dispatch(log: &LogConfig, traces: Option<&Traces>) -> Result<Dispatch, String> {
    let logged = tracing_subscriber::registry().with(log.layer()?);
    Ok(match traces {
        Some(traces) => logged.with(traces.layer()).into(),
        None => logged.into(),
    })
}

#[cfg(test)]
mod tests {
    use tracing::dispatcher::with_default;

    use super::*;

    #[test]
    fn without_traces_there_are_no_spans() {
        let log = LogConfig { level: "debug".into(), ..LogConfig::default() };
        let dispatch = dispatch(&log, None).unwrap();
        assert!(with_default(&dispatch, || tracing::info_span!("request").is_disabled()));
        assert!(
            with_default(&dispatch, || tracing::event_enabled!(tracing::Level::DEBUG)),
            "but there are events"
        );
    }
}
