//! HashiCorp Vault and OpenBao, as two kinds of KMS.
//!
//! `vault-transit`: the transit engine wraps DEKs, and the EK never leaves the server (`transit`). `vault-kv`: the EK
//! is a secret in a KV engine, laid out as MinIO KES does, and the cryptography is done here (`kv`). Both speak to the
//! server through `client`, under a token that `auth` gets, by a way of `login`, and keeps.

mod auth;
mod client;
mod config;
mod kv;
mod login;
mod transit;

pub use config::{AuthConfig, KvConfig, KvTransitConfig, ServerConfig, TransitConfig, Version};
