//! Where the programs are that berth runs.
//!
//! Distributions differ: `btrfs` is in /usr/bin on Debian and in /usr/sbin on SUSE, `ganesha.nfsd` in
//! /usr/bin nearly everywhere, and since Fedora 42 /usr/sbin is a link to /usr/bin. So a program is
//! named, and looked for in the directories where packages put programs. `$PATH` is not asked: an
//! environment must not decide what runs with root's rights.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command;

/// Where programs are looked for, in this order. The last two are the same as the first on systems with
/// a merged /usr.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What to install for a program, under the name that the project has itself; the names of packages
/// differ.
const ORIGIN: [(&[&str], &str); 7] = [
    (&["ganesha.nfsd"], "NFS-Ganesha with its FSAL VFS"),
    (&["smbd", "smbcontrol"], "Samba"),
    (&["e2fsck"], "e2fsprogs"),
    (&["xfs_db", "xfs_repair"], "xfsprogs"),
    (&["btrfs", "btrfs-image"], "btrfs-progs"),
    (&["nft"], "nftables with its command nft"),
    (
        &[
            "attrd_updater",
            "cibadmin",
            "crm_diff",
            "crm_mon",
            "crm_node",
            "crm_resource",
            "crm_simulate",
            "crm_verify",
            "stonith_admin",
        ],
        "Pacemaker's command-line tools",
    ),
];

/// The absolute path of the program called `name`.
///
/// # Errors
/// `NotFound` if it is not installed, with what to install; `InvalidInput` if `name` is not merely a
/// name.
pub(crate) fn find(name: &str) -> io::Result<PathBuf> {
    if name.is_empty() || name.contains('/') {
        let text = format!("{name:?} is not the name of a program");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| is_executable(path))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing(name)))
}

/// A [`command::command`] of the program called `name`.
///
/// # Errors
/// As [`find`].
pub fn command(name: &str) -> io::Result<Command> {
    find(name).map(command::command)
}

fn is_executable(path: &Path) -> bool {
    // Through links: that is how alternatives and merged directories are made.
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn missing(name: &str) -> String {
    let origin = ORIGIN.iter().find(|(names, _)| names.contains(&name));
    let origin = origin.map_or(String::new(), |(_, origin)| format!(": install {origin}"));
    format!(
        "program {name} is in none of {}{origin}",
        DIRECTORIES.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name_alone() {
        let path = find("sh").unwrap();
        assert!(path.is_absolute() && path.ends_with("sh"), "{path:?}");
        for wrong in ["", "/bin/sh", "../bin/sh"] {
            let error = find(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_install() {
        let error = find("berth-no-such").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            "program berth-no-such is in none of /usr/sbin, /usr/bin, /sbin, /bin"
        );
        assert!(missing("btrfs").ends_with("/bin: install btrfs-progs"));
    }

    #[test]
    fn what_is_not_executable_is_no_program() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!is_executable(&file) && !is_executable(directory.path()));
    }
}
