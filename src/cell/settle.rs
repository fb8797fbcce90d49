//! What the servers need in the cell before they start: their state directory and their configuration.
//! Runs in children of PID 1.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::CWD;

use super::root::{COVER_ROOM, OWN_ETC, STATE_DIRECTORY};
use super::service::{self, Entry, Export, ServerSpec, Surroundings};
use crate::sys::mount::{self, Room};

/// Room for device nodes: one for each XFS.
const NODES_ROOM: Room = Room {
    bytes: 1 << 16,
    inodes: 1024,
};

/// What covers the state directory at the place where it lies: an empty directory in it.
const COVER: &str = "empty";

/// Shows the state directory of the home file system where the servers look for it, and nothing at
/// the place where it lies: clients who may use the file system see only an empty directory there.
///
/// It is a directory of the same file system. Since nfs-ganesha 5.3 no tmpfs is known to it
/// (`populate_posix_file_systems` in `FSAL/localfs.c`), and its READDIR of a directory with a mount
/// point of a file system that it does not know fails as a whole, with NFS4ERR_XDEV.
pub fn settle(home: &Path) -> Result<(), String> {
    let state = home.join(".berth");
    settle_at(&state).map_err(|e| match is_full(&e) {
        true => format!("the home file system at {} is full: {e}", home.display()),
        false => format!("state directory {}: {e}", state.display()),
    })
}

/// Whether there was no room for something: no blocks or no inodes.
fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn settle_at(state: &Path) -> io::Result<()> {
    if is_mounted(Path::new(STATE_DIRECTORY))? {
        return Ok(());
    }
    make_state_directory(state)?;
    let empty = state.join(COVER);
    let made = make_state_directory(&empty);
    let view = mount::clone_tree(CWD, state)?;
    let cover = match made {
        Ok(()) => mount::clone_tree(CWD, &empty)?,
        // A server that was there before, on a file system that has become full, goes on; only that its root
        // can't be listed with a newer Ganesha until there is room again at a start.
        Err(e) if is_full(&e) => mount::create_tmpfs(COVER_ROOM, 0o700)?,
        Err(e) => return Err(e),
    };
    mount::set_read_only(&cover)?;
    mount::attach(cover, CWD, state)?;
    mount::attach(view, CWD, STATE_DIRECTORY)
}

/// A client with root's rights could have put a link there: it is not followed.
fn make_state_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if !fs::symlink_metadata(path)?.is_dir() {
        let text = "is not a directory";
        return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Puts everything in place that the servers need before they start, or after their exports changed.
pub fn configure(spec: &ServerSpec, exports: &[Export]) -> Result<(), String> {
    let found = Surroundings::look(spec, exports).map_err(|e| e.to_string())?;
    for entry in service::files(spec, exports, &found)? {
        let (Entry::Directory { path, .. } | Entry::File { path, .. } | Entry::Node { path, .. }) =
            &entry;
        put(&entry).map_err(|e| match is_full(&e) && path.starts_with(&spec.state) {
            true => format!("the home file system is full: make {}: {e}", path.display()),
            false => format!("write {}: {e}", path.display()),
        })?;
    }
    Ok(())
}

fn put(entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Directory { path, mode } => make_directory(path, *mode),
        // /etc itself is read-only; there it is a link.
        Entry::File {
            path,
            content,
            mode,
        } if path.starts_with("/etc") => {
            let name = path.file_name().unwrap_or_default();
            write(&Path::new(OWN_ETC).join(name), content, *mode)
        }
        Entry::File {
            path,
            content,
            mode,
        } => write(path, content, *mode),
        Entry::Node { path, device } => make_node(path, *device),
    }
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)?;
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        // It is part of the root, which is read-only, and was made as it should be.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        other => other,
    }
}

/// Writes a file so that whoever reads it sees either all of the old or all of the new content.
fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    remove(Path::new(&temporary))?;
    let mut options = fs::OpenOptions::new();
    let mut out = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    out.write_all(content.as_bytes())?;
    fs::rename(&temporary, path)
}

/// Makes a block device node that can't be opened: see [`Entry::Node`].
fn make_node(path: &Path, device: u64) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !is_mounted(directory)? {
        let nodes = mount::create_tmpfs(NODES_ROOM, 0o755)?;
        mount::attach(nodes, CWD, directory)?;
    }
    remove(path)?;
    let (kind, none) = (rustix::fs::FileType::BlockDevice, rustix::fs::Mode::empty());
    Ok(rustix::fs::mknodat(CWD, path, kind, none, device)?)
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    let table = mount::read_table(Path::new("/proc/self/mountinfo"))?;
    Ok(table.iter().any(|entry| entry.target == path))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
