//! The servers' state directory on disk, `.berth` on the home file system: makes it and sets its owners.
//!
//! Clients of the file system may have root's rights on it, and with a forged handle they get past any directory and
//! any mount over one. So the state belongs to IDs that nobody else has ([`super::owners`]), and the exported mount
//! shows those as nobody. A state directory that an older version has made belongs to root; the next start changes its
//! owners. If that is interrupted, the start after it goes through all files again.

use std::fs::Permissions;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Uid, XattrFlags, chownat, fgetxattr,
    fsetxattr, fstat, mkdirat, openat,
};
use rustix::io::Errno;

use super::owners::{RESERVED, RESERVED_COUNT};

/// The name of the state directory on the home file system.
pub(crate) const NAME: &str = ".berth";

/// How many files are gone through at the most: Ganesha has one for each client, Samba some dozens.
const FILES: usize = 1 << 18;

/// How many levels of directories are gone through at the most. Ganesha's records of a client take a few.
const DEPTH: usize = 32;

/// The permissions of everybody but the owner, which are all taken away.
const OTHERS: RawMode = 0o077;

/// The default access list that makes new files in a directory accessible to their owner alone, whatever a server asks
/// for. In the kernel's format (linux/posix_acl_xattr.h): version 2, then tag, permissions and no ID of owner, group
/// and others.
const DEFAULT_ACCESS: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255,
    255, 255, 255,
];
const DEFAULT_ACCESS_NAME: &str = "system.posix_acl_default";

/// The owners that the files of the state are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// The reserved IDs.
    Apart,
    /// Root and other users by their usual IDs: for a file system whose owners this kernel can't map.
    Common,
}

impl Keeping {
    /// The ID that a file is to have on disk in place of `id`; `None` if `id` is right.
    fn instead_of(self, id: u32) -> Option<u32> {
        let at = id.checked_sub(RESERVED).filter(|at| *at < RESERVED_COUNT);
        match (self, at) {
            (Self::Apart, Some(_)) | (Self::Common, None) => None,
            // An ID that the servers could not see at all becomes root's.
            (Self::Apart, None) if id < RESERVED_COUNT => Some(RESERVED + id),
            (Self::Apart, None) => Some(RESERVED),
            (Self::Common, Some(at)) => Some(at),
        }
    }
}

/// Opens the state directory in the root `home` of a file system, and makes it if it is not there.
///
/// # Errors
/// If something else has that name, such as a symbolic link that a client could have put there, or a directory
/// of another user; or whatever the kernel refuses.
pub(crate) fn open(home: &OwnedFd) -> io::Result<OwnedFd> {
    match mkdirat(home, NAME, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let directory = openat(home, NAME, DIRECTORY, Mode::empty()).map_err(|e| match e {
        Errno::NOTDIR | Errno::LOOP => {
            io::Error::new(io::ErrorKind::NotADirectory, "is not a directory")
        }
        e => e.into(),
    })?;
    let owner = fstat(&directory)?.st_uid;
    if owner != 0 && Keeping::Apart.instead_of(owner).is_some() {
        let text = format!(
            "belongs to user {owner}: it was not made by berth; move it away, or give it to root"
        );
        return Err(io::Error::other(text));
    }
    Ok(directory)
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Sets the owners of the directory and of everything in it, and takes away everybody else's permissions.
///
/// Files are changed by descriptor, and symbolic links are not followed: nothing outside the directory is changed. A
/// hard link elsewhere still leads to its file, and finds it closed.
///
/// A server can make more files than are gone through. That must not keep the other servers from their state: the rest
/// stays as it is, and the returned text says which. What this version's servers make has the right owners anyway.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn give(directory: &OwnedFd, keeping: Keeping) -> io::Result<Option<String>> {
    let mut walk = Walk {
        keeping,
        files: FILES,
        too_deep: false,
    };
    let here = openat(directory, ".", DIRECTORY, Mode::empty())?;
    set(&here, &fstat(&here)?, keeping)?;
    let all = walk.give_below(here, DEPTH)?.is_continue();
    let why = match (all, walk.too_deep) {
        (false, _) => format!("has more than {FILES} files in it"),
        (true, true) => format!("has more than {DEPTH} directories within each other"),
        (true, false) => return Ok(None),
    };
    Ok(Some(format!(
        "{why}: what a berth of before has made among the rest is not kept from clients with root's rights"
    )))
}

/// A walk through the state directory.
struct Walk {
    keeping: Keeping,
    /// How many files are still to be gone through at the most.
    files: usize,
    /// Whether a directory was left out because it is too deep.
    too_deep: bool,
}

impl Walk {
    /// Goes through everything below a directory. Breaks off when there are too many files.
    fn give_below(&mut self, directory: OwnedFd, depth: usize) -> io::Result<ControlFlow<()>> {
        limit_access(&directory)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let Some(left) = self.files.checked_sub(1) else {
                return Ok(ControlFlow::Break(()));
            };
            self.files = left;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match openat(&directory, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let stat = fstat(&file)?;
            set(&file, &stat, self.keeping)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let Some(depth) = depth.checked_sub(1) else {
                self.too_deep = true;
                continue;
            };
            let below = openat(&file, ".", DIRECTORY, Mode::empty())?;
            if self.give_below(below, depth)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn set(file: &OwnedFd, stat: &Stat, keeping: Keeping) -> io::Result<()> {
    let owner = keeping.instead_of(stat.st_uid);
    let group = keeping.instead_of(stat.st_gid);
    if owner.is_some() || group.is_some() {
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(file, "", owner, group, AtFlags::EMPTY_PATH)?;
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Symlink && stat.st_mode & OTHERS != 0 {
        // By way of /proc: older kernels can't change permissions by an O_PATH descriptor.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::set_permissions(path, Permissions::from_mode(stat.st_mode & 0o700))?;
    }
    Ok(())
}

/// Gives a directory the default access list by which new files are their owner's alone. If the file system has no
/// access lists, or no room for one, permissions that a server gives to others are taken away at the next start.
fn limit_access(directory: impl AsFd) -> io::Result<()> {
    let mut now = [0; DEFAULT_ACCESS.len() + 1];
    let found = fgetxattr(&directory, DEFAULT_ACCESS_NAME, &mut now);
    if found.is_ok_and(|length| now.get(..length) == Some(&DEFAULT_ACCESS)) {
        return Ok(());
    }
    match fsetxattr(
        &directory,
        DEFAULT_ACCESS_NAME,
        &DEFAULT_ACCESS,
        XattrFlags::empty(),
    ) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_given_to_reserved_ids_and_back() {
        for id in [0, 101, 65_535] {
            assert_eq!(Keeping::Apart.instead_of(id), Some(RESERVED + id));
            assert_eq!(Keeping::Apart.instead_of(RESERVED + id), None);
            assert_eq!(Keeping::Common.instead_of(RESERVED + id), Some(id));
            assert_eq!(Keeping::Common.instead_of(id), None);
        }
        // Those that have no place among them.
        for id in [
            RESERVED_COUNT,
            RESERVED - 1,
            RESERVED + RESERVED_COUNT,
            u32::MAX - 1,
        ] {
            assert_eq!(Keeping::Apart.instead_of(id), Some(RESERVED));
            assert_eq!(Keeping::Common.instead_of(id), None);
        }
    }
}
