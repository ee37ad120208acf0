//! Each KMS of the field against the real server, or the field's own emulator of it.
//!
//! One program for all of them: linking is what takes the time. A file per vendor, and all keep one contract.

mod kms_contract;
mod support;

#[path = "support/servers.rs"]
mod servers;

#[path = "kms/common.rs"]
mod common;

#[path = "kms/azure.rs"]
mod azure;
#[path = "kms/azure_login.rs"]
mod azure_login;
#[path = "kms/azure_vault.rs"]
mod azure_vault;
