use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::cell::repair::{Patient, Repair};
use berth::plan::repair::{Decision, FsKind, Policy, Stage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::loop_device::{Image, must};

/// Drives a repair to its end, as the keeper's poll loop does.
fn drive(mut repair: Repair) -> (Decision, String) {
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(
            Instant::now() < limit,
            "{} for two minutes",
            repair.describe()
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
    let patient = Patient {
        kind,
        policy,
        device: device.to_owned(),
        records: image.beside("records"),
    };
    drive(Repair::start(patient, Stage::Preserve).unwrap())
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
    let size: u64 = table
        .lines()
        .find_map(|l| l.strip_prefix("Block size:"))
        .and_then(|l| l.trim().parse().ok())
        .unwrap();
    overwrite(device.path(), block * size, 8192);
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Preen);
    assert!(
        matches!(&decision, Decision::Block(w) if w.contains("full")),
        "{decision:?}\n{log}"
    );
    let (decision, log) = repair(&image, device.path(), FsKind::Ext4, Policy::Full);
    assert_eq!(decision, Decision::Attach, "{log}");
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
fn a_repair_that_is_dropped_leaves_the_device() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let patient = Patient {
        kind: FsKind::Ext4,
        policy: Policy::Full,
        device: device.path().to_owned(),
        records: image.beside("records"),
    };
    drop(Repair::start(patient, Stage::Preserve).unwrap());
    berth::sys::device::DeviceSpec::Path(device.path().into())
        .resolve(crate::loop_device::soon())
        .unwrap()
        .wait_free(crate::loop_device::soon(), &|_| None)
        .unwrap();
}
