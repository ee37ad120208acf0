//! Who asks: Signature Version 4 in the Authorization header, the query or a form, verified on every route by one path.
//!
//! [`Authenticator::verify`] is the only way to a [`Verified`], and what was verified is what is routed: bucket, key,
//! query and headers are read once, here. A body is judged where it flows; [`Payload`] says what it must prove.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".

mod address;
mod claim;
mod config;
mod content_sha256;
mod fields;
mod form;
mod header;
mod headers;
mod identity;
mod payload;
mod policy;
mod post;
mod presigned;
mod request;
mod scope;
mod signature;
mod timestamp;
mod verified;
mod verify;

pub use config::{Config, ConfigError, IdentityConfig, Mode};
pub use form::VerifiedForm;
pub use identity::{Identity, Who};
pub use payload::Payload;
pub use policy::Lengths;
pub use post::SignedForm;
pub use verified::{Verified, VerifiedParts};
pub use verify::Authenticator;
