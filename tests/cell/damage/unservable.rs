//! File systems that are well, but that can't be served here, or not now.

use super::{cut_off_with_its_files_in_the_log, refused_here};
use crate::disk::{checksum, mark_damaged, records};
use crate::node::{Node, inside, sh};

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
    let refused = refused_here(&fs);
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
    mark_damaged(&two);
    sh(&format!("mkdir /run/two && mount -o ro {two} /run/two"));
    let noted = node.path_to(&two);
    let damaged = node.fs(&vserver, &noted, "/noted");
    let refused = refused_here(&damaged);
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
