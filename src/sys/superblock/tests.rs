use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::sys::command::{command, run};

/// The head of a new file system made by `mkfs` in a sparse file.
fn made_by(mkfs: &[&str], size: u64) -> (tempfile::NamedTempFile, Superblock) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    let mut c = command(mkfs[0]);
    c.args(&mkfs[1..]).arg(file.path());
    let deadline = Instant::now() + Duration::from_secs(60);
    run(c, deadline).unwrap().check(mkfs[0]).unwrap();
    let superblock = parse(&head(file.as_file())).unwrap();
    (file, superblock)
}

fn head(file: &File) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    file.read_exact_at(&mut head, 0).unwrap();
    head
}

const UUID: &str = "3d1c1ae4-7f5b-4c1e-8a0b-0123456789ab";

#[test]
fn ext4_is_recognised() {
    let mkfs = ["/usr/sbin/mkfs.ext4", "-q", "-L", "alpha-data", "-U", UUID];
    let (_file, sb) = made_by(&mkfs, 16 << 20);
    assert_eq!(sb.uuid.to_string(), UUID);
    assert_eq!(sb.label, "alpha-data");
    assert_eq!(
        sb.condition,
        Condition {
            kind: FsKind::Ext4,
            replay: Some(false),
            damaged: false
        }
    );
    assert_eq!((sb.mmp, sb.beyond), (None, None));
}

#[test]
fn xfs_is_recognised() {
    let uuid = format!("uuid={UUID}");
    let mkfs = ["/usr/sbin/mkfs.xfs", "-q", "-L", "alpha", "-m", &uuid];
    let (_file, sb) = made_by(&mkfs, 300 << 20);
    assert_eq!(sb.uuid.to_string(), UUID);
    assert_eq!(
        (sb.label.as_str(), sb.condition.kind),
        ("alpha", FsKind::Xfs)
    );
    assert!(!sb.condition.damaged);
    assert_eq!(sb.beyond, None);
}

#[test]
fn btrfs_is_recognised() {
    let mkfs = ["/usr/sbin/mkfs.btrfs", "-q", "-L", "alpha", "-U", UUID];
    let (_file, sb) = made_by(&mkfs, 128 << 20);
    assert_eq!(sb.uuid.to_string(), UUID);
    assert_eq!(
        (sb.label.as_str(), sb.condition.kind, sb.condition.replay),
        ("alpha", FsKind::Btrfs, Some(false))
    );
    assert_eq!(sb.beyond, None);
}

/// A sparse file, and what a file system on it and another one says.
fn on_two(program: &str, args: &[&str], size: u64) -> Superblock {
    let (one, other) = (
        tempfile::NamedTempFile::new().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    for file in [&one, &other] {
        file.as_file().set_len(size).unwrap();
    }
    let (one_path, other_path) = (one.path().display(), other.path().display());
    let mut c = command(program);
    c.args(args.iter().map(|arg| {
        arg.replace("ONE", &one_path.to_string())
            .replace("OTHER", &other_path.to_string())
    }));
    run(c, Instant::now() + Duration::from_secs(60))
        .unwrap()
        .check(program)
        .unwrap();
    parse(&head(one.as_file())).unwrap()
}

#[test]
fn what_lies_on_other_devices_too_shows() {
    for (program, args, beyond) in [
        (
            "/usr/sbin/mkfs.xfs",
            vec!["-q", "-l", "logdev=OTHER,size=64m", "ONE"],
            Beyond::Log,
        ),
        (
            "/usr/sbin/mkfs.xfs",
            vec!["-q", "-r", "rtdev=OTHER", "ONE"],
            Beyond::Realtime,
        ),
        (
            "/usr/sbin/mkfs.btrfs",
            vec!["-q", "ONE", "OTHER"],
            Beyond::Devices(2),
        ),
    ] {
        let sb = on_two(program, &args, 320 << 20);
        assert_eq!(sb.beyond, Some(beyond), "{program} {args:?}");
    }
    assert_eq!(
        Beyond::Devices(2).to_string(),
        "has 2 devices: berth serves btrfs on one"
    );

    let (file, _) = made_by(&["/usr/sbin/mkfs.btrfs", "-q"], 128 << 20);
    let mut c = command("/usr/bin/btrfstune");
    c.args(["-S", "1"]).arg(file.path());
    run(c, Instant::now() + Duration::from_secs(60))
        .unwrap()
        .check("btrfstune")
        .unwrap();
    let sb = parse(&head(file.as_file())).unwrap();
    assert_eq!(sb.beyond, Some(Beyond::Seed));

    // mke2fs makes an external journal on a block device alone; what it writes then is the first of these.
    for value in ["journal_dev 2065", "mount_opts journal_path=/dev/sdb"] {
        let (file, _) = made_by(&["/usr/sbin/mkfs.ext4", "-q"], 16 << 20);
        let mut c = command("/usr/sbin/debugfs");
        c.args(["-w", "-R", &format!("set_super_value {value}")])
            .arg(file.path());
        run(c, Instant::now() + Duration::from_secs(60))
            .unwrap()
            .check("debugfs")
            .unwrap();
        let sb = parse(&head(file.as_file())).unwrap();
        assert_eq!(sb.beyond, Some(Beyond::Journal), "{value}");
    }
}

#[test]
fn errors_noted_in_ext4_and_xfs_show_as_damage() {
    let (file, _) = made_by(&["/usr/sbin/mkfs.ext4", "-q"], 16 << 20);
    let mut c = command("/usr/sbin/debugfs");
    c.args(["-w", "-R", "set_super_value state 3"])
        .arg(file.path());
    run(c, Instant::now() + Duration::from_secs(60))
        .unwrap()
        .check("debugfs")
        .unwrap();
    assert!(parse(&head(file.as_file())).unwrap().condition.damaged);

    let (file, _) = made_by(&["/usr/sbin/mkfs.xfs", "-q"], 300 << 20);
    let mut c = command("/usr/sbin/xfs_db");
    c.args([
        "-x",
        "-f",
        "-c",
        "sb 0",
        "-c",
        "write -d features_incompat 0x1b",
    ])
    .arg(file.path());
    run(c, Instant::now() + Duration::from_secs(60))
        .unwrap()
        .check("xfs_db")
        .unwrap();
    assert!(parse(&head(file.as_file())).unwrap().condition.damaged);
}

#[test]
fn the_mmp_block_of_a_new_ext4_is_clean_and_shows_life_when_it_changes() {
    let mkfs = ["/usr/sbin/mkfs.ext4", "-q", "-O", "mmp"];
    let (file, sb) = made_by(&mkfs, 16 << 20);
    let place = sb.mmp.unwrap();
    let read = || {
        let mut block = vec![0; MMP_SIZE];
        file.as_file()
            .read_exact_at(&mut block, place.offset)
            .unwrap();
        Mmp::parse(block, place).unwrap()
    };
    let clean = read();
    assert_eq!(clean.state, MmpState::Clean);
    assert_eq!(clean.watch(), Duration::from_secs(11));
    // Twice in which a check may write.
    assert_eq!(clean.watch_check(), Duration::from_secs(120));

    file.as_file()
        .write_all_at(&7u32.to_le_bytes(), place.offset + 4)
        .unwrap();
    file.as_file()
        .write_all_at(b"n1\0", place.offset + 16)
        .unwrap();
    let mounted = read();
    assert_eq!(mounted.state, MmpState::Mounted("n1".to_owned()));
    assert!(!mounted.is_alive(&mounted));
    file.as_file()
        .write_all_at(&8u32.to_le_bytes(), place.offset + 4)
        .unwrap();
    assert!(mounted.is_alive(&read()));
    // Unmounted in good order meanwhile: nobody is left who could be alive.
    assert!(!mounted.is_alive(&clean));
}

#[test]
fn a_journal_device_and_an_empty_one_are_no_file_system() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    assert_eq!(parse(&head(file.as_file())), None);
    let mut c = command("/usr/sbin/mke2fs");
    c.args(["-q", "-F", "-O", "journal_dev"]).arg(file.path());
    run(c, Instant::now() + Duration::from_secs(60))
        .unwrap()
        .check("mke2fs")
        .unwrap();
    assert_eq!(parse(&head(file.as_file())), None);
}

#[test]
fn uuids_are_read_back_as_shown_and_others_are_refused() {
    assert_eq!(UUID.parse::<Uuid>().unwrap().to_string(), UUID);
    for wrong in ["", "x", &UUID[1..], "3d1c1ae4-7f5b-4c1e-8a0b-0123456789aé"] {
        assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
    }
}

/// Bytes that pass each magic number's test, and are otherwise anything.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 2048..6000);
    (noise, 0..3u8).prop_map(|(noise, kind)| {
        let mut head: Vec<u8> = noise.iter().cycle().take(HEAD).copied().collect();
        match kind {
            0 => head[EXT4_OFFSET + 0x38..][..2].copy_from_slice(&[0x53, 0xef]),
            1 => head[..4].copy_from_slice(b"XFSB"),
            _ => head[BTRFS_OFFSET + 0x40..][..8].copy_from_slice(b"_BHRfS_M"),
        }
        head
    })
}

proptest! {
    #[test]
    fn garbage_never_panics(head in plausible(), cut in 0..HEAD) {
        if let Some(sb) = parse(&head) {
            prop_assert!(!sb.label.chars().any(char::is_control));
        }
        parse(&head[..cut]);
        let place = MmpPlace { offset: 0, interval: 5 };
        let mut block = head[..MMP_SIZE].to_vec();
        block[..4].copy_from_slice(&0x004d_4d50u32.to_le_bytes());
        if let Some(mmp) = Mmp::parse(block, place) {
            prop_assert!(mmp.watch() <= Duration::from_secs(360));
        }
    }
}
