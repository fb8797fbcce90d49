//! Repairs that are prevented: somebody has the device, or storage, a program or room is not there.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use berth::cell::state::VolumePhase;

use crate::disk::mark_damaged;
use crate::node::{Node, await_good, monitor, sh, try_sh};

#[test]
#[ignore = "needs root"]
fn a_device_that_somebody_opens_before_its_repair_is_no_damage() {
    let node = Node::new("hand");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    mark_damaged(&device);
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
    await_good("it is in service by itself", &fs);
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
    mark_damaged(&device);
    node.slow_down("/usr/sbin/e2fsck", 2.0);
    let fs = node.fs(&vserver, disk.path, "/data");
    fs.run("start").expect(0);
    disk.vanish();
    let waits = |phase: &VolumePhase| matches!(phase, VolumePhase::Waiting { .. });
    node.await_phase(&vserver, "/data", waits);
    monitor(&fs).run("monitor").expect(190);
    disk.appear();
    await_good("it is in service by itself", &fs);
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
    mark_damaged(&device);
    sh("touch /run/nothing && mount --bind /run/nothing /usr/sbin/e2fsck");
    let refused = fs.run("start").expect(5);
    assert!(refused.stderr.contains("e2fsck"), "{refused}");
    fs.run("stop").expect(0);
    sh("umount /usr/sbin/e2fsck");
    fs.run("start").expect(0);
    await_good("it is repaired", &fs);
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
    mark_damaged(&device);
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    await_good("it is repaired", &fs);
    assert!(
        !Path::new("/var/lib/berth/repair")
            .join(vserver.as_str())
            .exists()
    );
    assert!(node.logged().contains("can't be taken back"));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
