//! secrets (to come)
