//! The node's name services, as its cells see them: who uses files must exist where they are served, also if only
//! sssd, LDAP or winbind know him.
//!
//! The C library's modules (nsswitch.conf(5)) ask through sockets and read caches at fixed places under /run and
//! /var, of which a cell has its own. So those of the node are shown there, read-only: connecting to a
//! socket writes nothing. Directories, because a daemon that is restarted makes its sockets anew; one that is made
//! anew itself, as systemd does with those of some daemons, is shown again.
//!
//! What not everybody may read there is no business of a server's, some of which have root's rights over files. A
//! cover over such a file would not do: the kernel takes it away when the host puts another file in its place by
//! renaming, which is how password files are written. So files are shown as owned by nobody, and root's rights don't
//! reach them. Nobody could connect to a socket that is shown like that: where there is one that not everybody may
//! use, the others are shown one by one, and one that is made anew is shown again like a directory.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::CWD;
use rustix::mount::{UnmountFlags, unmount};

use crate::sys::{message, mount};

/// Where a name service answers.
#[derive(Debug)]
pub struct Place {
    /// Where it is, in the node as in the cell.
    pub path: &'static str,
    kind: Kind,
}

/// Which file it is that is in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    /// May be that of a file which has just been removed.
    inode: u64,
    /// When it was made, where the file system knows.
    born: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A directory of files, some of which may be secret.
    Files,
    /// A directory of sockets that everybody may use.
    Sockets,
    /// A socket.
    Socket,
}

const fn place(path: &'static str, kind: Kind) -> Place {
    Place { path, kind }
}

/// All that are known. Those of services that a node does not have are not there.
pub const PLACES: [Place; 7] = [
    // sssd (src/util/util.h, src/sss_client). Beside the socket there are those for PAM and for root.
    place("/var/lib/sss/pipes/nss", Kind::Socket),
    place("/var/lib/sss/mc", Kind::Files),
    // glibc's nscd (nscd/nscd-client.h), and unscd.
    place("/run/nscd", Kind::Sockets),
    // nss-pam-ldapd's nslcd.
    place("/run/nslcd", Kind::Sockets),
    // winbindd (nsswitch/libwbclient): not its privileged pipe, which lies elsewhere.
    place("/run/samba/winbindd", Kind::Sockets),
    // systemd's user and group records: systemd.io/USER_GROUP_API.
    place("/run/systemd/userdb", Kind::Sockets),
    // libnss-extrausers: with a shadow file.
    place("/var/lib/extrausers", Kind::Files),
];

impl Place {
    /// What is there now; `None` if there is nothing of its kind.
    pub fn identity(&self) -> Option<Identity> {
        let found = fs::metadata(self.path).ok()?;
        let fits = match self.kind {
            Kind::Files | Kind::Sockets => found.is_dir(),
            Kind::Socket => found.file_type().is_socket(),
        };
        fits.then(|| Identity {
            device: found.dev(),
            inode: found.ino(),
            born: found.created().ok(),
        })
    }

    /// A view of it, to be given to [`show`].
    ///
    /// # Errors
    /// Whatever the kernel refuses, with the path.
    pub fn view(&self) -> io::Result<OwnedFd> {
        let view = || {
            let view = mount::clone_tree(CWD, self.path)?;
            mount::set_read_only(&view)?;
            Ok(view)
        };
        view().map_err(|e| message(e, format_args!("show {}", self.path)))
    }
}

/// Shows a view at its place in the cell, instead of one that is there. Runs in PID 1. `nobodies` is
/// [`Root::nobodies`](super::root::Root::nobodies).
///
/// # Errors
/// The step that failed. Files are not shown where they can't be shown as nobody's.
pub fn show(view: &OwnedFd, path: &Path, nobodies: Option<&OwnedFd>) -> io::Result<()> {
    let place = PLACES.iter().find(|place| Path::new(place.path) == path);
    let place = place.ok_or_else(|| io::Error::other("no name service is known to be there"))?;
    if place.kind == Kind::Files {
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
    let directory = match place.kind {
        Kind::Files | Kind::Sockets => path,
        Kind::Socket => path.parent().unwrap_or(path),
    };
    fs::create_dir_all(directory)?;
    // Who still reads from it keeps what he has open. There may be none.
    let _ = unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    if place.kind == Kind::Socket {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).open(path)?;
    }
    mount::attach(view, CWD, path)
}
