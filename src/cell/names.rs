//! The node's name services, as its cells see them: users of files must be known where the files are served, even if
//! only sssd, LDAP or winbind know them.
//!
//! The C library's modules (nsswitch.conf(5)) ask through sockets and read caches at fixed places under /run and
//! /var, of which a cell has its own. So those of the node are shown there, read-only: connecting to a
//! socket writes nothing.
//!
//! Servers, some of which have root's rights over files, must not read files there that not everybody may read. A cover
//! over such a file would not help: the kernel removes it when the host replaces the file by renaming, which is how
//! password files are written. So directories of files are shown as owned by nobody, and root's rights reach neither
//! these files nor others on the same file system that could be opened by a handle. Nobody could connect to a socket
//! that is shown like that, so sockets are shown one by one: no handle can be used at a mount of a single socket
//! (open_by_handle_at(2) takes an open file, which a socket can't be). When a daemon is restarted and makes its socket
//! anew, the new one is shown.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::sys::{message, mount};

/// Where a name service answers.
#[derive(Debug)]
struct NameService {
    /// Where it is, in the node as in the cell.
    path: &'static str,
    kind: Kind,
}

/// What is to be shown: a directory of files, or a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Where it is, in the node as in the cell.
    pub(crate) path: PathBuf,
    /// What is there now.
    pub(crate) identity: Identity,
}

/// The identity of the file at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    /// The inode number, which a removed file may just have had.
    inode: u64,
    /// When the file was made, if the file system knows.
    born: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A directory of files, some of which may be secret.
    Files,
    /// A directory of sockets.
    Sockets,
    /// A socket.
    Socket,
}

const fn name_service(path: &'static str, kind: Kind) -> NameService {
    NameService { path, kind }
}

/// The places of all known name services. Those of services that a node does not have do not exist.
const NAME_SERVICES: [NameService; 7] = [
    // sssd (src/util/util.h, src/sss_client). Beside the socket there are those for PAM and for root.
    name_service("/var/lib/sss/pipes/nss", Kind::Socket),
    name_service("/var/lib/sss/mc", Kind::Files),
    // glibc's nscd (nscd/nscd-client.h), and unscd.
    name_service("/run/nscd", Kind::Sockets),
    // nss-pam-ldapd's nslcd.
    name_service("/run/nslcd", Kind::Sockets),
    // winbindd (nsswitch/libwbclient): not its privileged pipe, which lies elsewhere.
    name_service("/run/samba/winbindd", Kind::Sockets),
    // systemd's user and group records: systemd.io/USER_GROUP_API.
    name_service("/run/systemd/userdb", Kind::Sockets),
    // libnss-extrausers: with a shadow file.
    name_service("/var/lib/extrausers", Kind::Files),
];

/// More sockets than a name service has.
const SOCKETS: usize = 32;

/// The permission that everybody needs to use a socket: to connect takes the right to write (unix(7)).
const EVERYBODY_WRITES: u32 = 0o002;

impl NameService {
    /// What of it is there now.
    fn answers(&self) -> Vec<Answer> {
        let path = Path::new(self.path);
        match self.kind {
            Kind::Files => answer(path, Metadata::is_dir).into_iter().collect(),
            Kind::Socket => answer(path, is_open).into_iter().collect(),
            Kind::Sockets => {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                let answers = entries.filter_map(|entry| answer(&entry.path(), is_open));
                answers.take(SOCKETS).collect()
            }
        }
    }

    /// The directory in which its sockets come and go.
    fn sockets(&self) -> Option<&'static Path> {
        let path = Path::new(self.path);
        match self.kind {
            Kind::Files => None,
            Kind::Socket => path.parent(),
            Kind::Sockets => Some(path),
        }
    }
}

fn is_open(found: &Metadata) -> bool {
    found.file_type().is_socket() && found.mode() & EVERYBODY_WRITES != 0
}

fn answer(path: &Path, fits: impl Fn(&Metadata) -> bool) -> Option<Answer> {
    let found = fs::metadata(path).ok().filter(fits)?;
    Some(Answer {
        path: path.to_owned(),
        identity: Identity {
            device: found.dev(),
            inode: found.ino(),
            born: found.created().ok(),
        },
    })
}

/// All that a cell is to be shown now.
pub(crate) fn answers() -> Vec<Answer> {
    NAME_SERVICES
        .iter()
        .flat_map(NameService::answers)
        .collect()
}

/// The directories in which sockets come and go; not all are there.
pub(crate) fn directories() -> impl Iterator<Item = &'static Path> {
    NAME_SERVICES.iter().filter_map(NameService::sockets)
}

impl Answer {
    /// A view of it, to be given to [`show`].
    ///
    /// # Errors
    /// Whatever the kernel refuses, with the path.
    pub(crate) fn view(&self) -> io::Result<OwnedFd> {
        let view = || {
            let view = mount::clone_tree(CWD, &self.path)?;
            mount::set_read_only(&view)?;
            Ok(view)
        };
        view().map_err(|e| message(e, format_args!("show {}", self.path.display())))
    }
}

/// Whether a path is one of files, or of a socket; `None` if no name service is known to be there.
fn has_files(path: &Path) -> Option<bool> {
    let is_its = |place: &&NameService| match place.kind {
        Kind::Files | Kind::Socket => path == Path::new(place.path),
        Kind::Sockets => path.parent() == Some(Path::new(place.path)),
    };
    let place = NAME_SERVICES.iter().find(is_its)?;
    Some(place.kind == Kind::Files)
}

/// Shows a view at its place in the cell, instead of one that is there. Runs in PID 1. `nobodies` is
/// [`Root::nobodies`](super::init::root::Root::nobodies).
///
/// # Errors
/// The step that failed. Files are not shown where they can't be shown as nobody's.
pub(crate) fn show(view: &OwnedFd, path: &Path, nobodies: Option<&OwnedFd>) -> io::Result<()> {
    let files = has_files(path);
    let files = files.ok_or_else(|| io::Error::other("no name service is known to be there"))?;
    if files {
        let nobodies = nobodies.ok_or_else(|| io::Error::other("no user namespace was made"));
        nobodies
            .and_then(|nobodies| mount::set_owners(view, nobodies))
            .map_err(|e| {
                message(
                    e,
                    "not shown, since what is secret there would be shown too",
                )
            })?;
    }
    let (directory, name) = open_parent(path)?;
    // A process that still reads from the old view keeps what it has open. There may be no old view.
    let by_descriptor = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let there = Path::new(&by_descriptor).join(name);
    let _ = unmount(&there, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let place = match files {
        true => enter(&directory, name),
        false => open_file(&directory, name),
    };
    mount::attach(view, place?, "")
}

/// The directory that a place in the cell lies in, made if it is not there, and the place's name in it.
///
/// Servers may have put anything there: a symbolic link is not followed, and nothing is opened that could block PID 1.
fn open_parent(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = path.file_name().ok_or_else(wrong)?;
    let mut directory = mount::open_directory(Path::new("/"))?;
    for component in path.parent().ok_or_else(wrong)?.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => directory = enter(&directory, name)?,
            _ => return Err(wrong()),
        }
    }
    Ok((directory, name))
}

/// Opens a directory in another one as a place to mount at, and makes it if it is not there.
fn enter(directory: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    // The directory may be there already: the next step finds out.
    let made = mkdirat(directory, name, Mode::from_raw_mode(0o755));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match (openat(directory, name, flags, Mode::empty()), made) {
        (Err(Errno::NOENT), Err(e)) => Err(e.into()),
        (Err(Errno::NOTDIR | Errno::LOOP), _) => Err(occupied(name)),
        (opened, _) => Ok(opened?),
    }
}

/// Opens a file as a place to mount at, and makes it if it is not there.
fn open_file(directory: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    // Exclusively: never opens what is there already, such as a FIFO, which would block PID 1.
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory, name, new, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(occupied(name)),
    }
}

fn occupied(name: &OsStr) -> io::Error {
    let text = format!(
        "something of a server's is in its place: {}",
        Path::new(name).display()
    );
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_shown_where_its_service_has_some_and_nothing_else_is() {
        for (path, files) in [
            ("/var/lib/sss/mc", Some(true)),
            ("/var/lib/sss/pipes/nss", Some(false)),
            ("/run/nscd/socket", Some(false)),
            ("/run/systemd/userdb/io.systemd.Multiplexer", Some(false)),
            ("/var/lib/sss/pipes/pam", None),
            ("/run/nscd", None),
            ("/run/nscd/a/b", None),
        ] {
            assert_eq!(has_files(Path::new(path)), files, "{path}");
        }
    }
}
