//! Standard error.

use std::io::{self, Write};

/// Writes one line in one piece, so that it stays whole beside what other processes write there. If nobody reads
/// that, nobody can be told.
pub(crate) fn line(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
