//! Where systemd governs the node, it makes the group of a cell. Elsewhere there is nothing to see of it.

use std::os::fd::OwnedFd;
use std::path::Path;

use berth::sys::cgroup::{self, Group};
use berth::sys::mount;
use nix::sys::signal::Signal;

use crate::node::{Node, eventually, sh, signal, try_sh};

/// The parts of /run by which systemd is known and reached.
const PARTS: [&str; 2] = ["/run/systemd", "/run/dbus"];

/// A node on which the machine's systemd runs; `None` on a machine without.
fn with_systemd(tag: &str) -> Option<Node> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let copy = |part: &str| mount::clone_tree(rustix::fs::CWD, part).expect("a copy of a mount");
    let parts: Vec<(&str, OwnedFd)> = PARTS.into_iter().map(|p| (p, copy(p))).collect();
    let node = Node::new(tag);
    for (part, copy) in parts {
        std::fs::create_dir_all(part).expect("a directory");
        mount::attach(copy, rustix::fs::CWD, part).expect("a mount");
    }
    // systemd's own hierarchy, in place of a part of it.
    sh("umount /sys/fs/cgroup");
    Some(node)
}

fn group_of(pid: i32) -> String {
    let group = cgroup::of_process(pid).expect("a process");
    group.expect("a group").display().to_string()
}

#[test]
#[ignore = "needs root"]
fn a_cell_is_in_a_scope_of_its_own_beside_the_clusters_service() {
    let Some(node) = with_systemd("scope") else {
        return;
    };
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 1000")
        .parameter("memory_max", "256M")
        .parameter("pids_max", "100")
        .parameter("cpu_weight", "70")
        .parameter("io_weight", "30");
    let scope = format!("berth-{vserver}.scope");
    let base = format!("/berth.slice/{scope}");
    // The second time at once, when the first scope may not have gone yet.
    for _ in 0..2 {
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        for (name, group) in [
            ("berth-keeper", "keeper"),
            ("berth-sentinel", "keeper"),
            ("berth-init", "cell"),
        ] {
            let pid = node.process(&vserver, name);
            assert_eq!(group_of(pid), format!("{base}/{group}"));
        }
        let shown = sh(&format!(
            "systemctl show -p Before -p CollectMode -p Delegate -p TasksMax -p Slice -p ActiveState {scope}"
        ));
        for line in [
            "CollectMode=inactive-or-failed",
            "Delegate=yes",
            "TasksMax=infinity",
            "Slice=berth.slice",
            "ActiveState=active",
        ] {
            assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
        }
        let before = shown.lines().find(|l| l.starts_with("Before="));
        assert!(
            before.is_some_and(|l| l.contains("pacemaker.service")),
            "{shown}"
        );
        let all = Group::at("/sys/fs/cgroup/berth.slice").child(&scope);
        let weight = |file: &str| all.read(file).map(|text| text.trim().to_owned());
        eventually("systemd has set its weight", || {
            weight("cpu.weight").is_ok_and(|text| text == "70")
        });
        // Not every kernel has this one.
        assert!(weight("io.weight").map_or(true, |text| text == "default 30"));
        let cell = all.child("cell");
        for (file, value) in [
            ("memory.max", "268435456"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "0"),
            ("pids.max", "100"),
        ] {
            match cell.read(file) {
                Ok(text) => assert_eq!(text.trim(), value, "{file}"),
                // A kernel without swap.
                Err(e) => assert!(file == "memory.swap.max", "{e}"),
            }
        }
        let text = format!("limits of {vserver} are not in force");
        assert!(!node.logged().contains(&text), "{}", node.logged());
        servers.run("stop").expect(0);
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
    eventually("the scope is gone", || {
        !try_sh(&format!("systemctl is-active {scope}")).0
    });
}

#[test]
#[ignore = "needs root"]
fn a_scope_whose_keeper_was_killed_is_used_again() {
    let Some(node) = with_systemd("rescope") else {
        return;
    };
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let scope = format!("berth-{vserver}.scope");
    for _ in 0..3 {
        fs.run("start").expect(0);
        // Somebody who keeps the scope from going.
        let cell = format!("/sys/fs/cgroup/berth.slice/{scope}/cell/cgroup.procs");
        let mut stranger = node.shell(&format!("echo 0 >{cell}; echo; exec sleep 1000"));
        signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
        eventually("the keeper is dead", || {
            let left = node.processes(&vserver);
            !left.iter().any(|(_, name)| name == "berth-keeper")
        });
        fs.run("start").expect(0);
        stranger.wait().expect("its end");
        let init = node.process(&vserver, "berth-init");
        assert_eq!(group_of(init), format!("/berth.slice/{scope}/cell"));
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
}
