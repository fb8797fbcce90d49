use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use berth::cell::keeper::repair::{Repair, RepairTarget};
use berth::plan::repair::{Decision, FsKind, Policy, Proof, Stage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::image::{Image, must};

/// Drives a repair to its end, as the keeper's poll loop does.
fn drive(mut repair: Repair) -> (Decision, String) {
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(
            Instant::now() < limit,
            "{} for two minutes",
            repair.progress().what
        );
        let mut fds: Vec<_> = repair
            .fds()
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::from(1000u16)).unwrap();
        drop(fds);
        if let Some(decision) = repair.advance(Instant::now()).unwrap() {
            let log = fs::read_to_string(repair.record().join("log")).unwrap();
            return (decision, log);
        }
    }
}

fn repair(image: &Image, device: &Path, kind: FsKind, policy: Policy) -> (Decision, String) {
    let target = RepairTarget {
        group: None,
        kind,
        policy,
        proof: Proof::Found,
        device: device.to_owned(),
        mmp: false,
        records: image.beside("records"),
    };
    drive(Repair::start(target, Stage::Preserve).unwrap())
}

fn overwrite(device: &Path, offset: u64, len: usize) {
    let file = fs::OpenOptions::new().write(true).open(device).unwrap();
    file.write_all_at(&vec![0xff; len], offset).unwrap();
    file.sync_all().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_wrong_free_count_of_ext4_is_mended_by_preen_and_can_be_taken_back() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let path = device.path().to_str().unwrap();
    must(
        "/usr/sbin/debugfs",
        &["-w", "-R", "set_super_value free_inodes_count 5", path],
    );
    must(
        "/usr/sbin/debugfs",
        &["-w", "-R", "set_super_value state 2", path],
    );
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Preen);
    assert_eq!(decision, Decision::Attach, "{log}");
    let record = fs::read_dir(image.beside("records"))
        .unwrap()
        .next()
        .unwrap();
    let undo = record.unwrap().path().join("preen.e2undo");
    must("/usr/sbin/e2undo", &[undo.to_str().unwrap(), path]);
}

/// From what dumpe2fs says.
fn block_size(text: &str) -> u64 {
    text.lines()
        .find_map(|l| l.strip_prefix("Block size:"))
        .and_then(|l| l.trim().parse().ok())
        .unwrap()
}

#[test]
#[ignore = "needs root"]
fn lost_inode_tables_of_ext4_need_a_full_repair() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let path = device.path().to_str().unwrap();
    let table = must("/usr/sbin/dumpe2fs", &[path]).text();
    let block: u64 = table
        .lines()
        .find_map(|l| l.trim().strip_prefix("Inode table at "))
        .and_then(|l| l.split('-').next()?.parse().ok())
        .unwrap();
    let size = block_size(&table);
    overwrite(device.path(), block * size, 8192);
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Preen);
    assert!(
        matches!(&decision, Decision::Block(w) if w.contains("full")),
        "{decision:?}\n{log}"
    );
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Full);
    assert_eq!(decision, Decision::Attach, "{log}");
}

/// A place of this size for records, in bytes.
struct Place(tempfile::TempDir);

impl Place {
    fn new(size: u64) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let path = place.0.path().to_str().unwrap();
        let option = format!("size={size}");
        must(
            "/usr/bin/mount",
            &["-t", "tmpfs", "-o", &option, "berth", path],
        );
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        must("/usr/bin/umount", &[self.0.path().to_str().unwrap()]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_repair_that_overwrites_more_than_there_is_room_for_goes_on_without_keeping_it() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let path = device.path().to_str().unwrap();
    // Inode tables of 80 MiB, all of them lost.
    must(
        "/usr/sbin/mkfs.ext4",
        &[
            "-q",
            "-F",
            "-i",
            "1024",
            "-O",
            "^metadata_csum,^uninit_bg",
            path,
        ],
    );
    let groups = must("/usr/sbin/dumpe2fs", &[path]).text();
    for table in groups
        .lines()
        .filter_map(|l| l.trim().strip_prefix("Inode table at "))
    {
        let ends = table.split(' ').next().unwrap().split_once('-').unwrap();
        let (first, last): (u64, u64) = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
        let size = block_size(&groups);
        overwrite(
            device.path(),
            first * size,
            ((last - first) * size) as usize,
        );
    }
    let place = Place::new(150 << 20);
    let records = place.0.path().join("records");
    let target = RepairTarget {
        group: None,
        kind: FsKind::Ext4,
        policy: Policy::Full,
        proof: Proof::Found,
        device: device.path().to_owned(),
        mmp: false,
        records: records.clone(),
    };
    let (decision, log) = drive(Repair::start(target, Stage::Full).unwrap());
    assert_eq!(decision, Decision::Attach, "{log}");
    assert!(log.contains("can't be taken back"), "{log}");
    let record = fs::read_dir(&records).unwrap().next().unwrap().unwrap();
    let kept: Vec<_> = fs::read_dir(record.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["log"]);
}

#[test]
#[ignore = "needs root"]
fn a_damaged_xfs_is_mended_after_an_image_of_it_was_kept() {
    let image = Image::new(FsKind::Xfs);
    let device = image.attach();
    // Part of the second allocation group's inode header: its third sector of 512 bytes.
    let blocks: u64 = field(device.path(), "agblocks");
    let size: u64 = field(device.path(), "blocksize");
    overwrite(device.path(), blocks * size + 1024 + 64, 64);
    let (decision, log) = repair(&image, device.path(), FsKind::Xfs, Policy::Preen);
    assert_eq!(decision, Decision::Attach, "{log}");
    let record = fs::read_dir(image.beside("records"))
        .unwrap()
        .next()
        .unwrap();
    let kept = record.unwrap().path().join("metadata.image");
    assert!(fs::metadata(kept).is_ok_and(|m| m.len() > 0), "{log}");
}

fn field(device: &Path, name: &str) -> u64 {
    let path = device.to_str().unwrap();
    let print = format!("p {name}");
    let out = must(
        "/usr/sbin/xfs_db",
        &["-r", "-c", "sb 0", "-c", &print, path],
    );
    out.text()
        .split('=')
        .nth(1)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_sound_btrfs_is_attached_after_its_check_and_a_broken_one_is_not() {
    let image = Image::new(FsKind::Btrfs);
    let device = image.attach();
    let (decision, log) = repair(&image, device.path(), FsKind::Btrfs, Policy::Preen);
    assert_eq!(decision, Decision::Attach, "{log}");
    // All of the metadata, superblocks at 64 KiB and 64 MiB excepted.
    overwrite(device.path(), 1 << 20, 60 << 20);
    let (decision, log) = repair(&image, device.path(), FsKind::Btrfs, Policy::Preen);
    assert!(
        matches!(decision, Decision::Block(_)),
        "{decision:?}\n{log}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_device_in_somebody_s_hands_is_not_repaired_by_force() {
    for kind in FsKind::ALL {
        let image = Image::new(kind);
        let device = image.attach();
        let hand = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(device.path())
            .unwrap();
        let (decision, log) = repair(&image, device.path(), kind, Policy::Full);
        assert!(
            matches!(&decision, Decision::Wait(why) if why.contains(device.path().to_str().unwrap())),
            "{kind}: {decision:?}\n{log}"
        );
        for drastic in [" -y ", " -L ", "--repair", "zero-log"] {
            assert!(!log.contains(drastic), "{kind}: {log}");
        }
        drop(hand);
        let (decision, log) = repair(&image, device.path(), kind, Policy::Full);
        assert_eq!(decision, Decision::Attach, "{kind}: {log}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_superblock_of_ext4_that_makes_no_sense_is_mended_by_a_full_repair_alone() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let path = device.path().to_str().unwrap();
    // There is a copy of it in the second group of blocks, which has to begin on the device.
    must("/usr/sbin/mkfs.ext4", &["-q", "-F", "-b", "1024", path]);
    // Its label, which its checksum covers.
    overwrite(device.path(), 1024 + 0x78, 8);
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Preen);
    assert!(
        matches!(&decision, Decision::Block(why) if why.contains("full")),
        "{decision:?}\n{log}"
    );
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Full);
    assert_eq!(decision, Decision::Attach, "{log}");
}

#[test]
#[ignore = "needs root"]
fn a_check_that_was_cut_off_is_noted_before_its_mark_is_cleared() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let path = device.path().to_str().unwrap();
    let features = "mmp,^metadata_csum";
    must("/usr/sbin/mkfs.ext4", &["-q", "-F", "-O", features, path]);
    let spec = berth::sys::device::DeviceSpec::Path(device.path().into());
    let superblock = || {
        let found = spec.resolve(crate::image::soon()).unwrap();
        found.superblock.unwrap()
    };
    // The mark, as `struct mmp_struct` of fs/ext4/ext4.h has it.
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let mark = superblock().mmp.unwrap().offset + 4;
    file.write_all_at(&0xe24d_4d50_u32.to_le_bytes(), mark)
        .unwrap();
    file.sync_all().unwrap();
    let target = RepairTarget {
        group: None,
        kind: FsKind::Ext4,
        policy: Policy::Preen,
        proof: Proof::CutOff,
        device: device.path().to_owned(),
        mmp: true,
        records: image.beside("records"),
    };
    let hand = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(device.path())
        .unwrap();
    let (decision, log) = drive(Repair::start(target.clone(), Stage::Note).unwrap());
    assert!(matches!(decision, Decision::Wait(_)), "{decision:?}\n{log}");
    drop(hand);
    assert!(superblock().condition.damaged, "{log}");
    let (decision, log) = drive(Repair::start(target, Stage::Preen).unwrap());
    assert_eq!(decision, Decision::Attach, "{log}");
    assert!(!superblock().condition.damaged, "{log}");
}

#[test]
#[ignore = "needs root"]
fn a_repair_that_is_dropped_leaves_the_device() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let target = RepairTarget {
        group: None,
        kind: FsKind::Ext4,
        policy: Policy::Full,
        proof: Proof::Noted,
        device: device.path().to_owned(),
        mmp: false,
        records: image.beside("records"),
    };
    drop(Repair::start(target, Stage::Preserve).unwrap());
    berth::sys::device::DeviceSpec::Path(device.path().into())
        .resolve(crate::image::soon())
        .unwrap()
        .wait_free(crate::image::soon(), &|_| None)
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn no_program_of_any_stage_misses_what_it_is_not_given() {
    for kind in FsKind::ALL {
        // The others are for multiple-mount protection: see above.
        for stage in [Stage::Preserve, Stage::Preen, Stage::Full, Stage::DropLog] {
            let image = Image::new(kind);
            let device = image.attach();
            let target = RepairTarget {
                group: None,
                kind,
                policy: Policy::Full,
                proof: Proof::Log,
                device: device.path().to_owned(),
                mmp: false,
                records: image.beside("records"),
            };
            let (decision, log) = drive(Repair::start(target, stage).unwrap());
            assert_eq!(decision, Decision::Attach, "{kind} {stage:?}: {log}");
            let lower = log.to_lowercase();
            for complaint in [
                "permi",
                "denied",
                "flush",
                "cannot",
                "can't",
                "no such",
                "warning: could",
            ] {
                assert!(!lower.contains(complaint), "{kind} {stage:?}: {log}");
            }
        }
    }
}
