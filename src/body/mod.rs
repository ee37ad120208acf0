//! Bytes in motion.

pub mod chunked;
