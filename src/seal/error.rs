//! What can go wrong with a sealed object, told in as little detail as a reader can act on.

/// An error of the sealed format.
///
/// One variant stands for every way in which bytes can fail to authenticate: to tell them apart helps an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The metadata header is not the record that an s3veil writes.
    #[error("the envelope cannot be read")]
    NotAnEnvelope,
    /// The envelope is of a version that this s3veil does not know.
    #[error("the envelope is of an unknown version")]
    UnknownVersion,
    /// The object, its envelope or its place is not what was sealed, or the DEK is another.
    #[error("the sealed object does not authenticate")]
    Tampered,
    /// The caller broke the order or the lengths that this room asks for; says which.
    #[error("the sealed format was misused: {0}")]
    Misuse(&'static str),
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
}
