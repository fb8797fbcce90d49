//! Storage that can't be read is no damage of the file system on it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::refused_here;
use crate::disk::{image, records};
use crate::node::{Node, sh};

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
        let refused = refused_here(&fs);
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
