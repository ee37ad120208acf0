//! The sealed format, version 1: arithmetic, keys, chunks, envelope, trailer. No I/O; knows no other room.
