//! s3veil: a transparent encrypting reverse proxy for S3. The map, one line per room, in the order of travel.

pub mod s3;
pub mod seal;
pub mod kms;
pub mod secret;
pub mod body;
pub mod auth;
