//! Each KMS of the field against the real server, or the field's own emulator of it.
//!
//! One program for all of them: linking is what takes the time. A file per vendor, and all keep one contract.

mod kms_contract;
mod support;

#[path = "support/servers.rs"]
mod servers;

#[path = "kms/common.rs"]
mod common;

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
