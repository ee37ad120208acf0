//! What clients may take: heads, connections, requests at once, time in which nothing moves; and how long an end takes.

use std::time::Duration;

use serde::Deserialize;

/// A day: more is a mistake, or meant for none.
const MOST_SECS: u64 = 86_400;

/// The largest heads that can be allowed. Metadata alone has 2 KiB, and a presigned address some more.
const HEADER_BYTES: std::ops::RangeInclusive<usize> = 8192..=1_048_576;

/// The limits as typed in `proxy.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Seconds for which a client may send nothing of a body that it has begun, or take nothing of an answer.
    pub client_idle_secs: u64,
    /// Seconds for the head of a request, and for a TLS handshake.
    pub header_secs: u64,
    /// The largest head, in bytes.
    pub header_bytes: usize,
    /// Seconds for which a connection may stay without a request.
    pub keep_alive_secs: u64,
    /// Connections at once.
    pub connections: usize,
    /// Requests at once.
    pub in_flight: usize,
    /// Seconds from the request to end until nothing is accepted any more.
    pub drain_delay_secs: u64,
    /// Seconds that requests at work then have.
    pub drain_secs: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            client_idle_secs: 60,
            header_secs: 30,
            header_bytes: 65_536,
            // Longer than load balancers keep theirs (60 seconds at most of them), which would else send into one that closes.
            keep_alive_secs: 90,
            connections: 10_000,
            in_flight: 1024,
            drain_delay_secs: 0,
            drain_secs: 30,
        }
    }
}

/// The limits as they are obeyed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A client that moves nothing for so long is cut.
    pub client_idle: Duration,
    pub(super) header: Duration,
    pub(super) header_bytes: usize,
    pub(super) keep_alive: Duration,
    pub(super) connections: usize,
    pub(super) in_flight: usize,
    pub(super) drain_delay: Duration,
    pub(super) drain: Duration,
}

impl LimitsConfig {
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(&self) -> Result<Limits, String> {
        let secs = |key: &str, value: u64, least: u64| match value {
            value if (least..=MOST_SECS).contains(&value) => Ok(Duration::from_secs(value)),
            _ => {
                Err(format!("limits.{key}: '{value}' can't be obeyed. Write seconds, {least} to {MOST_SECS}"))
            }
        };
        let count = |key: &str, value: usize| match value {
            0 => Err(format!("limits.{key}: '0' would let nobody in. Write 1 or more")),
            _ => Ok(value),
        };
        if !HEADER_BYTES.contains(&self.header_bytes) {
            return Err(format!(
                "limits.header_bytes: '{}' can't be obeyed. Write bytes, {} to {}",
                self.header_bytes,
                HEADER_BYTES.start(),
                HEADER_BYTES.end()
            ));
        }
        Ok(Limits {
            client_idle: secs("client_idle_secs", self.client_idle_secs, 1)?,
            header: secs("header_secs", self.header_secs, 1)?,
            header_bytes: self.header_bytes,
            keep_alive: secs("keep_alive_secs", self.keep_alive_secs, 1)?,
            connections: count("connections", self.connections)?,
            in_flight: count("in_flight", self.in_flight)?,
            drain_delay: secs("drain_delay_secs", self.drain_delay_secs, 0)?,
            drain: secs("drain_secs", self.drain_secs, 0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_obeyed_is_said() {
        assert!(LimitsConfig::default().build().is_ok());
        for (text, words) in [
            ("header_bytes = 100", "limits.header_bytes: '100'"),
            ("header_secs = 0", "limits.header_secs: '0'"),
            ("keep_alive_secs = 18446744073709551615", "1 to 86400"),
            ("connections = 0", "limits.connections: '0'"),
            ("in_flight = 0", "Write 1 or more"),
            ("drain_secs = 86401", "0 to 86400"),
        ] {
            // TOML's own numbers end earlier.
            let Ok(config) = toml::from_str::<LimitsConfig>(text) else { continue };
            let why = config.build().unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        let none = LimitsConfig { drain_delay_secs: 0, drain_secs: 0, ..LimitsConfig::default() };
        assert!(none.build().is_ok(), "an end without delay");
    }
}
