//! s3veil: a transparent encrypting reverse proxy for S3. The map, one line per room, in the order of travel.
//!
//! `listener/answer.rs` shows the whole way of a request on one screen; `docs/architecture.md` says why it is so.

// Files that change under a running process.
pub mod watch;

// What is counted.
pub mod metrics;
// The one HTTPS client.
pub mod net;
// The words of S3 on the wire.
pub mod s3;
// The sealed format.
pub mod seal;
// Secrets from file, environment or inline.
pub mod secret;

// Credentials and signatures of AWS's making.
pub mod aws;
// Keys: the KMS and its cache.
pub mod kms;

// Bytes in motion.
pub mod body;

// Who asks.
pub mod auth;
// For what.
pub mod operation;
// With which key, or not at all.
pub mod policy;

// The store behind.
pub mod backend;
// The store's headers become the client's.
pub mod response;

// Does it.
pub mod handler;
// Accepts connections and answers requests.
pub mod listener;

// Health and metrics, apart from the S3 port.
pub mod admin;

// From the configuration to every room.
pub mod app;
// All settings.
pub mod config;
// The configuration read again in a running process.
pub mod reload;
// The log.
pub mod telemetry;

// The command line.
pub mod cli;
