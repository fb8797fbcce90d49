//! The node's name services, as its cells see them: who uses files must exist where they are served, also if only
//! sssd, LDAP or winbind know him.
//!
//! The C library's modules (nsswitch.conf(5)) ask through sockets and read caches at fixed places under /run and
//! /var, of which a cell has its own. So directories of the node's are shown there, read-only: connecting to a
//! socket writes nothing. Directories, because a daemon that is restarted makes its sockets anew; one that is made
//! anew itself, as systemd does with those of some daemons, is shown again.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{UnmountFlags, unmount};

use crate::sys::{message, mount};

/// A directory that a name service answers in.
#[derive(Debug)]
pub struct Place {
    /// Where it is, in the node as in the cell.
    pub path: &'static str,
    /// What in it is no business of a server's.
    pub hidden: &'static [&'static str],
}

const fn place(path: &'static str) -> Place {
    Place { path, hidden: &[] }
}

/// All that are known. Those of services that a node does not have are not there.
pub const PLACES: [Place; 7] = [
    // sssd (src/util/util.h, src/sss_client): what only root may ask lies apart.
    Place {
        path: "/var/lib/sss/pipes",
        hidden: &["private"],
    },
    place("/var/lib/sss/mc"),
    // glibc's nscd (nscd/nscd-client.h), and unscd.
    place("/run/nscd"),
    // nss-pam-ldapd's nslcd.
    place("/run/nslcd"),
    // winbindd (nsswitch/libwbclient): not its privileged pipe, which lies elsewhere.
    place("/run/samba/winbindd"),
    // systemd's user and group records: systemd.io/USER_GROUP_API.
    place("/run/systemd/userdb"),
    // libnss-extrausers.
    Place {
        path: "/var/lib/extrausers",
        hidden: &["shadow", "shadow-", "gshadow", "gshadow-"],
    },
];

impl Place {
    /// Which directory is there now: device and inode; `None` if there is none.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let found = fs::metadata(self.path).ok()?;
        found.is_dir().then(|| (found.dev(), found.ino()))
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

/// Shows a view at its place in the cell, instead of one that is there. Runs in PID 1, when the cell is built
/// before there is a server.
///
/// # Errors
/// The step that failed.
pub fn show(view: &OwnedFd, path: &Path) -> io::Result<()> {
    let place = PLACES.iter().find(|place| Path::new(place.path) == path);
    let place = place.ok_or_else(|| io::Error::other("no name service is known to be there"))?;
    fs::create_dir_all(path)?;
    // Who still reads from it keeps what he has open. There may be none.
    let _ = unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    mount::attach(view, CWD, path)?;
    for name in place.hidden {
        let hidden = path.join(name);
        let cover = match fs::symlink_metadata(&hidden) {
            Ok(found) if found.is_dir() => mount::create_tmpfs(4096, 0o555)?,
            Ok(found) if found.is_symlink() => continue,
            Ok(_) => mount::clone_tree(CWD, "/dev/null")?,
            Err(_) => continue,
        };
        mount::set_read_only(&cover)?;
        mount::attach(cover, CWD, &hidden)?;
    }
    Ok(())
}
