//! Whether a file system may be mounted beside another one with the same UUID. Pure.
//!
//! Two mounts of one disk, seen by two paths, would destroy the file system: that is never allowed. A copy (a clone, a
//! snapshot) is another matter: last night's snapshot, mounted for the backup, must not keep a server down.
//!
//! - ext4 allows any number of copies.
//! - XFS refuses a second file system of the same UUID unless one of the two is mounted with `nouuid`.
//! - btrfs assembles the devices of a file system by its UUID, and takes a copy for one of them.
//! - A server with both in one cell can't tell them apart: NFS handles are made from the UUID.

use super::repair::FsKind;

/// The other file system, in relation to the one that is to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Whether the kernel shows that it is on other storage: a copy, not another path.
    pub distinct: bool,
    /// Whether it is mounted in the same cell.
    pub(crate) same_cell: bool,
    /// Whether it is mounted with `nouuid`.
    pub(crate) no_uuid: bool,
}

/// Whether both may be mounted at once. `no_uuid`: the new mount has that option.
pub(crate) fn may_be_beside(kind: FsKind, no_uuid: bool, other: Beside) -> bool {
    let kernel = match kind {
        FsKind::Ext4 => true,
        FsKind::Xfs => no_uuid || other.no_uuid,
        FsKind::Btrfs => false,
    };
    other.distinct && !other.same_cell && kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_in_another_place_that_the_kernel_bears_is_borne() {
        let copy = Beside {
            distinct: true,
            same_cell: false,
            no_uuid: false,
        };
        let set_aside = Beside {
            no_uuid: true,
            ..copy
        };
        for (kind, plain, one, other) in [
            (FsKind::Ext4, true, true, true),
            (FsKind::Xfs, false, true, true),
            (FsKind::Btrfs, false, false, false),
        ] {
            assert_eq!(may_be_beside(kind, false, copy), plain, "{kind}");
            assert_eq!(may_be_beside(kind, true, copy), one, "{kind}");
            assert_eq!(may_be_beside(kind, false, set_aside), other, "{kind}");
            for wrong in [
                Beside {
                    distinct: false,
                    ..set_aside
                },
                Beside {
                    same_cell: true,
                    ..set_aside
                },
            ] {
                assert!(!may_be_beside(kind, true, wrong), "{kind} {wrong:?}");
            }
        }
    }
}
