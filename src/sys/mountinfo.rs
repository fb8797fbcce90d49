//! The mount table.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// The most bytes of a mount table; a larger one is refused rather than read in part.
const TABLE_LIMIT: u64 = 16 << 20;
/// Few tables are longer than this.
const TABLE_USUAL: usize = 16 << 10;

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The mount's own number, as [`id_of`] gives it.
    pub(crate) id: u64,
    /// Device number of the file system: major, minor. `stat` shows the same in its files, except on
    /// btrfs, where each subvolume shows a number of its own.
    pub(crate) device: (u32, u32),
    /// Which directory of the file system is the root of this mount.
    pub(crate) root: PathBuf,
    /// Where it is mounted.
    pub(crate) target: PathBuf,
    /// Options of this mount, comma-separated.
    pub(crate) options: String,
    /// Type of the file system.
    pub(crate) fstype: String,
    /// The source of the mount; for disk file systems the device's path.
    pub(crate) source: String,
    /// Options of the file system, comma-separated.
    pub(crate) super_options: String,
}

impl Entry {
    /// Whether the file system itself, not only this mount, refuses writes.
    pub(crate) fn is_read_only(&self) -> bool {
        self.super_options.split(',').any(|o| o == "ro")
    }

    /// Whether owners are shown otherwise than they are stored: `show_mnt_opts` in fs/proc_namespace.c.
    pub(crate) fn maps_owners(&self) -> bool {
        self.options.split(',').any(|o| o == "idmapped")
    }
}

/// Reads the mount table at `path`, for instance `/proc/self/mountinfo`.
///
/// # Errors
/// What reading gives; `InvalidData` for a line that is not a mount table's.
pub(crate) fn read_table(path: &Path) -> io::Result<Vec<Entry>> {
    let mut text = Vec::with_capacity(TABLE_USUAL);
    fs::File::open(path)?
        .take(TABLE_LIMIT + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > TABLE_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: too large", path.display()),
        ));
    }
    String::from_utf8_lossy(&text)
        .lines()
        .map(|line| {
            parse_entry(line).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: {line:?}", path.display()),
                )
            })
        })
        .collect()
}

/// A line as proc_pid_mountinfo(5) gives it:
/// `36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/root rw,errors=continue`.
fn parse_entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = PathBuf::from(unescape(words.next()?));
    let target = PathBuf::from(unescape(words.next()?));
    let options = words.next()?.to_owned();
    words.find(|w| *w == "-")?;
    Some(Entry {
        id,
        device,
        root,
        target,
        options,
        fstype: words.next()?.to_owned(),
        source: unescape(words.next()?),
        super_options: words.next()?.to_owned(),
    })
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash.
fn unescape(word: &str) -> String {
    let mut text = Vec::with_capacity(word.len());
    let mut bytes = word.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let code = (first == b'\\')
            .then(|| rest.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.push(code.unwrap_or(first));
        bytes = if code.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The number of the mount that `path` lies in, symbolic links followed: the first word of that mount's
/// line in the table.
///
/// # Errors
/// Whatever the kernel refuses; `Unsupported` before Linux 5.8.
pub(crate) fn id_of(path: &Path) -> io::Result<u64> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, path, flags, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(found.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_line_is_read() {
        let line = r"36 35 98:0 /a\040b /mnt/x\134y rw,noatime shared:1 master:2 - ext4 /dev/root ro,errors=continue";
        let entry = parse_entry(line).unwrap();
        assert_eq!((entry.id, entry.device), (36, (98, 0)));
        assert_eq!(entry.root, Path::new("/a b"));
        assert_eq!(entry.target, Path::new(r"/mnt/x\y"));
        assert_eq!(
            (entry.fstype.as_str(), entry.source.as_str()),
            ("ext4", "/dev/root")
        );
        assert!(entry.is_read_only());
    }

    #[test]
    fn a_broken_line_is_no_entry() {
        for line in [
            "",
            "36 35 98 / / rw - ext4 x rw",
            "36 35 98:0 / / rw ext4 x rw",
        ] {
            assert_eq!(parse_entry(line), None, "{line:?}");
        }
    }

    #[test]
    fn this_machine_s_table_is_read_whole_and_knows_its_mounts_by_number() {
        let table = read_table(Path::new("/proc/thread-self/mountinfo")).unwrap();
        let root = id_of(Path::new("/")).unwrap();
        let entry = table.iter().find(|e| e.id == root).unwrap();
        assert_eq!(entry.target, Path::new("/"));
    }
}
