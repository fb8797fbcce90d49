//! Whether a file system may be mounted beside another one with the same UUID. Pure.
//!
//! Of one disk that is seen by two paths the two mounts destroy each other: never. A copy (a clone, a snapshot)
//! is another matter, and last night's snapshot, mounted for the backup, must not keep a server down:
//!
//! - ext4 does not care;
//! - XFS refuses a second one of the same UUID unless one of the two is mounted with `nouuid`;
//! - btrfs puts the devices of a file system together by its UUID, and takes a copy for one of them;
//! - a server that has both in one cell takes them for one: NFS handles are made of the UUID.

use super::repair::FsKind;

/// How the other file system stands beside the one that is to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// The kernel knows that it is other storage: a copy, not another path.
    pub distinct: bool,
    /// It is in the same cell.
    pub(crate) same_cell: bool,
    /// It is mounted with `nouuid`.
    pub(crate) no_uuid: bool,
}

/// Whether both may be mounted. `no_uuid`: the one that is to be mounted gets that option.
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
