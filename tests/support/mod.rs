//! What the tests share.

pub mod client;
pub mod form;
pub mod memory;
pub mod program;
pub mod proxy;
pub mod tls;
pub mod upload;
