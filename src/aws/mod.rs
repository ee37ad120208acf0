//! What every service of AWS's making needs: credentials and signatures.

#[cfg(feature = "aws")]
pub mod chain;
pub mod credentials;
#[cfg(feature = "aws")]
pub mod renewed;
pub mod sign;
