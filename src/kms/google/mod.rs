//! Google Cloud: Cloud KMS, which does the cryptography, and Secret Manager, which keeps secrets.
//!
//! Both are asked through Google's own clients, over HTTPS and JSON. Those are told to ask once: retries, timeouts and
//! backoff are those of [`Keys`](super::Keys), the same for every KMS.

mod answer;
mod cloud_kms;
mod login;
mod secret_manager;
mod versions;

pub use cloud_kms::GoogleKmsConfig;
pub use secret_manager::GoogleSecretManagerConfig;
