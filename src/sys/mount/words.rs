//! The kernel's messages about a device while it is being mounted.
//!
//! File systems tell why an option is refused in the context of the mount; of damage, features and logs
//! they speak in the kernel's log alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use super::names::Names;

/// How many lines are kept at the most: the first ones, which name the cause.
const KEPT: usize = 12;

/// How many of the log's records are looked at: the kernel's buffer has no more in it by default.
const RECORDS: usize = 4096;

/// The longest record that the kernel gives (`PRINTKRB_RECORD_MAX` and its prefix).
const RECORD_SIZE: usize = 8192;

/// Kernel messages up to this level are warnings or errors (`LOGLEVEL_WARNING`).
const WARNING: u8 = 4;

/// The kernel's log from a moment on. Without the right to read it there are no words.
pub(crate) struct KernelLog(Option<File>);

impl KernelLog {
    /// From now on.
    pub(crate) fn from_now() -> Self {
        let open = || -> io::Result<File> {
            let mut log = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/kmsg")?;
            log.seek(SeekFrom::End(0))?;
            Ok(log)
        };
        Self(open().ok())
    }

    /// The warnings and errors since then about the device of these names, oldest first.
    pub(crate) fn about(mut self, device: &Names) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let Some(log) = &mut self.0 else {
            return words;
        };
        let mut record = [0; RECORD_SIZE];
        for _ in 0..RECORDS {
            match log.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    let said = complaint(&text).filter(|said| device.are_in(said));
                    match said {
                        Some(said) if words.len() < KEPT && !words.iter().any(|w| w == said) => {
                            words.push(said.to_owned());
                        }
                        _ => {}
                    }
                }
                // Overwritten before it was read: the next one is given.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        words
    }
}

/// The text of a record, if it is a warning or worse: `4,1234,5678,-;text`, then lines about the device.
/// Source: Documentation/ABI/testing/dev-kmsg.
fn complaint(record: &str) -> Option<&str> {
    let (prefix, text) = record.split_once(';')?;
    let level: u32 = prefix.split(',').next()?.parse().ok()?;
    (level & 7 <= u32::from(WARNING)).then(|| text.lines().next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warnings_and_errors_count() {
        let record = "4,89232,24718328699,-;XFS (loop1): no-recovery mounts must be read-only.\n \
                      SUBSYSTEM=block\n";
        assert_eq!(
            complaint(record),
            Some("XFS (loop1): no-recovery mounts must be read-only.")
        );
        for other in [
            "6,1,2,-;XFS (loop1): Ending clean mount",
            "x",
            "",
            "4,1,2,-",
        ] {
            assert_eq!(complaint(other), None, "{other}");
        }
    }
}
