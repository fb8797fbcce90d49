//! Which device a resource has, who else has it, and the proof that it is free.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use berth::cell::protocol::socket;
use berth::types::VserverName;
use nix::sys::signal::Signal;

use crate::common::Outcome;
use crate::disk::mark_damaged;
use crate::node::{Node, eventually, sh, signal};

/// The records of what resources have attached.
pub fn records() -> Vec<String> {
    let entries = fs::read_dir("/proc/thread-self/root/run/berth/device.d")
        .into_iter()
        .flatten();
    let names = entries.flatten().map(|e| e.file_name());
    let mut names: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

pub fn uuid_of(device: &str) -> String {
    let uuid = sh(&format!("blkid -p -o value -s UUID {device}"));
    format!("UUID={}", uuid.trim())
}

/// A mount in a cell's namespace that outlives the cell: somebody has gone in from outside. Returns the
/// process.
pub fn intruder(node: &Node, vserver: &VserverName) -> i32 {
    let init = node.process(vserver, "berth-init");
    let script = format!("nsenter -t {init} -m sleep 1000 >/dev/null 2>&1 & echo $!");
    let pid = sh(&script).trim().parse().expect("a process");
    let own = fs::metadata("/proc/thread-self/ns/mnt")
        .expect("a namespace")
        .ino();
    eventually("somebody is in the cell's mount namespace", || {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let there = fs::metadata(format!("/proc/{pid}/ns/mnt")).is_ok_and(|m| m.ino() != own);
        comm.trim() == "sleep" && there
    });
    pid
}

/// Whether a process lives.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

/// Panics unless the action was refused with each of these words in its reason.
#[track_caller]
pub fn refused(outcome: Outcome, code: i32, words: &[&str]) {
    let outcome = outcome.expect(code);
    for word in words {
        assert!(
            outcome.stderr.contains(word),
            "{word:?} is not in: {outcome}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_mount_that_outlives_its_cell_is_seen_and_ended_by_the_stop_whatever_the_uuid_leads_to() {
    let node = Node::new("left");
    for fstype in ["ext4", "xfs", "btrfs"] {
        let (vserver, device) = (node.vserver('a'), node.disk(fstype));
        let fs = node.fs(&vserver, &uuid_of(&device), "/data");
        fs.run("start").expect(0);
        assert_eq!(records(), [format!("{vserver}-data")]);
        let stranger = intruder(&node, &vserver);
        signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
        eventually("the cell's PID 1 has died", || {
            node.processes(&vserver).is_empty()
        });
        fs.run("monitor").expect(1);
        // From now on the UUID means two devices.
        let copy = node.copy(&device);
        refused(
            fs.run("monitor"),
            1,
            &["still held", "/data", &vserver, "sleep"],
        );
        fs.run("stop").expect(0);
        assert!(!lives(stranger), "it holds the file system");
        node.assert_gone(&vserver, &[&device, &copy]);
        assert_eq!(records(), [""; 0]);
        fs.run("monitor").expect(7);
    }
}

#[test]
#[ignore = "needs root"]
fn a_device_that_can_t_be_opened_is_stopped() {
    let node = Node::new("dead");
    let vserver = node.vserver('a');
    // No driver has this number: what an offline disk or another node's DRBD device answers is alike.
    sh("mknod /run/dead b 240 212");
    let fs = node.fs(&vserver, "/run/dead", "/data");
    fs.run("monitor").expect(7);
    fs.run("stop").expect(0);
    refused(fs.run("start"), 2, &["/run/dead"]);
    fs.run("stop").expect(0);
    assert_eq!(node.processes(&vserver), []);
}

#[test]
#[ignore = "needs root"]
fn a_device_that_vanishes_while_its_cell_dies_is_proven_by_its_number() {
    let node = Node::new("gone");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let own = format!("/run/{vserver}");
    let stat = fs::metadata(&device).expect("a device");
    let (major, minor) = (libc::major(stat.rdev()), libc::minor(stat.rdev()));
    sh(&format!("mknod {own} b {major} {minor}"));
    let fs = node.fs(&vserver, &own, "/data");
    fs.run("start").expect(0);
    let stranger = intruder(&node, &vserver);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    eventually("the cell's PID 1 has died", || {
        node.processes(&vserver).is_empty()
    });
    sh(&format!("rm {own}"));
    refused(fs.run("monitor"), 1, &["still held"]);
    fs.run("stop").expect(0);
    assert!(!lives(stranger));
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_passive_node_leaves_others_alone_with_the_device_and_only_its_start_is_refused() {
    let node = Node::new("pass");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let passive = |words: &[&str]| {
        fs.run("monitor").expect(7);
        fs.run("stop").expect(0);
        refused(fs.run("start"), 1, words);
        fs.run("stop").expect(0);
        fs.run("monitor").expect(7);
    };
    sh(&format!("mkdir /run/look && mount {device} /run/look"));
    passive(&["mounted at /run/look"]);
    sh("umount /run/look");

    // As e2fsck -n and tune2fs -l do.
    let line =
        "import os,sys,time; os.open(sys.argv[1], os.O_EXCL); print(flush=True); time.sleep(1000)";
    let mut holder = node.shell(&format!("exec /usr/bin/env python3 -c '{line}' {device}"));
    passive(&["open by process", "python3"]);
    holder.kill().expect("a process");
    holder.wait().expect("its end");

    let mut writer = node.shell(&format!("exec 9<>{device}; echo; exec sleep 1000"));
    passive(&["open for writing by process", "sleep"]);
    writer.kill().expect("a process");
    writer.wait().expect("its end");

    // The kernel's own file system on it, and nobody who shows. A probe that fails has the server stopped that
    // runs elsewhere.
    let mut user = node.shell(&format!(
        "mount {device} /run/look && exec 9>/run/look/file && umount -l /run/look && echo && exec sleep 1000"
    ));
    fs.run("monitor").expect(7);
    fs.clone()
        .parameter("CRM_meta_timeout", "6000")
        .run("stop")
        .expect(0);
    user.kill().expect("a process");
    user.wait().expect("its end");

    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_mount_by_hand_of_what_was_attached_here_keeps_the_stop_from_succeeding() {
    let node = Node::new("shar");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("CRM_meta_timeout", "6000");
    fs.run("start").expect(0);
    // The kernel lets the cell's file system be mounted once more.
    sh(&format!("mkdir /run/look && mount {device} /run/look"));
    refused(fs.run("stop"), 1, &["still held", "/run/look"]);
    sh("umount /run/look");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn one_device_is_never_used_by_two_resources_whatever_it_is_called() {
    let node = Node::new("two");
    let (one, other) = (node.vserver('a'), node.vserver('b'));
    let device = node.disk("ext4");
    let slashes = device.replace("/dev/", "/dev//");
    let calls = [
        node.fs(&one, &device, "/data"),
        node.fs(&other, &slashes, "/data"),
    ];
    for _ in 0..8 {
        let runs: Vec<_> = calls.iter().map(|call| call.start("start")).collect();
        let ends: Vec<_> = runs.into_iter().map(|run| run.wait()).collect();
        let won: Vec<usize> = (0..2).filter(|i| ends[*i].code == Some(0)).collect();
        assert_eq!(won.len(), 1, "{} {}", ends[0], ends[1]);
        let lost = 1 - won[0];
        let winner = [&one, &other][won[0]];
        assert_eq!(ends[lost].code, Some(1), "{}", ends[lost]);
        assert!(
            ends[lost].stderr.contains(winner.as_str()),
            "{}",
            ends[lost]
        );
        // Later it is refused by the other's name, and its stop harms nobody.
        refused(calls[lost].run("start"), 1, &[winner]);
        calls[lost].run("stop").expect(0);
        calls[lost].run("monitor").expect(7);
        calls[won[0]].run("monitor").expect(0);
        calls[won[0]].run("stop").expect(0);
        node.assert_gone(&one, &[&device]);
        node.assert_gone(&other, &[]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_blocked_file_system_keeps_its_device() {
    let node = Node::new("kept");
    let (one, other) = (node.vserver('a'), node.vserver('b'));
    let device = node.disk("ext4");
    mark_damaged(&device);
    let fs = node.fs(&one, &device, "/data").parameter("repair", "never");
    fs.run("start").expect(0);
    // Nobody has it open now.
    let second = node.fs(&other, &device, "/data");
    refused(
        second.run("start"),
        1,
        &["is that of", &format!("{one}-data")],
    );
    second.run("stop").expect(0);

    // Nor does its keeper take a connection.
    let keeper = node.process(&one, "berth-keeper");
    signal(keeper, Signal::SIGSTOP);
    let script = format!("/run/{one}.py");
    let text = format!(
        "import socket, time\n\
         all = []\n\
         try:\n    \
             while True:\n        \
                 all.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))\n        \
                 all[-1].connect('{}')\n\
         except BlockingIOError:\n    \
             print(flush=True)\n    \
             time.sleep(1000)\n",
        socket(&one).display()
    );
    fs::write(Path::new("/proc/thread-self/root").join(&script[1..]), text).expect("a script");
    let mut queue = node.shell(&format!("exec /usr/bin/env python3 {script}"));
    refused(second.run("start"), 1, &["is that of"]);
    queue.kill().expect("a process");
    queue.wait().expect("its end");
    signal(keeper, Signal::SIGCONT);
    second.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&one, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_copy_beside_its_original_is_refused_where_the_kernel_would_mix_them_up() {
    let node = Node::new("copy");
    let (one, other) = (node.vserver('a'), node.vserver('b'));
    for (fstype, hint) in [("xfs", "nouuid"), ("btrfs", "btrfstune")] {
        let device = node.disk(fstype);
        let copy = node.copy(&device);
        let fs = node.fs(&one, &device, "/data");
        let second = node.fs(&other, &copy, "/other");
        fs.run("start").expect(0);
        let place = format!("/data of {one}");
        refused(second.run("start"), 1, &[&copy, &place, hint]);
        second.run("stop").expect(0);
        if fstype == "xfs" {
            let aside = second.clone().parameter("options", "nouuid");
            aside.run("start").expect(0);
            aside.run("stop").expect(0);
        }
        // It may as well be somebody's who looks into last night's snapshot.
        fs.run("stop").expect(0);
        sh(&format!("mkdir -p /run/s && mount -o ro {copy} /run/s"));
        refused(fs.run("start"), 1, &[&copy, "/run/s ", hint]);
        fs.run("stop").expect(0);
        sh("umount /run/s");
        if fstype == "xfs" {
            sh(&format!("mount -o ro,nouuid {copy} /run/s"));
            fs.run("start").expect(0);
            fs.run("stop").expect(0);
            sh("umount /run/s");
        }
        node.assert_gone(&one, &[&device]);
        node.assert_gone(&other, &[&copy]);
    }
}

#[test]
#[ignore = "needs root"]
fn one_disk_by_two_paths_is_refused_and_a_mere_copy_of_ext4_is_not() {
    let node = Node::new("path");
    let (one, other) = (node.vserver('a'), node.vserver('b'));
    let device = node.disk("ext4");
    let (copy, path) = (node.copy(&device), node.path_to(&device));
    let fs = node.fs(&one, &device, "/data");
    fs.run("start").expect(0);
    let second = node.fs(&other, &path, "/data");
    refused(
        second.run("start"),
        1,
        &[&path, "/data of", "if it is a copy"],
    );
    second.run("stop").expect(0);
    second.run("monitor").expect(7);
    let third = node.fs(&other, &copy, "/data");
    third.run("start").expect(0);
    third.run("stop").expect(0);
    // A server would take both for one.
    let within = node.fs(&one, &copy, "/copy");
    refused(within.run("start"), 1, &[&copy, "/data of"]);
    within.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&one, &[&device]);
    node.assert_gone(&other, &[&copy]);
}

#[test]
#[ignore = "needs root"]
fn an_ambiguous_uuid_fails_a_start_softly() {
    let node = Node::new("ambi");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &uuid_of(&device), "/data");
    let copy = node.copy(&device);
    refused(fs.run("start"), 1, &["ambiguous", &device, &copy]);
    fs.run("monitor").expect(7);
    fs.run("stop").expect(0);
}

#[test]
#[ignore = "needs root"]
fn half_of_a_mirror_is_refused_by_path_and_by_uuid() {
    let node = Node::new("half");
    let vserver = node.vserver('a');
    for name in ["md array", "DRBD"] {
        // The file system leaves room for it.
        let device = node.disk("ext4");
        sh(&format!("resize2fs {device} 100M"));
        let disk = fs::File::options()
            .write(true)
            .open(&device)
            .expect("the device");
        let size: u64 = sh(&format!("blockdev --getsize64 {device}"))
            .trim()
            .parse()
            .expect("a size");
        if name == "DRBD" {
            let magic = 0x8374_026bu32.to_be_bytes();
            disk.write_all_at(&magic, size - 4096 + 60)
                .expect("a write");
        } else {
            let at = (size & !4095) - 8192;
            disk.write_all_at(&0xa92b_4efcu32.to_le_bytes(), at)
                .expect("a write");
            disk.write_all_at(&[1], at + 4).expect("a write");
            disk.write_all_at(&(at / 512).to_le_bytes(), at + 144)
                .expect("a write");
        }
        disk.sync_all().expect("a flush");
        drop(disk);
        for spec in [device.clone(), uuid_of_ext4(&device)] {
            let fs = node.fs(&vserver, &spec, "/data");
            fs.run("monitor").expect(7);
            refused(fs.run("start"), 2, &[&device, name]);
            fs.run("stop").expect(0);
        }
        node.assert_gone(&vserver, &[&device]);
    }
}

/// As blkid sees a member and no file system.
fn uuid_of_ext4(device: &str) -> String {
    let text = sh(&format!("dumpe2fs -h {device} 2>/dev/null"));
    let uuid = text
        .lines()
        .find_map(|l| l.strip_prefix("Filesystem UUID:"));
    format!("UUID={}", uuid.expect("a UUID").trim())
}
