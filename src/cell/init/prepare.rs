//! Prepares the cell for the servers before they start: their state directory and their configuration.
//! This runs in children of PID 1.

use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io::Errno;

use super::owners::Owners;
use super::state_directory::{self, Keeping};
use crate::cell::init::root::{COVER_ROOM, STATE_DIRECTORY, own_etc};
use crate::cell::service::{self, Entry, Export, ServerSpec, Squash, Surroundings};
use crate::sys::mount::{self, Room};
use crate::sys::mountinfo;

/// The mount table of the cell.
const TABLE: &str = "/proc/self/mountinfo";

/// Room for device nodes: one for each XFS.
const NODES_ROOM: Room = Room {
    bytes: 1 << 16,
    inodes: 1024,
};

/// The name of the empty directory in the state directory that is mounted over it: what clients see there.
///
/// It must be on the same file system. nfs-ganesha since 5.3 does not know any tmpfs
/// (`populate_posix_file_systems` in `FSAL/localfs.c`), and its READDIR of a directory with a mount
/// point of a file system that it does not know fails as a whole, with NFS4ERR_XDEV.
const COVER: &str = "empty";

/// Shows the state directory of the home file system where the servers look for it, and hides it from clients at its
/// own place in the file system.
///
/// The state belongs to reserved IDs: see [`super::state_directory`]. The servers see it through a mount that shows
/// these IDs as root and other users. The mount of the file system itself is covered by another one, which shows them
/// as nobody: that one is exported, and the one below can't be reached any more.
///
/// If this kernel can't map owners on this file system, the state belongs to root, and only the empty directory covers
/// it. A handle leads past that: see [`withheld`].
///
/// Returns a warning in one line, if there is one.
pub(crate) fn prepare(home: &Path) -> Result<Option<String>, String> {
    let state = home.join(state_directory::NAME);
    let about = |what: &dyn Display| format!("state directory {}: {what}", state.display());
    match prepare_at(home, &state) {
        Ok(warning) => Ok(warning.map(|warning| about(&warning))),
        Err(e) if is_full(&e) => Err(format!(
            "the home file system at {} is full: {e}",
            home.display()
        )),
        Err(e) => Err(about(&e)),
    }
}

/// Whether there was no room for something: no blocks or no inodes.
fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn prepare_at(home: &Path, state: &Path) -> io::Result<Option<String>> {
    if is_settled(home, state)? {
        return Ok(None);
    }
    let root = mount::open_directory(home)?;
    let directory = state_directory::open(&root)?;
    // Cloned first: unmounting begins with the last clone.
    let top = mount::clone_tree(&root, "")?;
    let hidden = hide(&top).ok();
    let keeping = match &hidden {
        Some(_) => Keeping::Apart,
        None => Keeping::Common,
    };
    let cover = make_cover(&directory)?;
    let warning = state_directory::give(&directory, keeping)?;
    let view = mount::clone_tree(&directory, "")?;
    let cover = match cover {
        true => Some(show_cover(&directory, hidden.as_ref())?),
        false => None,
    };
    drop((root, directory));
    if hidden.is_some() {
        mount::set_owners(&view, Owners::State.namespace()?)?;
        mount::attach(top, CWD, home)?;
    }
    match (cover, &hidden) {
        (Some(cover), _) => mount::attach(cover, CWD, state)?,
        // Nobody reaches the state even without the cover.
        (None, Some(_)) => {}
        // This only means that a newer Ganesha can't list the root until a start finds room again.
        (None, None) => {
            let cover = mount::create_tmpfs(COVER_ROOM, 0o555)?;
            mount::set_read_only(&cover)?;
            mount::attach(cover, CWD, state)?;
        }
    }
    mount::attach(view, CWD, STATE_DIRECTORY)?;
    Ok(warning)
}

/// Shows the owners of the state as nobody in a detached mount of the home file system. Returns the user namespace with
/// the maps for that.
fn hide(top: &OwnedFd) -> io::Result<OwnedFd> {
    let hidden = Owners::WithoutState.namespace()?;
    mount::set_owners(top, &hidden)?;
    Ok(hidden)
}

/// Makes the directory that covers the state. Returns false if there is no room for it on a file system that has become
/// full: servers with a state are started without it.
fn make_cover(directory: &OwnedFd) -> io::Result<bool> {
    match mkdirat(directory, COVER, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(true),
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A mount of the covering directory that everybody may read.
fn show_cover(directory: &OwnedFd, hidden: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    // A symbolic link that a client may once have put there is not followed.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let cover = openat(directory, COVER, flags, Mode::empty())
        .map_err(|e| crate::sys::message(e.into(), COVER))?;
    fchmod(&cover, Mode::from_raw_mode(0o755))?;
    let cover = mount::clone_tree(&cover, "")?;
    if let Some(hidden) = hidden {
        mount::set_owners(&cover, hidden)?;
    }
    mount::set_read_only(&cover)?;
    Ok(cover)
}

/// Whether everything is prepared already. What is there for another home, or was left half done, is undone.
fn is_settled(home: &Path, state: &Path) -> io::Result<bool> {
    let table = mountinfo::read_table(Path::new(TABLE))?;
    let at = |path: &Path| table.iter().rev().find(|entry| entry.target == path);
    let top = at(home).ok_or_else(|| io::Error::other("no file system is attached there"))?;
    let (view, cover) = (at(Path::new(STATE_DIRECTORY)), at(state));
    let fits = view.is_some_and(|view| {
        let is_its = view.device == top.device && view.root == top.root.join(state_directory::NAME);
        is_its && view.maps_owners() == top.maps_owners()
    });
    if fits && (top.maps_owners() || cover.is_some()) {
        return Ok(true);
    }
    let mounts = [
        (view.is_some(), Path::new(STATE_DIRECTORY)),
        (cover.is_some(), state),
        (top.maps_owners(), home),
    ];
    for (_, path) in mounts.into_iter().filter(|(is_there, _)| *is_there) {
        mount::detach(path)?;
    }
    Ok(false)
}

/// The export on which clients would have root's rights and so could reach the servers' state, and why they could: such
/// an export is not served. Whether they could depends on how the kernel shows the state.
///
/// # Errors
/// If the mount table can't be read.
pub(crate) fn withheld<'a>(
    spec: &ServerSpec,
    exports: &'a [Export],
) -> io::Result<Option<(&'a Export, String)>> {
    let table = mountinfo::read_table(Path::new(TABLE))?;
    let at = |path: &Path| table.iter().rev().find(|entry| entry.target == path);
    let Some(view) = at(Path::new(STATE_DIRECTORY)).filter(|view| !view.maps_owners()) else {
        return Ok(None);
    };
    let is_home =
        |e: &&Export| at(Path::new(&e.directory)).is_some_and(|at| at.device == view.device);
    let nfs = |e: &&Export| e.nfs.as_ref().filter(|_| spec.nfs).map(|nfs| nfs.squash);
    let as_root = |e: &&Export| nfs(e) == Some(Squash::None);
    let Some(export) = exports.iter().filter(as_root).find(is_home) else {
        return Ok(None);
    };
    let tried = mount::clone_tree(CWD, STATE_DIRECTORY).and_then(|view| hide(&view).map(drop));
    let why = tried.err().map_or_else(String::new, |e| format!(": {e}"));
    let fstype = &view.fstype;
    let text = format!(
        "nfs_squash=none not served: on this {fstype} such clients would reach the servers' state{why}"
    );
    Ok(Some((export, text)))
}

/// The exports without the one that is withheld.
///
/// # Errors
/// As [`withheld`].
pub(crate) fn served(spec: &ServerSpec, exports: &[Export]) -> io::Result<Vec<Export>> {
    let mut served = exports.to_vec();
    if let Some((kept, _)) = withheld(spec, exports)? {
        for export in served.iter_mut().filter(|e| e.directory == kept.directory) {
            export.nfs = None;
        }
    }
    Ok(served)
}

/// Writes all files that the servers need before they start, or after their exports have changed.
pub(crate) fn configure(spec: &ServerSpec, exports: &[Export]) -> Result<(), String> {
    let served = served(spec, exports).map_err(|e| e.to_string())?;
    let found = Surroundings::look(spec, &served).map_err(|e| e.to_string())?;
    for entry in service::files(spec, &served, &found)? {
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
        // /etc itself is read-only: the entry there is a link.
        Entry::File {
            path,
            content,
            mode,
        } if path.starts_with("/etc") => {
            let name = path.file_name().unwrap_or_default();
            write(&own_etc().join(name), content, *mode)
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
        // The directory is part of the read-only root, which was built with it.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        other => other,
    }
}

/// Replaces a file, so that readers see either all of the old or all of the new content.
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
    let table = mountinfo::read_table(Path::new(TABLE))?;
    Ok(table.iter().any(|entry| entry.target == path))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
