//! What every service of AWS's making needs: credentials and signatures.

#[cfg(feature = "aws")]
pub mod chain;
pub mod credentials;
pub mod sign;
