//! Bytes in motion.

pub mod chunk_signature;
pub mod chunked;
