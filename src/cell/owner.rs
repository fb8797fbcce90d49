//! Finds the virtual server of a cell from outside, without the cell's keeper.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::protocol::KEEPER;
use crate::runtime::paths::RUNTIME_IN_CELL;
use crate::sys::message;
use crate::sys::mounted::Namespace;
use crate::types::VserverName;

/// A cell, by its mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Its virtual server; `None` if its PID 1 has ended and was of a version that left no name behind.
    pub(crate) vserver: Option<VserverName>,
    /// Whether its PID 1 has ended: any process that is still in it has joined from outside.
    pub(crate) ended: bool,
}

/// A name is a few bytes; a longer file is not one of berth's.
const NAME_LIMIT: u64 = 64;

/// The file in a cell that names its virtual server. It lies in a file system of the cell's own, so it is there
/// as long as the mount namespace is.
fn name_file() -> PathBuf {
    Path::new(RUNTIME_IN_CELL).join("vserver")
}

/// Leaves the cell's name behind in it. Called by PID 1.
///
/// # Errors
/// If it can't be written.
pub(crate) fn leave_name(vserver: &VserverName) -> io::Result<()> {
    let path = name_file();
    fs::create_dir_all(RUNTIME_IN_CELL)
        .and_then(|()| fs::write(&path, vserver.as_str()))
        .map_err(|e| message(e, format_args!("write {}", path.display())))
}

/// The cell of a mount namespace that belongs to one.
pub(crate) fn cell_of(namespace: &Namespace) -> Cell {
    // PID 1 has the arguments of the keeper that has forked it.
    let mut processes = namespace.processes.iter();
    if let Some(vserver) = processes.find_map(|process| vserver_by(*process)) {
        return Cell {
            vserver: Some(vserver),
            ended: false,
        };
    }
    let left = |process: &i32| {
        name_in(Path::new(&format!(
            "/proc/{process}/root{}",
            name_file().display()
        )))
    };
    Cell {
        vserver: namespace.processes.iter().find_map(left),
        ended: true,
    }
}

/// The name that a cell's PID 1 has left in this file. A process in the cell may have replaced the file, which must not
/// block the reader.
fn name_in(path: &Path) -> Option<VserverName> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let file = options.read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(NAME_LIMIT).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// The name of the virtual server whose cell a mount namespace is that is one, if it is known.
pub(crate) fn vserver_of(namespace: &Namespace) -> Option<String> {
    cell_of(namespace).vserver.map(String::from)
}

/// The virtual server that a process works for: a keeper, a cell's PID 1, or a child of one of them.
pub(crate) fn vserver_by(process: i32) -> Option<VserverName> {
    // The arguments are in the process's memory, which can't be read if the process hangs in certain ways; the name
    // can.
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    if !name.starts_with("berth-") {
        return None;
    }
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    (words.next()? == KEEPER.as_bytes())
        .then(|| words.next())?
        .and_then(|name| std::str::from_utf8(name).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_of_a_plain_file_and_of_nothing_that_keeps_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("good"), "alpha").unwrap();
        assert_eq!(name_in(&path("good")), Some("alpha".into()));
        std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(path("long"), "a".repeat(1 << 20)).unwrap();
        fs::write(path("wrong"), "../alpha").unwrap();
        for name in ["link", "fifo", "long", "wrong", "missing"] {
            assert_eq!(name_in(&path(name)), None, "{name}");
        }
        assert_eq!(name_in(dir.path()), None);
    }
}
