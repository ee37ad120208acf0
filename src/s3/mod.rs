//! The words of S3 on the wire. Knows no other room.

pub mod address;
pub mod bucket_encryption;
pub mod checksum;
pub mod code;
pub mod copy;
pub mod encryption;
pub mod error;
pub mod headers;
pub mod listing;
pub mod multipart;
pub mod query;
pub mod range;
pub mod rewrite;
pub mod xml;

pub use address::{Bucket, Key};
pub use code::{Blame, Code};
pub use error::{Error, Result};
pub use query::Query;
