//! Superblocks of ext4, XFS and btrfs: the meaning of the bytes. [`super::device`] reads them.
//!
//! Another node, or anybody, may have written what is read here: no field is trusted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::repair::{Condition, FsKind};

/// How much of a device's beginning [`parse`] wants to see: the btrfs superblock, the last of the
/// three, ends there.
pub(crate) const HEAD: usize = BTRFS_OFFSET + BTRFS_SIZE;

const EXT4_OFFSET: usize = 1024;
const EXT4_SIZE: usize = 1024;
const BTRFS_OFFSET: usize = 64 << 10;
const BTRFS_SIZE: usize = 4096;

/// A file system's identity, shown as blkid shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("\"{s}\" is no UUID: 8-4-4-4-12 hexadecimal digits");
        let shape = s.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
        if s.len() != 36 || !shape {
            return Err(wrong());
        }
        let digits: String = s.chars().filter(|c| *c != '-').collect();
        let number = u128::from_str_radix(&digits, 16).map_err(|_| wrong())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl TryFrom<String> for Uuid {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.to_string()
    }
}

/// The content of a superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The file system's UUID.
    pub uuid: Uuid,
    /// Its label, empty if it has none.
    pub(crate) label: String,
    /// Its kind and health.
    pub condition: Condition,
    /// The place of its multiple-mount protection block, if it has one (ext4).
    pub mmp: Option<MmpPlace>,
    /// The parts of it that are on other devices than this one.
    pub(crate) beyond: Option<Beyond>,
    /// Its end, counted from the device's beginning, in bytes.
    pub length: u64,
}

/// What keeps a file system from being one on one device. Only one device is claimed, moved and proven to
/// be free, so berth serves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// An ext4 whose journal is on a device of its own.
    Journal,
    /// An XFS whose log is on a device of its own.
    Log,
    /// An XFS with a realtime section, which is on a device of its own.
    Realtime,
    /// A btrfs on this many devices.
    Devices(u64),
    /// A btrfs that others are built on.
    Seed,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal => {
                f.write_str("has its journal on another device: berth serves ext4 on one")
            }
            Self::Log => f.write_str("has its log on another device: berth serves XFS on one"),
            Self::Realtime => {
                f.write_str("has a realtime section on another device: berth serves XFS on one")
            }
            Self::Devices(number) => {
                write!(f, "has {number} devices: berth serves btrfs on one")
            }
            Self::Seed => {
                f.write_str("is a seed of other file systems: berth serves btrfs on one device")
            }
        }
    }
}

/// Where an ext4's multiple-mount protection (MMP) block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmpPlace {
    /// Byte offset on the device.
    pub offset: u64,
    /// Seconds between two updates by who has it mounted.
    pub(crate) interval: u16,
}

/// Finds the superblock in a device's first [`HEAD`] bytes (fewer if it is shorter). `None` if it has
/// none of a kind that berth serves.
pub(crate) fn parse(head: &[u8]) -> Option<Superblock> {
    ext4(head).or_else(|| xfs(head)).or_else(|| btrfs(head))
}

/// Bounds-checked reading of a superblock's fields.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn at(data: &'a [u8], offset: usize, len: usize) -> Option<Self> {
        data.get(offset..offset.checked_add(len)?).map(Self)
    }

    fn bytes<const N: usize>(self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn le16(self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_le_bytes)
    }

    fn le32(self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    fn le64(self, offset: usize) -> Option<u64> {
        self.bytes(offset).map(u64::from_le_bytes)
    }

    fn be64(self, offset: usize) -> Option<u64> {
        self.bytes(offset).map(u64::from_be_bytes)
    }

    fn be16(self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_be_bytes)
    }

    fn be32(self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_be_bytes)
    }

    /// Text up to the first NUL, without control characters: it ends in messages.
    fn text(self, offset: usize, len: usize) -> Option<String> {
        let raw = self.0.get(offset..offset.checked_add(len)?)?;
        let raw = raw.split(|b| *b == 0).next()?;
        let text = String::from_utf8_lossy(raw);
        Some(text.chars().filter(|c| !c.is_control()).collect())
    }
}

/// Offsets: `struct ext4_super_block`, fs/ext4/ext4.h.
fn ext4(head: &[u8]) -> Option<Superblock> {
    const MAGIC: u16 = 0xef53;
    const STATE_VALID: u16 = 1;
    const STATE_ERRORS: u16 = 2;
    const COMPAT_HAS_JOURNAL: u32 = 0x4;
    const INCOMPAT_RECOVER: u32 = 0x4;
    const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
    const INCOMPAT_64BIT: u32 = 0x80;
    const INCOMPAT_MMP: u32 = 0x100;

    let sb = Fields::at(head, EXT4_OFFSET, EXT4_SIZE)?;
    let incompat = sb.le32(0x60)?;
    // A journal device has the same magic number, but holds no files.
    if sb.le16(0x38)? != MAGIC || incompat & INCOMPAT_JOURNAL_DEV != 0 {
        return None;
    }
    let state = sb.le16(0x3a)?;
    let journal_device = sb.le32(0xe4)?;
    // `s_mount_opts`: what the kernel takes for options before it looks at those of the mount.
    let own_options = sb.text(0x200, 64)?;
    let mut own_options = own_options.split(',').filter_map(|o| o.split('=').next());
    let names_journal = own_options.any(|key| matches!(key, "journal_dev" | "journal_path"));
    let journal = sb.le32(0x5c)? & COMPAT_HAS_JOURNAL != 0;
    let mmp = if incompat & INCOMPAT_MMP == 0 {
        None
    } else {
        let block_size = 1024u64.checked_shl(sb.le32(0x18)?)?;
        Some(MmpPlace {
            offset: sb.le64(0x168)?.checked_mul(block_size)?,
            interval: sb.le16(0x166)?,
        })
    };
    Some(Superblock {
        uuid: Uuid(sb.bytes(0x68)?),
        label: sb.text(0x78, 16)?,
        condition: Condition {
            kind: FsKind::Ext4,
            replay: Some(incompat & INCOMPAT_RECOVER != 0),
            // With a journal the kernel never takes the "valid" bit away by itself.
            damaged: state & STATE_ERRORS != 0 || state & STATE_VALID == 0 && !journal,
        },
        mmp,
        beyond: (journal && journal_device != 0 || names_journal).then_some(Beyond::Journal),
        length: {
            let high = match incompat & INCOMPAT_64BIT {
                0 => 0,
                _ => u64::from(sb.le32(0x150)?) << 32,
            };
            let block_size = 1024u64.checked_shl(sb.le32(0x18)?).unwrap_or(u64::MAX);
            (high | u64::from(sb.le32(0x4)?)).saturating_mul(block_size)
        },
    })
}

/// Offsets: `struct xfs_dsb`, fs/xfs/libxfs/xfs_format.h.
fn xfs(head: &[u8]) -> Option<Superblock> {
    const VERSION_5: u16 = 5;
    const INCOMPAT_NEEDSREPAIR: u32 = 1 << 4;
    const INCOMPAT_ZONED: u32 = 1 << 9;

    let sb = Fields::at(head, 0, 512)?;
    if &sb.bytes::<4>(0)? != b"XFSB" {
        return None;
    }
    let version = sb.be16(100)? & 0xf;
    let incompat = match version {
        VERSION_5 => sb.be32(216)?,
        _ => 0,
    };
    let (realtime_blocks, log_start) = (sb.be64(16)?, sb.be64(48)?);
    // A zoned file system has its realtime section behind the rest of it if it begins somewhere.
    let inside = incompat & INCOMPAT_ZONED != 0 && sb.be64(288)? != 0;
    Some(Superblock {
        uuid: Uuid(sb.bytes(32)?),
        label: sb.text(108, 12)?,
        condition: Condition {
            kind: FsKind::Xfs,
            replay: None,
            damaged: incompat & INCOMPAT_NEEDSREPAIR != 0,
        },
        mmp: None,
        beyond: match (log_start, realtime_blocks) {
            (0, _) => Some(Beyond::Log),
            (_, 0) => None,
            _ => (!inside).then_some(Beyond::Realtime),
        },
        length: sb.be64(8)?.saturating_mul(sb.be32(4)?.into()),
    })
}

/// Offsets: `struct btrfs_super_block`, include/uapi/linux/btrfs_tree.h.
fn btrfs(head: &[u8]) -> Option<Superblock> {
    const FLAG_ERROR: u64 = 1 << 2;
    const FLAG_SEEDING: u64 = 1 << 32;

    let sb = Fields::at(head, BTRFS_OFFSET, BTRFS_SIZE)?;
    if &sb.bytes::<8>(0x40)? != b"_BHRfS_M" {
        return None;
    }
    let (flags, devices) = (sb.le64(0x38)?, sb.le64(0x88)?);
    Some(Superblock {
        uuid: Uuid(sb.bytes(0x20)?),
        label: sb.text(0x12b, 256)?,
        condition: Condition {
            kind: FsKind::Btrfs,
            replay: Some(sb.le64(0x60)? != 0),
            damaged: flags & FLAG_ERROR != 0,
        },
        mmp: None,
        beyond: match devices {
            0 | 1 => (flags & FLAG_SEEDING != 0).then_some(Beyond::Seed),
            several => Some(Beyond::Devices(several)),
        },
        length: sb.le64(0x70)?,
    })
}

/// The state in an MMP block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mmp {
    /// Who has the file system.
    pub(crate) state: MmpState,
    /// The whole block: it changes as long as who has the file system is alive.
    image: Vec<u8>,
    interval: u16,
}

/// Who an MMP block says has the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MmpState {
    /// Nobody.
    Clean,
    /// A running e2fsck, or one that was cut off: `node`, as it called itself.
    Fsck(String),
    /// A mount, alive or cut off, on `node`.
    Mounted(String),
}

/// The part of an MMP block that is used.
pub(crate) const MMP_SIZE: usize = 1024;

impl Mmp {
    /// Reads the [`MMP_SIZE`] bytes at `place`. `None` if they are no MMP block.
    ///
    /// Offsets: `struct mmp_struct`, fs/ext4/ext4.h.
    pub(crate) fn parse(image: Vec<u8>, place: MmpPlace) -> Option<Self> {
        const MAGIC: u32 = 0x004d_4d50;
        const SEQ_CLEAN: u32 = 0xff4d_4d50;
        const SEQ_FSCK: u32 = 0xe24d_4d50;

        let fields = Fields(&image);
        if fields.le32(0)? != MAGIC {
            return None;
        }
        let node = fields.text(16, 64)?;
        let state = match fields.le32(4)? {
            SEQ_CLEAN => MmpState::Clean,
            SEQ_FSCK => MmpState::Fsck(node),
            _ => MmpState::Mounted(node),
        };
        let interval = fields.le16(112)?.max(place.interval);
        Some(Self {
            state,
            image,
            interval,
        })
    }

    /// How long the block must have stayed the same before the mount that wrote it may be held dead: the
    /// kernel's own rule (`ext4_multi_mount_protect`). It proves nothing of a check.
    pub(crate) fn watch(&self) -> Duration {
        // `EXT4_MMP_MIN_CHECK_INTERVAL`.
        const LEAST: u64 = 5;
        self.watch_at(LEAST)
    }

    /// How long the block must be watched to see a check at work that writes it anew whenever it may.
    pub(crate) fn watch_check(&self) -> Duration {
        // `EXT2_MIN_MMP_UPDATE_INTERVAL` of libext2fs.
        const LEAST: u64 = 60;
        self.watch_at(LEAST)
    }

    fn watch_at(&self, least: u64) -> Duration {
        // `EXT4_MMP_MAX_CHECK_INTERVAL`: tune2fs sets no longer one.
        const MOST: u64 = 300;
        let interval = u64::from(self.interval).clamp(least, MOST);
        Duration::from_secs((2 * interval + 1).min(interval + 60))
    }

    /// Whether `later`, read after this one, shows that somebody is alive.
    pub(crate) fn is_alive(&self, later: &Self) -> bool {
        later.state != MmpState::Clean && later.image != self.image
    }
}

#[cfg(test)]
mod tests;
