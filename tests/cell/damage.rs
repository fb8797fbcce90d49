//! File systems that can't be mounted: what is damage, and what is not.

use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use berth::cell::state::{Defect, Examined, VolumePhase};
use berth::plan::repair::Finding;

use crate::common::AgentCall;
use crate::node::{Node, eventually, inside, sh, try_sh};

/// What has been kept of repairs: there was one if there is any.
pub fn records() -> usize {
    fs::read_dir("/var/lib/berth/repair").map_or(0, Iterator::count)
}

/// The image behind a loop device.
fn image(device: &str) -> String {
    let path = sh(&format!("losetup --noheadings -O BACK-FILE {device}"));
    path.trim().to_owned()
}

pub fn checksum(device: &str) -> String {
    sh(&format!("sha256sum < {device}"))
}

/// A monitor as the cluster calls it again and again.
pub fn monitor(call: &AgentCall) -> AgentCall {
    call.clone().parameter("CRM_meta_interval", "10000")
}

/// Has twenty files written and confirmed, and the device copied in that moment: what is in the copy is in its
/// log alone. Both are left, the first one mounted at the directory.
fn cut_off_with_its_files_in_the_log(
    node: &Node,
    fstype: &str,
    directory: &str,
) -> (String, String) {
    let (one, other) = (node.disk(fstype), node.disk(fstype));
    let mount = format!("mount {one} {directory}");
    sh(&format!(
        "mkdir {directory} && {mount} && mkdir {directory}/kept"
    ));
    sh(&format!("umount {directory} && {mount}"));
    sh(&format!(
        "python3 -c 'import os\nfor i in range(20):\n f = open(\"{directory}/kept/%d\" % i, \"w\")\n \
         f.write(\"confirmed\")\n f.flush()\n os.fsync(f)'"
    ));
    sh(&format!(
        "dd if={one} of={} bs=1M conv=notrunc,fsync status=none",
        image(&other)
    ));
    sh(&format!("blockdev --flushbufs {other}"));
    (one, other)
}

#[test]
#[ignore = "needs root"]
fn a_copy_beside_its_mounted_original_is_refused_untouched() {
    let node = Node::new("twin");
    let vserver = node.vserver('a');
    let (one, other) = cut_off_with_its_files_in_the_log(&node, "xfs", "/run/original");
    let before = checksum(&other);
    let fs = node
        .fs(&vserver, &other, "/data")
        .parameter("repair", "full");
    let refused = fs.run("start");
    assert!(
        [1, 2].contains(&refused.code.expect("an exit code")),
        "{refused}"
    );
    for words in ["UUID", &one, "nouuid"] {
        assert!(refused.stderr.contains(words), "{words}: {refused}");
    }
    fs.run("stop").expect(0);
    assert_eq!((checksum(&other), records()), (before, 0));
    let count = || {
        inside(&vserver, "ls /data/kept | wc -l")
            .1
            .trim()
            .to_owned()
    };
    let beside = fs.clone().parameter("options", "nouuid");
    beside.run("start").expect(0);
    assert_eq!(count(), "20");
    beside.run("stop").expect(0);
    // Nor is it repaired where it is the same disk by another path.
    let two = node.disk("ext4");
    sh(&format!("debugfs -w -R 'ssv state 2' {two}"));
    sh(&format!("mkdir /run/two && mount -o ro {two} /run/two"));
    let noted = node.path_to(&two);
    let damaged = node.fs(&vserver, &noted, "/noted");
    let refused = damaged.run("start");
    assert!(
        [1, 2].contains(&refused.code.expect("an exit code")),
        "{refused}"
    );
    assert!(refused.stderr.contains("UUID"), "{refused}");
    assert_eq!(records(), 0);
    damaged.run("stop").expect(0);
    sh("umount /run/two");
    sh("umount /run/original");
    fs.run("start").expect(0);
    assert_eq!((count().as_str(), records()), ("20", 0));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn an_option_is_to_blame_before_the_file_system() {
    let node = Node::new("option");
    let vserver = node.vserver('a');
    for (fstype, options, words) in [
        ("btrfs", "compress=zstd,subvol=typo", "subvol=typo"),
        ("btrfs", "subvolid=4711", "subvolid=4711"),
        ("xfs", "largeio,allocsize=7", "allocsize=7"),
        ("ext4", "usrjquota=aquota.user", "usrjquota"),
        ("ext4", "dax", "dax"),
    ] {
        let device = node.disk(fstype);
        let fs = node
            .fs(&vserver, &device, "/data")
            .parameter("repair", "full");
        let refused = fs
            .clone()
            .parameter("options", options)
            .run("start")
            .expect(2);
        assert!(refused.stderr.contains("parameter options"), "{refused}");
        assert!(refused.stderr.contains(words), "{words}: {refused}");
        assert!(!refused.stderr.contains("repair = "), "{refused}");
        assert_eq!(records(), 0, "{fstype} {options}");
        fs.run("start").expect(0);
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
}

#[test]
#[ignore = "needs root"]
fn options_for_mount_alone_do_no_harm() {
    let node = Node::new("fstab");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let options = "defaults,nofail,_netdev,x-systemd.requires=iscsi.service,comment=x,norelatime,\
                   nosymfollow,iversion,silent,lazytime";
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("options", options);
    fs.run("start").expect(0);
    let (_, table) = inside(&vserver, "cat /proc/self/mountinfo");
    let line = table.lines().find(|l| l.contains(" /data ")).expect(&table);
    assert!(
        line.contains("nosymfollow") && line.contains("lazytime"),
        "{line}"
    );
    fs.run("stop").expect(0);
}

#[test]
#[ignore = "needs root"]
fn a_feature_that_this_kernel_lacks_is_left_to_another_node() {
    let node = Node::new("feat");
    let vserver = node.vserver('a');
    for (fstype, change, options) in [
        (
            "xfs",
            "xfs_db -x -c 'sb 0' -c 'write -d features_incompat 0x8000000b' ",
            "",
        ),
        (
            "ext4",
            "debugfs -w -R 'set_super_value feature_incompat 0x800002c2' ",
            "",
        ),
        // It could be mounted read-only, which makes nothing the fault of an option.
        (
            "ext4",
            "debugfs -w -R 'set_super_value feature_ro_compat 0x8000006b' ",
            "nodiscard,data=ordered",
        ),
    ] {
        let device = node.disk(fstype);
        sh(&format!("{change} {device}"));
        let before = checksum(&device);
        let fs = node
            .fs(&vserver, &device, "/data")
            .parameter("options", options)
            .parameter("repair", "full");
        let refused = fs.run("start").expect(2);
        assert!(
            refused.stderr.contains("this node cannot mount it"),
            "{refused}"
        );
        assert!(refused.stderr.contains("features"), "{refused}");
        fs.run("stop").expect(0);
        assert_eq!((checksum(&device), records()), (before, 0), "{fstype}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_file_system_on_several_devices_is_refused() {
    let node = Node::new("two");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("btrfs"), node.disk("btrfs"));
    sh(&format!("mkfs.btrfs -q -f {one} {other}"));
    let refused = node.fs(&vserver, &one, "/data").run("start").expect(6);
    assert!(
        refused
            .stderr
            .contains("has 2 devices: berth serves btrfs on one"),
        "{refused}"
    );
    let (one, other) = (node.disk("xfs"), node.disk("xfs"));
    sh(&format!("mkfs.xfs -q -f -l logdev={other},size=64m {one}"));
    let refused = node.fs(&vserver, &one, "/data").run("start").expect(6);
    assert!(
        refused.stderr.contains("log on another device"),
        "{refused}"
    );
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    sh(&format!("mke2fs -q -F -b 4096 -O journal_dev {other}"));
    sh(&format!("mkfs.ext4 -q -F -b 4096 -J device={other} {one}"));
    let refused = node.fs(&vserver, &one, "/data").run("start").expect(6);
    assert!(
        refused.stderr.contains("journal on another device"),
        "{refused}"
    );
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn what_a_superblock_says_of_errors_is_overruled() {
    let node = Node::new("errors");
    let vserver = node.vserver('a');
    for (set, options, words) in [
        ("-e panic", "", "errors=remount-ro"),
        ("-e continue", "", "errors=remount-ro"),
        ("-E mount_opts=errors=panic", "", "errors=remount-ro"),
        ("-e panic", "errors=continue", "errors=continue"),
    ] {
        let device = node.disk("ext4");
        sh(&format!("tune2fs {set} {device}"));
        let fs = node
            .fs(&vserver, &device, "/data")
            .parameter("options", options);
        fs.run("start").expect(0);
        let name = device.trim_start_matches("/dev/");
        let told = sh(&format!("cat /proc/fs/ext4/{name}/options"));
        assert!(told.lines().any(|line| line == words), "{told}");
        fs.run("stop").expect(0);
    }
}

/// Breaks the log of a file system, and nothing else.
fn break_log(fstype: &str, device: &str) {
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).open(device);
    let file = file.expect("the device");
    let size = fs::metadata(image(device)).expect("an image").len();
    let mut all = vec![0; usize::try_from(size).expect("it fits")];
    file.read_exact_at(&mut all, 0).expect("its content");
    let write = |place: usize, what: &[u8]| {
        file.write_all_at(what, place as u64).expect("a broken log");
    };
    if fstype == "xfs" {
        let told = sh(&format!("xfs_logprint -t {device}"));
        let number = |name: &str| -> usize {
            let rest = told.split(name).nth(1).expect(&told);
            let word = rest.split_whitespace().next();
            word.and_then(|w| w.parse().ok()).expect(&told)
        };
        let (log, tail, head) = (number("daddr:"), number("tail:"), number("head:"));
        // `xlog_rec_header`: each record begins a sector with its magic number; what follows has a checksum.
        let begins = |sector: &usize| {
            all[(log + sector) * 512..].starts_with(&0xfeed_babe_u32.to_be_bytes())
        };
        let middle = usize::midpoint(tail, head);
        let record = (middle..head).find(begins).expect(&told);
        write((log + record) * 512 + 512 + 100, &[0xff; 64]);
    } else {
        // `btrfs_super_block` at 64 KiB: the root of the log's tree at 0x60. `btrfs_header`: each block of a
        // tree has its own address at 0x30.
        let root = &all[(64 << 10) + 0x60..][..8];
        assert_ne!(root, [0; 8], "the log is empty");
        for (number, block) in all.chunks(4096).enumerate() {
            if &block[0x30..0x38] == root {
                write(number * 4096, &[0xff; 4096]);
            }
        }
    }
    file.sync_all().expect("it is written");
}

#[test]
#[ignore = "needs root"]
fn a_log_is_given_up_only_where_it_is_what_fails() {
    let node = Node::new("log");
    let vserver = node.vserver('a');
    for fstype in ["xfs", "btrfs"] {
        let original = format!("/run/{fstype}");
        let (one, other) = cut_off_with_its_files_in_the_log(&node, fstype, &original);
        sh(&format!("umount {original}"));
        break_log(fstype, &other);
        // btrfs knows its devices by their UUID.
        sh(&format!("wipefs -q --all {one}"));
        let fs = node.fs(&vserver, &other, "/data");
        fs.run("start").expect(0);
        let is_blocked = |phase: &VolumePhase| matches!(phase, VolumePhase::Blocked { .. });
        let blocked = node.await_phase(&vserver, "/data", is_blocked);
        let Some(Defect::Unmountable(Examined { finding, .. })) = blocked.defect else {
            panic!("{blocked:?}");
        };
        assert_eq!(finding, Finding::Damage { log: true });
        let outcome = monitor(&fs).run("monitor").expect(190);
        for words in ["are lost", "'full'"] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome}");
        }
        fs.run("stop").expect(0);
        let full = fs.parameter("repair", "full");
        full.run("start").expect(0);
        eventually("it is in service without its log", || {
            monitor(&full).run("monitor").code == Some(0)
        });
        assert!(inside(&vserver, "test -d /data/kept").0, "{fstype}");
        full.run("stop").expect(0);
        node.assert_gone(&vserver, &[&other]);
    }
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_read_is_no_damage() {
    let node = Node::new("dead");
    let vserver = node.vserver('a');
    for fstype in ["ext4", "xfs", "btrfs"] {
        let device = node.disk(fstype);
        // A loop device answers EIO for what its file does not have. The superblock is left.
        let (image, kept) = (image(&device), "/run/whole");
        sh(&format!("cp --sparse=always {image} {kept}"));
        sh(&format!(
            "truncate -s 300K {image} && blockdev --flushbufs {device}"
        ));
        let fs = node
            .fs(&vserver, &device, "/data")
            .parameter("repair", "full");
        let refused = fs.run("start");
        assert!(
            [1, 2].contains(&refused.code.expect("an exit code")),
            "{refused}"
        );
        // Whoever meets it first: who looks what the device is a part of, or the mount.
        let words = ["its storage cannot be read", "Input/output error"];
        assert!(
            words.iter().any(|w| refused.stderr.contains(w)),
            "{fstype}: {refused}"
        );
        fs.run("stop").expect(0);
        assert_eq!(records(), 0, "{fstype}");
        sh(&format!(
            "dd if={kept} of={image} bs=1M conv=notrunc status=none && blockdev --flushbufs {device}"
        ));
        fs.run("start").expect(0);
        fs.run("stop").expect(0);
        assert_eq!(records(), 0, "{fstype}");
        node.assert_gone(&vserver, &[&device]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_log_that_cannot_be_read_is_no_damage_on_a_partition_either() {
    let node = Node::new("part");
    let vserver = node.vserver('a');
    // A disk with bad sectors: its image is a file of btrfs, which reads nothing that it can't believe.
    let outer = node.disk_of("btrfs", 512);
    sh(&format!("mkdir /run/outer && mount {outer} /run/outer"));
    let image = Path::new("/run/outer/disk");
    let file = fs::File::create(image).expect("an image");
    file.set_len(100 << 20).expect("its size");
    drop(file);
    let (disk, device) = node.partition(image);
    sh(&format!(
        "mkfs.ext4 -q {device} && blockdev --flushbufs {device}"
    ));
    node.detach(&disk);
    sh("cp /run/outer/disk /run/whole && umount /run/outer");
    // `journal_superblock_t`: JBD2's magic number and the type of its superblock.
    let mark = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4];
    let mut bytes = fs::read(&outer).expect("what is on the disk");
    let found = bytes
        .chunks(1024)
        .position(|block| block.starts_with(&mark));
    let place = found.expect("a journal") * 1024;
    bytes.truncate(0);
    let options = fs::OpenOptions::new().write(true).open(&outer);
    let raw = options.expect("the disk");
    raw.write_all_at(&[0xff; 64], place as u64 + 512)
        .expect("a bad sector");
    raw.sync_all().expect("it is written");
    sh(&format!(
        "blockdev --flushbufs {outer} && mount {outer} /run/outer"
    ));
    let (disk, device) = node.partition(image);
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("repair", "full");
    let refused = fs.run("start").expect(2);
    assert!(
        refused.stderr.contains("its storage cannot be read"),
        "{refused}"
    );
    fs.run("stop").expect(0);
    assert_eq!(records(), 0);
    sh(&format!(
        "dd if=/run/whole of=/run/outer/disk bs=1M conv=notrunc status=none && \
         sync && blockdev --flushbufs {device} && blockdev --flushbufs {disk}"
    ));
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    assert_eq!(records(), 0);
    node.assert_gone(&vserver, &[&device]);
    node.detach(&disk);
    sh("umount /run/outer");
}

#[test]
#[ignore = "needs root"]
fn a_device_that_somebody_opens_before_its_repair_is_no_damage() {
    let node = Node::new("hand");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("debugfs -w -R 'ssv state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 2.0);
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("repair", "full");
    fs.run("start").expect(0);
    let hand = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device)
        .expect("the device");
    node.await_phase(
        &vserver,
        "/data",
        |phase| matches!(phase, VolumePhase::Waiting { why } if why.contains("in use")),
    );
    monitor(&fs).run("monitor").expect(190);
    drop(hand);
    eventually("it is in service by itself", || {
        monitor(&fs).run("monitor").code == Some(0)
    });
    assert!(!node.logged().contains("Run(Full"), "{}", node.logged());
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

/// Another path to a device, which can go without the device's number becoming somebody else's.
struct DiskPath {
    path: &'static str,
    number: String,
}

impl DiskPath {
    fn to(device: &str) -> Self {
        let number = sh(&format!("stat -c '0x%t 0x%T' {device}"));
        let path = Self {
            path: "/run/disk",
            number: number.trim().to_owned(),
        };
        path.appear();
        path
    }

    fn appear(&self) {
        sh(&format!("mknod {} b {}", self.path, self.number));
    }

    fn vanish(&self) {
        sh(&format!("rm {}", self.path));
    }
}

#[test]
#[ignore = "needs root"]
fn storage_that_fails_during_a_repair_is_tried_again() {
    let node = Node::new("again");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let disk = DiskPath::to(&device);
    sh(&format!("debugfs -w -R 'ssv state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 2.0);
    let fs = node.fs(&vserver, disk.path, "/data");
    fs.run("start").expect(0);
    disk.vanish();
    let waits = |phase: &VolumePhase| matches!(phase, VolumePhase::Waiting { .. });
    node.await_phase(&vserver, "/data", waits);
    monitor(&fs).run("monitor").expect(190);
    disk.appear();
    eventually("it is in service by itself", || {
        monitor(&fs).run("monitor").code == Some(0)
    });
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_start_without_storage_or_program_fails_for_another_node_s_sake() {
    let node = Node::new("away");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let disk = DiskPath::to(&device);
    let fs = node.fs(&vserver, disk.path, "/data");
    disk.vanish();
    let refused = fs.run("start").expect(2);
    assert!(refused.stderr.contains(disk.path), "{refused}");
    disk.appear();
    sh(&format!("debugfs -w -R 'ssv state 2' {device}"));
    sh("touch /run/nothing && mount --bind /run/nothing /usr/sbin/e2fsck");
    let refused = fs.run("start").expect(5);
    assert!(refused.stderr.contains("e2fsck"), "{refused}");
    fs.run("stop").expect(0);
    sh("umount /usr/sbin/e2fsck");
    fs.run("start").expect(0);
    eventually("it is repaired", || {
        monitor(&fs).run("monitor").code == Some(0)
    });
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_repair_does_without_its_record_where_there_is_no_room() {
    let node = Node::new("full");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh("mount -o remount,size=1m,nr_inodes=2 /var/lib/berth");
    assert!(!try_sh("mkdir -p /var/lib/berth/a/b").0);
    sh(&format!("debugfs -w -R 'ssv state 2' {device}"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    eventually("it is repaired", || {
        monitor(&fs).run("monitor").code == Some(0)
    });
    assert!(
        !Path::new("/var/lib/berth/repair")
            .join(vserver.as_str())
            .exists()
    );
    assert!(node.logged().contains("can't be taken back"));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
