//! What every service of AWS's making needs: credentials and signatures.

pub mod chain;
pub mod credentials;
pub mod sign;
