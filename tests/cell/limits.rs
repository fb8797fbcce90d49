//! What a cell may use, and that nobody in it is left over or escapes it.

use std::fs;
use std::process::Child;

use berth::sys::cgroup::Group;
use berth::types::VserverName;
use nix::sys::signal::Signal;

use crate::common::AgentCall;
use crate::disk::mark_damaged;
use crate::groups::Groups;
use crate::node::{Node, eventually, sh, signal, try_sh};

/// A process of the host in this group.
fn stranger(node: &Node, group: &Group) -> Child {
    let procs = group.path().join("cgroup.procs");
    let child = node.shell(&format!(
        "echo 0 >{}; echo; exec sleep 1000",
        procs.display()
    ));
    let pid = i32::try_from(child.id()).expect("a number");
    assert!(group.processes().expect("a group").contains(&pid));
    child
}

#[track_caller]
fn await_killed(mut child: Child) {
    use std::os::unix::process::ExitStatusExt;
    eventually("whoever was in the group is dead", || {
        let pid = child.id();
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
    });
    assert_eq!(child.wait().expect("its end").signal(), Some(libc::SIGKILL));
}

fn name_of(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn names_in(group: &Group) -> Vec<String> {
    let mut names: Vec<String> = group
        .processes()
        .expect("a group")
        .into_iter()
        .map(name_of)
        .collect();
    names.sort();
    names
}

#[test]
#[ignore = "needs root"]
fn all_of_a_cell_is_in_its_group_and_the_keeper_beside_it_and_none_is_left() {
    let node = Node::new("grp");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 1000");
    let groups = Groups::of(&vserver);
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    assert_eq!(names_in(&groups.child("cell")), ["berth-init", "sleep"]);
    assert_eq!(
        names_in(&groups.child("keeper")),
        ["berth-keeper", "berth-sentinel"]
    );
    assert!(names_in(&groups.child("repair")).is_empty());
    assert!(names_in(&groups).is_empty());
    // From inside it is the root of all.
    let init = node.process(&vserver, "berth-init");
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/cgroup")).expect("a link");
    assert_ne!(namespace(&init.to_string()), namespace("self"));
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    eventually("its groups are gone", || Groups::are_gone(&vserver));
    let used = format!("{vserver} used ");
    assert!(node.logged().contains(&used), "{}", node.logged());
}

#[test]
#[ignore = "needs root"]
fn who_has_joined_a_cell_from_outside_ends_with_it() {
    let node = Node::new("join");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let stranger = stranger(&node, &Groups::of(&vserver).child("cell"));
    fs.run("stop").expect(0);
    await_killed(stranger);
    node.assert_gone(&vserver, &[&device]);
    eventually("its groups are gone", || Groups::are_gone(&vserver));
}

#[test]
#[ignore = "needs root"]
fn what_a_dead_keeper_leaves_in_its_groups_is_killed_by_the_next_stop_or_start() {
    let node = Node::new("dead");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let groups = Groups::of(&vserver);
    for next in ["stop", "start"] {
        for group in ["cell", "repair"] {
            fs.run("start").expect(0);
            let stranger = stranger(&node, &groups.child(group));
            signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
            eventually("the keeper is dead", || {
                let left = node.processes(&vserver);
                !left.iter().any(|(_, name)| name == "berth-keeper")
            });
            fs.run(next).expect(0);
            await_killed(stranger);
            if next == "start" {
                assert_eq!(names_in(&groups.child("cell")), ["berth-init"]);
            }
            fs.run("stop").expect(0);
            node.assert_gone(&vserver, &[&device]);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn where_there_are_no_control_groups_a_cell_runs_without_limits_and_says_so() {
    let node = Node::new("nogrp");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 1000")
        .parameter("pids_max", "100");
    let serve = || {
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        servers.run("monitor").expect(0);
        let limits = node.state(&vserver).limits.expect("limits");
        servers.run("stop").expect(0);
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        limits.missing.expect("they are not in force")
    };
    sh("mount -o remount,bind,ro /sys/fs/cgroup");
    let missing = serve();
    let says = |why: &str| {
        let line = format!("limits of {vserver} are not in force: {why}");
        let log = node.logged();
        let lines = log.lines().filter(|l| l.contains(&line));
        assert_eq!(lines.count(), 1, "{line}: {log}");
    };
    says("make /sys/fs/cgroup/berth: Read-only file system");
    let why = "make /sys/fs/cgroup/berth: Read-only file system";
    assert!(missing.starts_with(why), "{missing}");
    sh("mount -t tmpfs none /sys/fs/cgroup");
    assert_eq!(serve(), "no cgroup v2 file system is mounted");
    says("no cgroup v2 file system is mounted");
    let asked = servers.variable("OCF_CHECK_LEVEL", "10");
    asked.run("validate-all").expect(0);
    let line = "limits will not be in force: no cgroup v2 file system is mounted";
    assert!(node.logged().contains(line), "{}", node.logged());
}

#[test]
fn limits_that_are_nonsense_are_refused_in_one_line() {
    for (parameter, value, why) in [
        ("memory_max", "0", "'0' is nothing: 4G, 512M or 50%"),
        ("memory_max", "4", "'4' is 4 bytes: say 4G or 4M"),
        ("memory_max", "-1G", "'-1G' is no amount of memory"),
        ("memory_max", "101%", "'101%' is more than there is"),
        ("memory_max", "64M", "'64M' is too little"),
        ("pids_max", "0", "'0' is not a whole number from 64 to"),
        ("pids_max", "-5", "'-5' is not a whole number from 64 to"),
        ("pids_max", "63", "'63' is not a whole number from 64 to"),
        (
            "cpu_weight",
            "0",
            "'0' is not a whole number from 1 to 10000",
        ),
        (
            "io_weight",
            "10001",
            "'10001' is not a whole number from 1 to",
        ),
    ] {
        AgentCall::new(env!("CARGO_BIN_EXE_vserver"))
            .parameter("name", "alpha")
            .parameter(parameter, value)
            .run("validate-all")
            .expect(6)
            .expect_reason(&[parameter, why]);
    }
}

#[test]
#[ignore = "needs root"]
fn more_than_the_node_has_is_taken_with_a_warning() {
    let call = AgentCall::new(env!("CARGO_BIN_EXE_vserver"))
        .parameter("name", "alpha")
        .parameter("services", "none")
        .parameter("command", "/bin/sleep 9")
        .parameter("memory_max", "500T")
        .parameter("pids_max", "4194304");
    call.run("validate-all").expect(0);
    let warned = call.variable("OCF_CHECK_LEVEL", "10").run("validate-all");
    let warned = warned.expect(0).stderr;
    let line = "memory_max = 500T is more than this node has, which is ";
    assert!(warned.contains(line), "{warned}");
}

fn score(pid: i32) -> i32 {
    let path = format!("/proc/{pid}/oom_score_adj");
    let text = fs::read_to_string(path).expect("a score");
    text.trim().parse().expect("a number")
}

/// Whether this machine lets anybody lower a score: not in every container.
fn may_protect() -> bool {
    try_sh("echo -900 >/proc/self/oom_score_adj").0
}

#[test]
#[ignore = "needs root"]
fn servers_are_ended_for_want_of_memory_before_whom_all_depends_on() {
    let node = Node::new("oom");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    // An agent that is itself ended sooner than others.
    let fs = node.fs(&vserver, &device, "/data").oom_score(c"300");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 1000")
        .oom_score(c"300");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let expected = match may_protect() {
        true => [-900, -900, -500],
        false => [300; 3],
    };
    let own = ["berth-keeper", "berth-sentinel", "berth-init"];
    let own = own.map(|name| score(node.process(&vserver, name)));
    assert_eq!(own, expected);
    let cell = Groups::of(&vserver).child("cell");
    let all = cell.processes().expect("a group");
    let server = all.into_iter().find(|pid| name_of(*pid) == "sleep");
    assert_eq!(score(server.expect("a server")), 0);
    let exec = format!(
        "echo 300 >/proc/self/oom_score_adj; {} exec {vserver} -- cat /proc/self/oom_score_adj",
        env!("CARGO_BIN_EXE_berth")
    );
    assert_eq!(sh(&exec).trim(), "0");
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn who_is_let_into_a_cell_is_within_its_limits() {
    let node = Node::new("lexec");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let berth = env!("CARGO_BIN_EXE_berth");
    let mut child = node.shell(&format!(
        "exec {berth} exec {vserver} -- sh -c 'echo; exec sleep 1000'"
    ));
    let cell = Groups::of(&vserver).child("cell");
    eventually("the program is in the group", || {
        names_in(&cell) == ["berth-init", "sleep"]
    });
    fs.run("stop").expect(0);
    child.wait().expect("its end");
    node.assert_gone(&vserver, &[&device]);
}

/// Panics unless the log says once that the controllers which are missing here are.
#[track_caller]
fn assert_missing(node: &Node, vserver: &VserverName, controller: &str) {
    let line = format!("limits of {vserver} are not in force: this node's ");
    let log = node.logged();
    let mut lines = log.lines().filter(|l| l.contains(&line));
    let said = lines.next().unwrap_or_else(|| panic!("{line}: {log}"));
    assert!(said.contains(controller), "{said}");
    assert_eq!(lines.next(), None);
}

#[test]
#[ignore = "needs root"]
fn a_fork_bomb_stays_within_its_cell() {
    let node = Node::new("bomb");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    // Each that can't be born is waited for in vain.
    let bomb = "i=0; while [ $i -lt 300 ]; do (sleep 1000 &); i=$((i+1)); done; exec sleep 1000";
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", &format!("/bin/sh -c '{bomb}'"))
        .parameter("pids_max", "64")
        .parameter("cpu_weight", "50");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let cell = Groups::of(&vserver).child("cell");
    if Groups::have("pids") {
        assert_eq!(cell.read("pids.max").expect("a limit").trim(), "64");
        let line = format!("{vserver}: it can start no more processes: pids_max = 64, ");
        eventually("it is said", || node.logged().contains(&line));
        assert!(cell.processes().expect("a group").len() <= 64);
        // The node, and the cell's own PID 1, go on.
        fs.run("monitor").expect(0);
    } else {
        assert_missing(&node, &vserver, "pids");
    }
    if Groups::have("cpu") {
        // That of all of it, among its like.
        let all = Groups::of(&vserver);
        assert_eq!(all.read("cpu.weight").expect("a weight").trim(), "50");
    }
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn who_wants_too_much_memory_is_ended_and_costs_his_own_cell_alone() {
    let node = Node::new("hog");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let (other, second) = (node.vserver('b'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let hog =
        "python3 -c 'import time; time.sleep(0.5); x = bytearray(400 << 20); time.sleep(1000)'";
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", hog)
        .parameter("memory_max", "128M");
    let neighbour = node.fs(&other, &second, "/data");
    neighbour.run("start").expect(0);
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    if Groups::have("memory") {
        let cell = Groups::of(&vserver).child("cell");
        let limit = |file: &str| cell.read(file).expect("a limit").trim().to_owned();
        assert_eq!(limit("memory.max"), (128 << 20).to_string());
        assert_eq!(limit("memory.oom.group"), "0");
        node.await_report(&vserver);
        let line = format!(
            "{vserver}: the kernel has ended a process for want of memory: memory_max = 128M, 1 time so far"
        );
        eventually("it is said", || node.logged().contains(&line));
        servers.run("monitor").expect(1);
        fs.run("monitor").expect(0);
    } else {
        assert_missing(&node, &vserver, "memory");
    }
    neighbour.run("monitor").expect(0);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    neighbour.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    node.assert_gone(&other, &[&second]);
}

#[test]
#[ignore = "needs root"]
fn limits_are_changed_without_a_restart() {
    let node = Node::new("relim");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 1000");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let cell = Groups::of(&vserver).child("cell");
    let before = cell.processes().expect("a group");
    let other = servers
        .clone()
        .parameter("pids_max", "200")
        .parameter("memory_max", "1G");
    other.run("reload-agent").expect(0);
    for (controller, file, value) in [
        ("pids", "pids.max", "200"),
        ("memory", "memory.max", "1073741824"),
    ] {
        if Groups::have(controller) {
            assert_eq!(cell.read(file).expect("a limit").trim(), value);
        }
    }
    // Whoever starts it again with these finds it as it should be; with others it is another one.
    other.run("start").expect(0);
    servers.run("start").expect(1);
    other.run("monitor").expect(0);
    assert_eq!(cell.processes().expect("a group"), before);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    other.run("reload-agent").expect(1);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_repair_is_in_a_group_of_its_own_and_is_ended_before_all_others() {
    let node = Node::new("mendg");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    mark_damaged(&device);
    node.slow_down("/usr/sbin/e2fsck", 3.0);
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let repair = Groups::of(&vserver).child("repair");
    let busy = |pid: &i32| name_of(*pid) == "sleep";
    let found = || repair.processes().expect("a group").into_iter().find(busy);
    eventually("it is in the group", || found().is_some());
    assert_eq!(found().map(score), Some(300));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    eventually("its groups are gone", || Groups::are_gone(&vserver));
}
