//! Where a cell has all the processes that it may have: what berth itself can still do there.

use std::process::Stdio;

use berth::sys::command::command;

use crate::node::{Node, eventually, sh};

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
