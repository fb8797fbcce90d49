//! Logs of file systems that can't be read back: what is in them is given up only on request.

use std::fs;
use std::os::unix::fs::FileExt;

use berth::cell::state::{Defect, Examined, VolumePhase};
use berth::plan::repair::Finding;

use super::cut_off_with_its_files_in_the_log;
use crate::disk::image;
use crate::node::{Node, await_good, inside, monitor, sh};

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
        await_good("it is in service without its log", &full);
        assert!(inside(&vserver, "test -d /data/kept").0, "{fstype}");
        full.run("stop").expect(0);
        node.assert_gone(&vserver, &[&other]);
    }
}
