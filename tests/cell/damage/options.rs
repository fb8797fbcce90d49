//! Options of a mount: their own mistakes are theirs, and what a superblock says gives way to them.

use crate::disk::records;
use crate::node::{Node, inside, sh};

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
