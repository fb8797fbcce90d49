//! Devices that are a part of something: half of a mirror, a DRBD backing disk, a physical volume. Many
//! show the whole's superblock, as their own metadata lies behind it or beside it. Mounted by itself, such
//! a part comes apart from the rest.
//!
//! A file system that fills its device leaves no room for anything behind it. What looks like metadata there is
//! what a client has written into a file, or the rest of an array that is no more. Where a file system is longer
//! than the device, it is one of the whole's, and the device a part.
//!
//! Anybody may have written what is read here: no field is trusted.

use crate::sys::superblock;

/// How much of a device's end [`member`] wants to see: md's superblock of version 0.90 may begin 128 KiB
/// before it.
pub(crate) const TAIL: u64 = 128 << 10;

/// What a device of `size` bytes is a part of, in words; `None` if it is its own. `head` is its beginning,
/// as for [`crate::sys::superblock::parse`], and `tail` its last bytes, [`TAIL`] of them or all.
pub(crate) fn member(head: &[u8], tail: &[u8], size: u64) -> Option<&'static str> {
    let used = superblock::parse(head).map_or(0, |sb| sb.length);
    let used = if used > size { 0 } else { used };
    let device = Ends {
        head,
        tail,
        size,
        used,
    };
    md(device)
        .or_else(|| drbd(device))
        .or_else(|| lvm(device))
        .or_else(|| luks(device))
        .or_else(|| bcache(device))
        .or_else(|| firmware_raid(device))
}

/// The two ends of a device.
#[derive(Clone, Copy)]
struct Ends<'a> {
    head: &'a [u8],
    tail: &'a [u8],
    size: u64,
    /// How far the file system on it goes; 0 if there is none, or one that is not the device's own.
    used: u64,
}

impl Ends<'_> {
    /// The bytes at an offset that one of the ends covers.
    fn bytes<const N: usize>(self, offset: u64) -> Option<[u8; N]> {
        let within = |part: &[u8], begin: u64| {
            let at = usize::try_from(offset.checked_sub(begin)?).ok()?;
            part.get(at..at.checked_add(N)?)?.try_into().ok()
        };
        let tail = self.size.checked_sub(self.tail.len() as u64)?;
        within(self.head, 0).or_else(|| within(self.tail, tail))
    }

    /// An offset near the end, unless the file system has it.
    fn behind(self, offset: Option<u64>) -> Option<u64> {
        offset.filter(|offset| *offset >= self.used)
    }

    fn has(self, offset: u64, magic: &[u8]) -> bool {
        let equal = |(i, byte): (usize, &u8)| {
            let at = offset.checked_add(i as u64);
            at.and_then(|at| self.bytes::<1>(at)) == Some([*byte])
        };
        magic.iter().enumerate().all(equal)
    }
}

/// Linux software RAID: `mdp_superblock_s` (0.90, in the byte order of who made it) and
/// `mdp_superblock_1`, linux/raid/md_p.h; where they lie: md(4), `super_90_load` and `super_1_load` of
/// drivers/md/md.c.
fn md(device: Ends<'_>) -> Option<&'static str> {
    const MAGIC: u32 = 0xa92b_4efc;
    const RESERVED: u64 = 64 << 10;

    let old = || {
        let at = (device.size & !(RESERVED - 1)).checked_sub(RESERVED);
        let at = device.behind(at)?;
        let magic = device.bytes(at)?;
        let order = if u32::from_le_bytes(magic) == MAGIC {
            u32::from_le_bytes
        } else if u32::from_be_bytes(magic) == MAGIC {
            u32::from_be_bytes
        } else {
            return None;
        };
        // Its `size` in KiB: the superblock at the end of the last partition is no whole disk's.
        let data = u64::from(order(device.bytes(at + 8 * 4)?)) << 10;
        let fits = order(device.bytes(at + 4)?) == 0 && data <= at && at - data < RESERVED * 2;
        fits.then_some("a member of an md array (metadata 0.90)")
    };
    let new = |at: Option<u64>, text| {
        let at = at?;
        let major = u32::from_le_bytes(device.bytes(at + 4)?);
        // The superblock says itself at which sector it is.
        let place = u64::from_le_bytes(device.bytes(at + 144)?);
        let is = u32::from_le_bytes(device.bytes(at)?) == MAGIC && major == 1 && place == at / 512;
        is.then_some(text)
    };
    let end = device.behind((device.size & !4095).checked_sub(8192));
    old()
        .or_else(|| new(end, "a member of an md array (metadata 1.0)"))
        .or_else(|| new(Some(0), "a member of an md array (metadata 1.1)"))
        .or_else(|| new(Some(4096), "a member of an md array (metadata 1.2)"))
}

/// DRBD with internal metadata, at the last 4 KiB: `struct meta_data_on_disk_8` and
/// `struct meta_data_on_disk_9` of drbd-headers, drbd_meta_data.h, in which the magic number has one place.
fn drbd(device: Ends<'_>) -> Option<&'static str> {
    const MAGIC: u32 = 0x8374_0267;

    let at = device.behind((device.size & !4095).checked_sub(4096))?;
    let magic = u32::from_be_bytes(device.bytes(at + 60)?);
    // 8: since DRBD 8.0, its unclean form: since 8.4, 9: since 9.0.
    [MAGIC + 4, MAGIC + 5, MAGIC + 6]
        .contains(&magic)
        .then_some("the backing disk of a DRBD device")
}

/// A physical volume of LVM2: `struct label_header` of lib/label/label.h, in one of the first four sectors.
fn lvm(device: Ends<'_>) -> Option<&'static str> {
    let is_label = |sector: u64| {
        let at = sector * 512;
        device.has(at, b"LABELONE")
            && device.has(at + 8, &sector.to_le_bytes())
            && device.has(at + 24, b"LVM2 001")
    };
    (0..4).any(is_label).then_some("a physical volume of LVM")
}

/// LUKS 1 and 2: cryptsetup's on-disk formats, "LUKS magic".
fn luks(device: Ends<'_>) -> Option<&'static str> {
    device
        .has(0, b"LUKS\xba\xbe")
        .then_some("encrypted with LUKS")
}

/// bcache: `struct cache_sb_disk` of drivers/md/bcache/bcache_ondisk.h, at the eighth sector.
fn bcache(device: Ends<'_>) -> Option<&'static str> {
    const MAGIC: [u8; 16] = [
        0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d,
        0x81,
    ];
    (device.has(4096 + 24, &MAGIC) && device.has(4096 + 8, &8u64.to_le_bytes()))
        .then_some("part of a bcache device")
}

/// RAID of a host adapter that Linux assembles by md: Intel's (`struct imsm_super` of mdadm, super-intel.c)
/// in the last sector but one, and SNIA's DDF (Common RAID Disk Data Format, "DDF header") in the last one.
fn firmware_raid(device: Ends<'_>) -> Option<&'static str> {
    let sector_from_end = |n: u64| {
        let sector = (device.size / 512).checked_sub(n)?;
        device.behind(Some(sector * 512))
    };
    let imsm = sector_from_end(2).is_some_and(|at| device.has(at, b"Intel Raid ISM Cfg Sig. "));
    let ddf = sector_from_end(1)
        .and_then(|at| device.bytes(at))
        .is_some_and(|b| [u32::from_be_bytes(b), u32::from_le_bytes(b)].contains(&0xde11_de11));
    (imsm || ddf).then_some("a member of a host adapter's RAID")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: usize = 68 << 10;

    /// A device with these bytes at these offsets.
    fn look(size: u64, bytes: &[(u64, &[u8])]) -> Option<&'static str> {
        let mut image = vec![0u8; usize::try_from(size).unwrap()];
        for (at, bytes) in bytes {
            image[usize::try_from(*at).unwrap()..][..bytes.len()].copy_from_slice(bytes);
        }
        let head = &image[..image.len().min(HEAD)];
        let tail = &image[image.len().saturating_sub(TAIL as usize)..];
        member(head, tail, size)
    }

    const MD: [u8; 4] = 0xa92b_4efcu32.to_le_bytes();
    /// Not a multiple of 64 KiB.
    const SIZE: u64 = (1 << 20) + 12_288;

    #[test]
    fn md_is_known_by_each_of_its_versions() {
        let at = 15 << 16;
        let kib = |n: u32| n.to_le_bytes();
        let old = look(SIZE, &[(at, &MD), (at + 32, &kib((at >> 10) as u32))]);
        assert!(old.unwrap().contains("0.90"));
        let big = 0xa92b_4efcu32.to_be_bytes();
        let size = ((at >> 10) as u32).to_be_bytes();
        let swapped = look(SIZE, &[(at, &big), (at + 32, &size)]);
        assert!(swapped.unwrap().contains("0.90"));
        // That of the last partition.
        assert_eq!(look(SIZE, &[(at, &MD), (at + 32, &kib(64))]), None);
        for (at, version) in [((1 << 20) + 4096, "1.0"), (0, "1.1"), (4096, "1.2")] {
            let place = (at / 512u64).to_le_bytes();
            let parts: [(u64, &[u8]); 3] = [(at, &MD), (at + 4, &[1]), (at + 144, &place)];
            assert!(look(SIZE, &parts).unwrap().contains(version), "{version}");
            assert_eq!(look(SIZE, &parts[..2]).is_some(), at == 0, "{version}");
        }
    }

    #[test]
    fn the_others_are_known_by_their_magic_numbers() {
        let end = 1 << 20;
        for version in [4u32, 5, 6] {
            let magic = (0x8374_0267 + version).to_be_bytes();
            assert!(
                look(end, &[(end - 4096 + 60, &magic)])
                    .unwrap()
                    .contains("DRBD")
            );
        }
        for sector in 0..4u64 {
            let at = sector * 512;
            let own = sector.to_le_bytes();
            let label: [(u64, &[u8]); 3] =
                [(at, b"LABELONE"), (at + 8, &own), (at + 24, b"LVM2 001")];
            assert!(look(end, &label).unwrap().contains("LVM"));
        }
        assert!(
            look(end, &[(0, b"LUKS\xba\xbe\0\x02")])
                .unwrap()
                .contains("LUKS")
        );
        let magic: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
        assert!(
            look(end, &[(4096 + 8, &[8]), (4096 + 24, magic)])
                .unwrap()
                .contains("bcache")
        );
        let intel: &[u8] = b"Intel Raid ISM Cfg Sig. 1.1.00";
        assert!(look(end, &[(end - 1024, intel)]).unwrap().contains("RAID"));
        assert!(
            look(end, &[(end - 512, b"\xde\x11\xde\x11")])
                .unwrap()
                .contains("RAID")
        );
    }

    /// A superblock of each kind, of a file system of `length` bytes.
    fn superblocks(length: u64) -> [Vec<(u64, Vec<u8>)>; 3] {
        let blocks = length / 4096;
        [
            vec![
                (1024 + 0x38, vec![0x53, 0xef]),
                (1024 + 0x18, vec![2]),
                (1024 + 4, (blocks as u32).to_le_bytes().to_vec()),
            ],
            vec![
                (0, b"XFSB".to_vec()),
                (4, 4096u32.to_be_bytes().to_vec()),
                (8, blocks.to_be_bytes().to_vec()),
            ],
            vec![
                ((64 << 10) + 0x40, b"_BHRfS_M".to_vec()),
                ((64 << 10) + 0x70, (blocks * 4096).to_le_bytes().to_vec()),
            ],
        ]
    }

    #[test]
    fn nothing_that_lies_in_a_file_system_is_metadata_of_something_else() {
        let size: u64 = 1 << 20;
        let place = ((size - 8192) / 512).to_le_bytes();
        let kib = (((15 << 16) >> 10) as u32).to_le_bytes();
        let drbd = 0x8374_026du32.to_be_bytes();
        type Bytes<'a> = (u64, &'a [u8]);
        let metadata: [Vec<Bytes<'_>>; 5] = [
            vec![(15 << 16, &MD), ((15 << 16) + 32, &kib)],
            vec![
                (size - 8192, &MD),
                (size - 8192 + 4, &[1]),
                (size - 8192 + 144, &place),
            ],
            vec![(size - 4096 + 60, &drbd)],
            vec![(size - 1024, b"Intel Raid ISM Cfg Sig. 1.1.00")],
            vec![(size - 512, b"\xde\x11\xde\x11")],
        ];
        for found in &metadata {
            // The whole device, as much as the metadata leaves, and more than there is.
            let begin = found[0].0 & !4095;
            for (length, is_part) in [(size, false), (begin, true), (4 * size, true)] {
                for superblock in superblocks(length) {
                    let own = superblock.iter().map(|(at, bytes)| (*at, &bytes[..]));
                    let all: Vec<Bytes<'_>> = own.chain(found.iter().copied()).collect();
                    let seen = look(size, &all);
                    assert_eq!(seen.is_some(), is_part, "{length}: {all:?}: {seen:?}");
                }
            }
        }
    }

    #[test]
    fn no_size_and_no_bytes_make_a_member_or_a_panic() {
        for size in [0, 1, 511, 512, 4096, 8191, 65_536, 131_072, 1 << 20] {
            assert_eq!(look(size, &[]), None, "{size}");
            assert_eq!(member(&[], &[], size), None, "{size}");
        }
        assert_eq!(member(&[0xff; 16], &[0xff; 16], u64::MAX), None);
        assert_eq!(member(&[], &[0; 4096], 7), None);
    }
}
