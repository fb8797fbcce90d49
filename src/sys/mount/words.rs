//! What the kernel says about a device while it is being mounted.
//!
//! File systems tell why an option is refused in the context of the mount; of damage, features and logs
//! they speak in the kernel's log alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How many lines are kept: the first ones, which name the cause.
const KEPT: usize = 12;

/// How many of the log's records are looked at: the kernel's buffer has no more in it by default.
const RECORDS: usize = 4096;

/// The longest record that the kernel gives (`PRINTKRB_RECORD_MAX` and its prefix).
const RECORD_SIZE: usize = 8192;

/// Kernel messages up to this level are warnings or errors (`LOGLEVEL_WARNING`).
const WARNING: u8 = 4;

/// The kernel's log from a moment on. Without the right to read it there are no words.
pub struct KernelLog(Option<File>);

impl KernelLog {
    /// From now on.
    pub fn from_now() -> Self {
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

    /// The warnings and errors since then that name `device`, by its name in the kernel, oldest first.
    pub fn about(mut self, device: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let Some(log) = &mut self.0 else {
            return words;
        };
        let mut record = [0; RECORD_SIZE];
        for _ in 0..RECORDS {
            match log.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    let said = complaint(&text).filter(|said| names(said, device));
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

/// Whether a message is about this device: `XFS (sda1): …`, `BTRFS error (device sda1 state E): …`,
/// `I/O error, dev sda1, sector 8 …`.
fn names(said: &str, device: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '!' | '.');
    said.match_indices(device).any(|(at, _)| {
        let before = &said[..at];
        let after = &said[at + device.len()..];
        let ends = !after.starts_with(is_name);
        ends && ["(", "(device ", "dev "]
            .iter()
            .any(|p| before.ends_with(p))
    })
}

/// The kernel's name of a block device: that of its directory in sysfs.
///
/// # Errors
/// Whatever the kernel refuses; the device may have gone.
pub fn kernel_name(number: u64) -> io::Result<String> {
    let (major, minor) = (libc::major(number), libc::minor(number));
    let target = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"))?;
    let name = Path::new(&target).file_name().unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
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

    #[test]
    fn a_message_is_about_the_device_that_it_names() {
        for said in [
            "XFS (sda1): log mount failed",
            "EXT4-fs error (device sda1): ext4_fill_super",
            "BTRFS error (device sda1 state E): open_ctree failed: -5",
            "I/O error, dev sda1, sector 8 op 0x0:(READ)",
            "Buffer I/O error on dev sda1, logical block 0",
        ] {
            assert!(names(said, "sda1"), "{said}");
            assert!(!names(said, "sda"), "{said}");
            assert!(!names(said, "a1"), "{said}");
        }
        assert!(!names("XFS (sda10): log mount failed", "sda1"));
        assert!(!names(
            "EXT4-fs: journaled quota format not specified",
            "sda1"
        ));
    }
}
