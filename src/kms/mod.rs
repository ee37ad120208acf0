//! KMS (to come)
