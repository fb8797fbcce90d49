//! Where a cell has all the processes that it may have: what berth itself can still do there.

use std::process::Stdio;

use berth::sys::command::command;

use crate::groups::Groups;
use crate::node::{Node, eventually, monitor, sh};

/// Holds all numbers that the cell's processes can have until its input ends: they are to be no more than 300, and each
/// that ends is given only once to somebody else until the last one, which is given again and again.
const HOLD: &str = "echo 301 >/proc/sys/kernel/pid_max; i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done; \
                    (echo held; exec cat)";

#[test]
#[ignore = "needs root"]
fn a_file_system_is_detached_once_a_process_can_be_born_and_the_cell_lives_on() {
    let release = sh("uname -r");
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        // Before Linux 6.14 the number of processes was limited for the whole machine alone.
        return;
    }
    let node = Node::new("unborn");
    let vserver = node.vserver('a');
    let (first, second) = (node.disk("ext4"), node.disk("ext4"));
    let (one, two) = (
        node.fs(&vserver, &first, "/data"),
        node.fs(&vserver, &second, "/more"),
    );
    one.run("start").expect(0);
    two.run("start").expect(0);
    let init = node.process(&vserver, "berth-init");
    let mut holder = command("/usr/bin/nsenter");
    holder.args(["-t", &init.to_string(), "-p", "/bin/sh", "-c", HOLD]);
    holder.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().expect("a holder");
    let mut said = [0; 4];
    let output = holder.stdout.as_mut().expect("its output");
    std::io::Read::read_exact(output, &mut said).expect("a word of it");
    let stop = two.start("stop");
    let line = "detach /more: no process can be born for it, trying again";
    eventually("it is tried again", || node.logged().contains(line));
    // With its input it ends.
    drop(holder.stdin.take());
    holder.wait().expect("its end");
    stop.wait().expect(0);
    one.run("monitor").expect(0);
    assert_eq!(node.process(&vserver, "berth-init"), init);
    one.run("stop").expect(0);
    node.assert_gone(&vserver, &[&first, &second]);
}

/// Has as many processes as it gets, in one line of a shell.
const BOMB: &str = r#"/usr/bin/python3 -c 'exec("import os, time\nwhile True:\n try:\n  os.fork()\n except OSError:\n  time.sleep(1)")'"#;

#[test]
#[ignore = "needs root"]
fn a_server_of_a_cell_that_has_all_its_processes_is_degraded_and_not_failed() {
    let node = Node::new("pids");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("smb_share", "data");
    let servers = node
        .servers(&vserver, "smb")
        .parameter("command", BOMB)
        .parameter("pids_max", "120");
    if !Groups::have("pids") {
        // No limit is in force here, and a bomb would have all of the node's.
        return;
    }
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let deep = monitor(&servers).variable("OCF_CHECK_LEVEL", "10");
    let line = format!("{vserver}: it can start no more processes: pids_max = 120, ");
    eventually("it is said", || node.logged().contains(&line));
    // Between two of the others' tries there may be room for one.
    eventually("it says that it is full", || {
        let outcome = deep.run("monitor");
        assert!([Some(0), Some(190)].contains(&outcome.code), "{outcome}");
        node.logged()
            .contains("has all the processes that its cell may have (pids_max)")
    });
    // All the same its file system can be had free.
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
