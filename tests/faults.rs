//! What stands between s3veil and its store, or its KMS, breaks: at every byte of an exchange (`faults/offsets.rs`), by
//! answers that are not what they should be (`answers.rs`), in front of a KMS (`key_service.rs`), and thousands of
//! times before the real program (`leaks.rs`). The client gets the right answer or a clear error, in time; the store holds
//! what it held or what it should; and nothing is left of any of it.

#[path = "faults/answers.rs"]
mod answers;
#[path = "faults/key_service.rs"]
mod key_service;
#[path = "faults/lane.rs"]
mod lane;
#[path = "faults/leaks.rs"]
mod leaks;
#[path = "faults/offsets.rs"]
mod offsets;
#[path = "faults/relay.rs"]
mod relay;
#[path = "support/servers.rs"]
mod servers;
mod support;
#[allow(dead_code)] // The tests of the KMSs use the rest.
#[path = "kms/vault_server.rs"]
mod vault_server;
