//! The fuzz targets: for each, what it does with any input, and inputs to begin with.
//!
//! A target panics where s3veil does, and where a property of what it fuzzes does not hold; its file says which. The
//! files of `fuzz_targets/` hand libFuzzer's inputs to the same functions as `tests/corpora.rs`, which replays those
//! that are kept.

pub mod aws_chunked;
pub mod bucket_encryption;
pub mod complete_upload;
pub mod copy_source;
pub mod delete_objects;
pub mod envelope;
pub mod form;
mod input;
pub mod listing;
pub mod manifest;
pub mod post_policy;
pub mod range;
pub mod sealed_stream;
mod signer;
pub mod sigv4;

/// A target by its name.
pub struct Target {
    /// The name: of its module, its program and its folders.
    pub name: &'static str,
    /// Does with an input what is to be fuzzed.
    pub run: fn(&[u8]),
    /// Inputs that reach what chance would not.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($( $name:ident )*) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$( Target { name: stringify!($name), run: $name::run, seeds: $name::seeds } ),*];
    };
}

targets! {
    aws_chunked bucket_encryption complete_upload copy_source delete_objects envelope form listing manifest
    post_policy range sealed_stream sigv4
}
