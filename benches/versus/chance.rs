//! Chance that is the same in each run.

use bytes::Bytes;

/// Where it begins.
pub const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Marsaglia's xorshift: the next state, which is what is drawn.
pub fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Bytes without a pattern.
pub fn bytes(len: usize) -> Bytes {
    let mut state = SEED;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
