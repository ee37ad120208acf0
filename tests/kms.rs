//! Each KMS of the field against the real server, or the field's own emulator of it.
//!
//! One program for all of them: linking is what takes the time. A file per vendor, and all keep one contract.

#[macro_use]
#[path = "kms/common.rs"]
mod common;
mod kms_contract;
mod support;

#[path = "support/servers.rs"]
mod servers;

#[path = "kms/aws.rs"]
mod aws;
#[path = "kms/aws_calls.rs"]
mod aws_calls;
#[path = "kms/aws_chain.rs"]
mod aws_chain;
#[path = "kms/aws_kes.rs"]
mod aws_kes;
#[path = "kms/aws_server.rs"]
mod aws_server;
#[path = "kms/azure.rs"]
mod azure;
#[path = "kms/azure_login.rs"]
mod azure_login;
#[path = "kms/azure_vault.rs"]
mod azure_vault;
#[path = "kms/ciphertrust.rs"]
mod ciphertrust;
#[path = "kms/ciphertrust_server.rs"]
mod ciphertrust_server;
#[path = "kms/google.rs"]
mod google;
#[path = "kms/google_keys.rs"]
mod google_keys;
#[path = "kms/google_login.rs"]
mod google_login;
#[path = "kms/google_secrets.rs"]
mod google_secrets;
#[path = "kms/google_server.rs"]
mod google_server;
#[path = "kms/kes.rs"]
mod kes;
#[path = "kms/kes_environment.rs"]
mod kes_environment;
#[path = "kms/kes_lies.rs"]
mod kes_lies;
#[path = "kms/kes_server.rs"]
mod kes_server;
#[path = "kms/kmip.rs"]
mod kmip;
#[path = "kms/kmip_fake.rs"]
mod kmip_fake;
#[path = "kms/kmip_server.rs"]
mod kmip_server;
#[path = "kms/locks.rs"]
mod locks;
#[path = "kms/outage.rs"]
mod outage;
#[path = "kms/secrets.rs"]
mod secrets;
#[path = "kms/vault.rs"]
mod vault;
#[path = "kms/vault_kes.rs"]
mod vault_kes;
#[path = "kms/vault_login.rs"]
mod vault_login;
#[path = "kms/vault_server.rs"]
mod vault_server;
