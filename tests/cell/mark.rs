//! Marks of checks on file systems with multiple-mount protection: whose check was cut off, and whose may be at
//! work.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use berth::cell::state::{Defect, VolumePhase};
use berth::sys::device::DeviceSpec;

use crate::disk::{checksum, records};
use crate::node::{LIMIT, Node, eventually, monitor, sh};

/// Makes an ext4 with multiple-mount protection.
fn make_protected(disk: &str) {
    // Without checksums its mark can be forged: `struct mmp_struct`, fs/ext4/ext4.h.
    let features = "mmp,^metadata_csum";
    sh(&format!(
        "mkfs.ext4 -q -F -O {features} -E mmp_update_interval=1 {disk}"
    ));
}

/// Writes to the block of an ext4's multiple-mount protection.
fn write_mark(disk: &str, at: u64, what: &[u8]) {
    let spec = DeviceSpec::Path(disk.into());
    let found = spec.resolve(Instant::now() + LIMIT).expect("the device");
    let place = found.superblock.and_then(|sb| sb.mmp).expect("MMP").offset;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(disk)
        .expect("the device");
    file.write_all_at(what, place + at).expect("a mark");
    file.sync_all().expect("it is written");
}

/// Leaves the mark of an e2fsck on node `host`.
fn mark(disk: &str, host: &str) {
    write_mark(disk, 4, &0xe24d_4d50_u32.to_le_bytes());
    write_mark(disk, 16, format!("{host}\0").as_bytes());
}

#[test]
#[ignore = "needs root"]
fn a_check_that_was_cut_off_here_is_done_again() {
    let node = Node::new("mark");
    let vserver = node.vserver('a');
    let (device, alive) = (node.disk("ext4"), node.disk("ext4"));
    let here = sh("uname -n");
    let here = here.trim();
    for disk in [&device, &alive] {
        make_protected(disk);
        mark(disk, here);
    }
    let fs = node.fs(&vserver, &device, "/data");
    let busy = node.fs(&vserver, &alive, "/busy");
    let never = fs.clone().parameter("repair", "never");
    never.run("start").expect(0);
    let is_blocked = |phase: &VolumePhase| matches!(phase, VolumePhase::Blocked { .. });
    let blocked = node.await_phase(&vserver, "/data", is_blocked);
    assert_eq!(blocked.defect, Some(Defect::CutOff(here.to_owned())));
    let cut_off = format!("{here} was cut off");
    let outcome = monitor(&never).run("monitor").expect(190);
    assert!(outcome.stderr.contains(&cut_off), "{outcome}");
    never.run("stop").expect(0);
    fs.run("start").expect(0);
    busy.run("start").expect(0);
    monitor(&fs).run("monitor").expect(190);
    let seen = std::cell::Cell::new(0);
    let named = format!("e2fsck on node {here} has it");
    eventually("the dead one is in service, the living one is not", || {
        seen.set(seen.get() + 1_u64);
        write_mark(&alive, 8, &seen.get().to_le_bytes());
        let refused = monitor(&busy).run("monitor");
        let named = refused.stderr.contains(&named);
        monitor(&fs).run("monitor").code == Some(0) && refused.code == Some(1) && named
    });
    fs.run("stop").expect(0);
    busy.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device, &alive]);
}

#[test]
#[ignore = "needs root"]
fn a_check_on_another_node_is_left_alone_unless_that_node_is_known_to_be_down() {
    let node = Node::new("other");
    let vserver = node.vserver('a');
    let device = node.disk("ext4");
    make_protected(&device);
    mark(&device, "n7.example.com");
    let before = checksum(&device);
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("repair", "full");
    let refused = || {
        let refused = fs.run("start").expect(1);
        for words in [&device, "node n7.example.com", "tune2fs -f -E clear_mmp"] {
            assert!(refused.stderr.contains(words), "{words}: {refused}");
        }
        fs.run("stop").expect(0);
    };
    // Here is no cluster to ask.
    refused();
    let cluster = |of_n7: &str| {
        format!(
            "<pacemaker-result><summary><current_dc with_quorum=\"true\"/><cluster_options \
             stonith-enabled=\"true\"/></summary><nodes><node name=\"n1\" online=\"true\" \
             unclean=\"false\" type=\"member\"/><node name=\"n7\" {of_n7} \
             type=\"member\"/></nodes></pacemaker-result>"
        )
    };
    for lives in [
        "online=\"true\" unclean=\"false\"",
        "online=\"false\" unclean=\"true\"",
    ] {
        node.have_say("/usr/sbin/crm_mon", &cluster(lives));
        refused();
    }
    let down = "online=\"false\" unclean=\"false\"";
    node.have_say("/usr/sbin/crm_mon", &cluster(down));
    fs.run("start").expect(0);
    let watched = VolumePhase::BeingChecked {
        node: "n7.example.com".to_owned(),
    };
    node.await_phase(&vserver, "/data", |phase| *phase == watched);
    monitor(&fs).run("monitor").expect(190);
    fs.run("stop").expect(0);
    assert_eq!((checksum(&device), records()), (before, 0));
    node.assert_gone(&vserver, &[&device]);
}
