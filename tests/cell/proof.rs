//! What a stop and a probe prove of a device where little is known: without a record, without room, beside what
//! hangs, and beside what somebody else made up.

use std::fs;
use std::path::Path;
use std::time::Instant;

use berth::cell::attachment::{Locked, Locks};
use berth::types::VserverName;
use nix::sys::signal::Signal;

use crate::device::{intruder, lives, records, refused, uuid_of};
use crate::disk::mark_damaged;
use crate::node::{LIMIT, Node, eventually, inside, monitor, sh, signal, try_sh};

/// The number of the device that a virtual server's only file system has on record.
fn number_on_record(vserver: &VserverName) -> serde_json::Value {
    let text = sh(&format!("cat /run/berth/device.d/{vserver}-data"));
    let record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    record["number"].clone()
}

/// A device on an image whose own file system can be frozen: what is to be written to it waits then.
fn freezable(node: &Node, vserver: &VserverName) -> (String, String) {
    let base = format!("/run/{vserver}-base");
    let below = node.disk_of("ext4", 256);
    sh(&format!("mkdir {base} && mount {below} {base}"));
    let image = format!("{base}/image");
    sh(&format!(
        "fallocate -l 128M {image} && mkfs.ext4 -q {image} && sync"
    ));
    (base, node.attach(Path::new(&image)))
}

/// A file system that is frozen for as long as this is there: one that stays so holds up all who look for devices.
struct Frozen<'a>(&'a str);

impl<'a> Frozen<'a> {
    fn new(directory: &'a str) -> Self {
        sh(&format!("fsfreeze --freeze {directory}"));
        Self(directory)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // Somebody else may have done so.
        let _ = try_sh(&format!("fsfreeze --unfreeze {}", self.0));
    }
}

#[test]
#[ignore = "needs root"]
fn without_a_record_every_device_that_the_uuid_may_mean_is_looked_at() {
    let node = Node::new("nore");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &uuid_of(&device), "/data");
    fs.run("start").expect(0);
    let stranger = intruder(&node, &vserver);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    eventually("the cell's PID 1 has died", || {
        node.processes(&vserver).is_empty()
    });
    sh(&format!("rm /run/berth/device.d/{vserver}-data"));
    let copy = node.copy(&device);
    refused(fs.run("monitor"), 1, &["still held"]);
    // Nor does a name that leads nowhere prove anything, where a cell has it attached.
    let nowhere = fs.clone().parameter("device", "LABEL=none-such");
    refused(nowhere.run("monitor"), 1, &["/data", "still held"]);
    fs.run("stop").expect(0);
    assert!(!lives(stranger));
    node.assert_gone(&vserver, &[&device, &copy]);
}

#[test]
#[ignore = "needs root"]
fn without_a_record_a_monitor_makes_one_up_and_a_stop_waits_for_what_the_kernel_still_writes() {
    let node = Node::new("late");
    let vserver = node.vserver('a');
    let (base, device) = freezable(&node, &vserver);
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("CRM_meta_timeout", "60000");
    let record = format!("/run/berth/device.d/{vserver}-data");
    fs.run("start").expect(0);
    let had = number_on_record(&vserver);
    // As a keeper of an older version has left it.
    sh(&format!("rm {record}"));
    fs.run("monitor").expect(0);
    assert_eq!(number_on_record(&vserver), had);

    let (good, text) = inside(
        &vserver,
        "dd if=/dev/urandom of=/data/x bs=1M count=8 status=none",
    );
    assert!(good, "{text}");
    sh(&format!("rm {record}"));
    let frozen = Frozen::new(&base);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    let mut thaw = node.shell(&format!("echo; sleep 4; fsfreeze --unfreeze {base}"));
    fs.run("stop").expect(0);
    thaw.wait().expect("its end");
    drop(frozen);
    let logged = node.logged();
    assert!(!logged.contains("is not used by this resource"), "{logged}");
    node.assert_gone(&vserver, &[&device]);
    node.detach(&device);
    sh(&format!("umount {base}"));
}

#[test]
#[ignore = "needs root"]
fn a_file_system_that_was_never_mounted_is_put_on_record_again_by_a_monitor() {
    let node = Node::new("unmet");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    mark_damaged(&device);
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("repair", "never");
    fs.run("start").expect(0);
    let had = number_on_record(&vserver);
    sh(&format!("rm /run/berth/device.d/{vserver}-data"));
    monitor(&fs).run("monitor").expect(190);
    assert_eq!(number_on_record(&vserver), had);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn what_somebody_shows_in_a_namespace_of_his_own_keeps_nobody_waiting_and_is_no_cell() {
    let node = Node::new("fake");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, "LABEL=none-such", "/data");
    let there = fs.clone().parameter("device", &device);
    // The tree that a cell has, with a name that keeps its reader waiting, and what looks like the file system.
    let root = format!("/run/{vserver}-root");
    let cell = format!(
        "mount -t tmpfs berth {root} && cd {root} && mkdir -p usr proc run/berth data old && \
         mount --rbind /usr usr && ln -s usr/bin bin && ln -s usr/lib lib && ln -s usr/lib64 lib64 && \
         mount -t tmpfs {device} data && mkfifo run/berth/vserver && pivot_root . old && \
         echo && exec /usr/bin/sleep 1000"
    );
    sh(&format!("mkdir {root}"));
    let mut forger = node.shell(&format!("exec unshare -Urm sh -c '{cell}'"));
    fs.run("monitor").expect(7);
    fs.run("stop").expect(0);
    there.run("start").expect(0);
    there.run("monitor").expect(0);
    there.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    forger.kill().expect("a process");
    forger.wait().expect("its end");
}

#[test]
#[ignore = "needs root"]
fn a_mount_table_too_large_to_be_read_keeps_no_file_system_from_its_server() {
    let node = Node::new("huge");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let script = format!("/run/{vserver}.py");
    let text = "import ctypes, time\n\
                mount = ctypes.CDLL(None).mount\n\
                for _ in range(4500):\n    \
                    assert mount(b'x' * 4000, b'/run/full', b'tmpfs', 0, b'size=4k') == 0\n\
                print(flush=True)\n\
                time.sleep(1000)\n";
    fs::write(Path::new("/proc/thread-self/root").join(&script[1..]), text).expect("a script");
    let mut other = node.shell(&format!(
        "mkdir /run/full && exec unshare --mount --propagation private /usr/bin/env python3 {script}"
    ));
    // Reading it costs everybody on the machine: not for longer than it takes.
    let outcome = fs.run("start");
    other.kill().expect("a process");
    other.wait().expect("its end");
    outcome.expect(0);
    assert!(node.logged().contains("too large"), "{}", node.logged());
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_full_run_fails_no_start_and_no_stop() {
    let node = Node::new("full");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    sh("mount -o remount,size=$(($(df -k --output=used /run | tail -1) + 512))k /run");
    for uuid in [false, true] {
        try_sh("cat /dev/zero >/run/filler");
        let fs = match uuid {
            true => fs.clone().parameter("device", &uuid_of(&device)),
            false => fs.clone(),
        };
        fs.run("start").expect(0);
        assert_eq!(records(), [""; 0]);
        fs.run("monitor").expect(0);
        let stranger = intruder(&node, &vserver);
        signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
        eventually("the cell's PID 1 has died", || {
            node.processes(&vserver).is_empty()
        });
        fs.run("monitor").expect(1);
        fs.run("stop").expect(0);
        assert!(!lives(stranger));
        node.assert_gone(&vserver, &[&device]);
        fs.run("start").expect(0);
        let (good, text) = inside(&vserver, "cat /proc/self/mountinfo");
        assert!(good && text.contains(" /data "), "{text}");
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        fs::remove_file(Path::new("/proc/thread-self/root/run/filler")).expect("the filler");
    }

    // The room of one record is the next one's.
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    for _ in 0..3 {
        try_sh("cat /dev/zero >>/run/filler");
        fs.run("start").expect(0);
        assert_eq!(records(), [format!("{vserver}-data")]);
        fs.run("stop").expect(0);
        assert_eq!(records(), [""; 0]);
    }
}

#[test]
#[ignore = "needs root"]
fn keepers_that_hang_cost_the_stop_of_another_one_s_resource_no_more_than_one_does() {
    let node = Node::new("hang");
    let all = ['a', 'b', 'c'].map(|which| node.vserver(which));
    let devices = [(); 3].map(|()| node.disk("ext4"));
    // A directory lists what is newest first.
    let calls: Vec<_> = (0..3)
        .map(|n| node.fs(&all[n], &devices[n], "/data"))
        .collect();
    for call in &calls {
        call.run("start").expect(0);
    }
    let hung = [1, 2].map(|n| node.process(&all[n], "berth-keeper"));
    for keeper in hung {
        signal(keeper, Signal::SIGSTOP);
    }
    sh(&format!("rm /run/berth/device.d/{}-data", all[0]));
    calls[0]
        .clone()
        .parameter("vserver", "hang-none")
        .parameter("CRM_meta_timeout", "13000")
        .run("stop")
        .expect(0);
    for keeper in hung {
        signal(keeper, Signal::SIGCONT);
    }
    let logged = node.logged();
    assert!(!logged.contains("killing it"), "{logged}");
    for n in [1, 2] {
        calls[n].run("monitor").expect(0);
        calls[n].run("stop").expect(0);
    }
    for n in 0..3 {
        node.assert_gone(&all[n], &[&devices[n]]);
    }
}

#[test]
#[ignore = "needs root"]
fn without_room_for_the_locks_one_at_a_time_has_all_of_them() {
    let _node = Node::new("lock");
    let (now, later) = (Instant::now(), || Instant::now() + LIMIT);
    let runtime = Path::new("/proc/thread-self/root/run/locks");
    // Room for the directory of the locks and not for their file, and for neither.
    for inodes in [2, 1] {
        sh(&format!(
            "mkdir -p /run/locks && mount -t tmpfs -o mode=700,nr_inodes={inodes} locks /run/locks"
        ));
        let locks = Locks::open(runtime, now).expect("locks");
        assert_eq!(locks.take(7).expect("an answer"), Locked::Had);
        let error = Locks::open(runtime, now).expect_err("it is locked");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
        if inodes == 2 {
            sh("mount -o remount,nr_inodes=9 /run/locks");
            let error = Locks::open(runtime, now).expect_err("it is locked");
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
        }
        drop(locks);
        let one = Locks::open(runtime, later()).expect("locks");
        assert_eq!(one.take(7).expect("an answer"), Locked::Had);
        drop(one);
        sh("umount /run/locks");
    }
}

#[test]
#[ignore = "needs root"]
fn a_device_that_does_not_answer_is_held_where_it_was_attached_and_nowhere_else() {
    let node = Node::new("mute");
    let vserver = node.vserver('a');
    let (base, device) = freezable(&node, &vserver);
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("CRM_meta_timeout", "10000");

    let mut writer = node.shell(&format!(
        "exec 9<>{device}; printf x >&9; echo; exec sleep 1000"
    ));
    let frozen = Frozen::new(&base);
    fs.run("monitor").expect(7);
    fs.run("stop").expect(0);
    assert!(
        node.logged().contains("it does not answer"),
        "{}",
        node.logged()
    );
    drop(frozen);
    writer.kill().expect("a process");
    writer.wait().expect("its end");

    fs.run("start").expect(0);
    let (good, text) = inside(
        &vserver,
        "dd if=/dev/urandom of=/data/x bs=1M count=8 status=none",
    );
    assert!(good, "{text}");
    let frozen = Frozen::new(&base);
    refused(fs.run("stop"), 1, &["still held"]);
    refused(fs.run("monitor"), 1, &["still"]);
    drop(frozen);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    node.detach(&device);
    sh(&format!("umount {base}"));
}

#[test]
#[ignore = "needs root"]
fn a_record_that_can_t_be_read_is_no_proof_and_no_obstacle() {
    let node = Node::new("torn");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    sh(&format!("echo '{{' >/run/berth/device.d/{vserver}-data"));
    fs.run("monitor").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    assert_eq!(records(), [""; 0]);
}
