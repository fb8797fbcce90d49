//! What is mounted anywhere on this node: the mount tables of all living mount namespaces. A cell's file
//! systems are in none but its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::mountinfo::Entry;
use super::namespace;
use crate::sys::mountinfo;

/// A mount namespace in which somebody lives.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its number, as nsfs shows it.
    pub(crate) number: u64,
    /// The processes in it, as the host numbers them; a thread that is in it by itself stands for itself.
    pub(crate) processes: Vec<i32>,
    /// Its mount table. Empty if it could not be read, and where it does not count: see [`namespaces`].
    pub(crate) entries: Vec<Entry>,
    /// Why its table could not be read.
    pub(crate) unread: Option<String>,
}

impl Namespace {
    /// Whether it is a cell's, or a copy of a cell's: its root is the tree that the cell's PID 1 has built.
    pub(crate) fn is_cell(&self) -> bool {
        let mut entries = self.entries.iter().rev();
        let root = entries.find(|e| e.target == Path::new("/"));
        root.is_some_and(|e| e.fstype == "tmpfs" && e.source == "berth")
    }

    /// Where a block device is mounted in it, the last place first. btrfs shows a number of its own in a
    /// mount table, so there the source counts.
    pub(crate) fn mounts_of<'a>(
        &'a self,
        device: &'a Block<'_>,
    ) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().rev().filter(|e| device.is_in(e))
    }
}

/// A block device, as it is looked for in mount tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// Its number (`st_rdev`).
    pub(crate) number: u64,
    /// A path of it.
    pub(crate) path: &'a Path,
}

impl Block<'_> {
    fn is_in(&self, entry: &Entry) -> bool {
        let (major, minor) = entry.device;
        if libc::makedev(major, minor) == self.number {
            return true;
        }
        // Others' sources are not looked at: they may lie on a server that does not answer.
        let source = Path::new(&entry.source);
        entry.fstype == "btrfs"
            && entry.source.starts_with('/')
            && (source == self.path
                || fs::metadata(source).is_ok_and(|m| m.rdev() == self.number && m.rdev() != 0))
    }
}

/// All living mount namespaces, that of the caller among them. A process that ends meanwhile is left out.
///
/// Whoever can log in can have mount namespaces of his own by way of a user namespace: with what he likes in
/// their tables, as large and as many as he likes. No device's file system can be mounted from there, so those
/// tables are not read; the processes are told, which may have a device open all the same.
///
/// # Errors
/// If /proc can't be read, or the caller's own table. Another one that can't is empty, and says so.
pub fn namespaces() -> io::Result<Vec<Namespace>> {
    let mut found: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for process in numbers(Path::new("/proc"))? {
        let tasks = format!("/proc/{process}/task");
        // Threads may have left their process's namespace.
        for task in numbers(Path::new(&tasks)).unwrap_or_default() {
            if let Some(namespace) = namespace_of(&format!("{tasks}/{task}")) {
                let seen = found.entry(namespace).or_default();
                if seen.last() != Some(&process) {
                    let alone = namespace_of(&format!("/proc/{process}")) != Some(namespace);
                    seen.push(if alone { task } else { process });
                }
            }
        }
    }
    let own = namespace_of("/proc/thread-self");
    let users = number_of("/proc/thread-self/ns/user");
    let mut all = Vec::with_capacity(found.len());
    for (number, processes) in found {
        let table = match is_of_others(number, &processes, users) {
            true => Ok(Some(vec![])),
            false => table_of(number, &processes),
        };
        let (entries, unread) = match table {
            Ok(Some(entries)) => (entries, None),
            Ok(None) => continue,
            Err(e) if own == Some(number) => return Err(e),
            Err(e) => (vec![], Some(e.to_string())),
        };
        all.push(Namespace {
            number,
            processes,
            entries,
            unread,
        });
    }
    Ok(all)
}

/// Whether a mount namespace was made in another user namespace than this one, `users`, or one above it.
fn is_of_others(namespace: u64, processes: &[i32], users: Option<u64>) -> bool {
    let owner = |process: &i32| {
        let file = File::open(format!("/proc/{process}/ns/mnt")).ok()?;
        (file.metadata().ok()?.ino() == namespace).then(|| owner_of(&file))
    };
    match processes.iter().find_map(owner) {
        Some(Ok(owner)) => Some(owner) != users,
        // An owner above this process's own user namespace can't be asked for. Or no process is left in there.
        Some(Err(_)) | None => false,
    }
}

/// The number of the user namespace that a namespace belongs to: ioctl_ns(2).
fn owner_of(namespace: &File) -> io::Result<u64> {
    // SAFETY: the ioctl takes no argument, and the descriptor lives through the call.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else knows it.
    let owner = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(owner.metadata()?.ino())
}

/// The table of a namespace, read at whichever of its processes still lives; `None` if none does.
fn table_of(namespace: u64, processes: &[i32]) -> io::Result<Option<Vec<Entry>>> {
    let mut failure = None;
    for process in processes {
        let of = format!("/proc/{process}");
        match mountinfo::read_table(&Path::new(&of).join("mountinfo")) {
            Ok(entries) if is_in(*process, namespace) => return Ok(Some(entries)),
            // Its number is another process's by now.
            Ok(_) => {}
            // The process is ending: its root has gone before its namespace.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if is_in(*process, namespace) => failure = Some(e),
            Err(_) => {}
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Whether a process is in the mount namespace of this number.
fn is_in(process: i32, namespace: u64) -> bool {
    namespace_of(&format!("/proc/{process}")) == Some(namespace)
}

/// The number of a task's mount namespace; `None` if the task has ended.
fn namespace_of(task: &str) -> Option<u64> {
    number_of(&format!("{task}/ns/mnt"))
}

/// The number of a namespace, by its file.
fn number_of(file: &str) -> Option<u64> {
    Some(fs::metadata(file).ok()?.ino())
}

impl Namespace {
    /// Kills the processes in it, and says which; those that have left it meanwhile are spared. The file
    /// systems that are mounted in it alone are unmounted when the last one has died.
    pub(crate) fn kill(&self) -> Vec<i32> {
        let kill = |process: &&i32| {
            let Ok(handle) = namespace::open_process(**process) else {
                return false;
            };
            // The handle was there before this was asked, so it is the process that was asked about.
            is_in(**process, self.number) && namespace::kill(handle.as_fd()).is_ok()
        };
        self.processes.iter().filter(kill).copied().collect()
    }
}

/// The entries of a directory that are numbers, sorted.
fn numbers(directory: &Path) -> io::Result<Vec<i32>> {
    let mut numbers = vec![];
    for entry in fs::read_dir(directory)? {
        if let Some(number) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn entry(device: (u32, u32), target: &str, fstype: &str, source: &str) -> Entry {
        Entry {
            id: 0,
            device,
            root: PathBuf::from("/"),
            target: PathBuf::from(target),
            options: "rw".to_owned(),
            fstype: fstype.to_owned(),
            source: source.to_owned(),
            super_options: "rw".to_owned(),
        }
    }

    #[test]
    fn a_mount_is_found_by_number_and_by_source() {
        let namespace = Namespace {
            number: 1,
            processes: vec![1],
            unread: None,
            entries: vec![
                entry((8, 1), "/", "ext4", "/dev/sda1"),
                entry((0, 40), "/srv/data", "btrfs", "/dev/none-such"),
                entry((8, 1), "/mnt", "ext4", "/dev/sda1"),
            ],
        };
        let find = |number, path| {
            let block = Block {
                number,
                path: Path::new(path),
            };
            let mut mounts = namespace.mounts_of(&block);
            mounts.next().map(|e| e.target.clone())
        };
        assert_eq!(find(libc::makedev(8, 1), "/dev/x"), Some("/mnt".into()));
        let btrfs = find(libc::makedev(8, 16), "/dev/none-such");
        assert_eq!(btrfs, Some("/srv/data".into()));
        assert_eq!(find(libc::makedev(8, 32), "/dev/sdc"), None);
        // A number of a file system's own is no device's.
        assert_eq!(find(0, "/dev/sdc"), None);
    }

    #[test]
    fn a_cell_is_known_by_its_root() {
        let of = |entries| Namespace {
            number: 1,
            processes: vec![1],
            unread: None,
            entries,
        };
        let root = entry((0, 50), "/", "tmpfs", "berth");
        let data = entry((8, 1), "/data", "ext4", "/dev/sda1");
        assert!(of(vec![root.clone(), data.clone()]).is_cell());
        assert!(!of(vec![data.clone()]).is_cell());
        let other = entry((8, 2), "/", "ext4", "/dev/sda2");
        assert!(!of(vec![other, data]).is_cell());
    }

    #[test]
    fn the_own_namespace_is_among_all_of_them() {
        let me = i32::try_from(std::process::id()).unwrap();
        let all = namespaces().unwrap();
        assert!(all.iter().any(|n| n.processes.contains(&me)));
    }
}
