//! Each KMS of the field against the real server, or the field's own emulator of it.
//!
//! One program for all of them: linking is what takes the time. A file per vendor, and all keep one contract.

mod kms_contract;
mod support;

#[path = "support/servers.rs"]
mod servers;

#[path = "kms/common.rs"]
mod common;

#[path = "kms/ciphertrust.rs"]
mod ciphertrust;
#[path = "kms/ciphertrust_server.rs"]
mod ciphertrust_server;
#[path = "kms/kmip.rs"]
mod kmip;
#[path = "kms/kmip_fake.rs"]
mod kmip_fake;
#[path = "kms/kmip_server.rs"]
mod kmip_server;
