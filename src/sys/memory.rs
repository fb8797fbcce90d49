//! Memory of this node and of this process.

use std::io;

use super::state;

/// /proc/meminfo has some sixty lines.
const MEMINFO_LIMIT: u64 = 64 << 10;

/// How much memory this node has, bytes: MemTotal of proc_meminfo(5).
///
/// # Errors
/// If /proc/meminfo can't be read or is not understood.
pub fn total() -> io::Result<u64> {
    let text = state::read("/proc/meminfo".as_ref(), MEMINFO_LIMIT)?;
    let total = parse_total(&String::from_utf8_lossy(&text));
    total.ok_or_else(|| io::Error::other("/proc/meminfo is not understood"))
}

fn parse_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Gives memory that was freed back to the system. A daemon does so after work that it rarely has,
/// such as the move of hundreds of addresses: otherwise it keeps for ever what it needed then.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_node_is_read() {
        let text = "MemTotal:       24683520 kB\nMemFree:         1234 kB\n";
        assert_eq!(parse_total(text), Some(24_683_520 * 1024));
        assert_eq!(parse_total("MemTotal: much kB\n"), None);
        assert!(total().unwrap() > 64 << 20);
    }
}
