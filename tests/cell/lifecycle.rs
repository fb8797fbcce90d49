//! From the first start to the last stop.

use berth::cell::state::{Defect, VolumePhase};

use crate::disk::mark_damaged;
use crate::node::{Node, host_mounts, inside, sh, try_sh};

#[test]
#[ignore = "needs root"]
fn each_type_of_file_system_is_attached_in_the_cell_only() {
    let node = Node::new("life");
    let vserver = node.vserver('a');
    for fstype in ["ext4", "xfs", "btrfs"] {
        let device = node.disk(fstype);
        let fs = node.fs(&vserver, &device, "/data");
        fs.run("monitor").expect(7);
        fs.run("start").expect(0);
        fs.run("monitor").expect(0);
        let name = device.rsplit('/').next().expect("a name");
        assert!(
            !host_mounts().contains(&format!("/{name} ")),
            "{}",
            host_mounts()
        );
        let (good, table) = inside(&vserver, "cat /proc/self/mountinfo");
        assert!(
            good && table.contains(&format!(
                " /data rw,nosuid,nodev,relatime - {fstype} {device} "
            )),
            "{table}"
        );
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        fs.run("monitor").expect(7);
    }
}

#[test]
#[ignore = "needs root"]
fn starting_and_stopping_twice_is_as_good_as_once() {
    let node = Node::new("twice");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("stop").expect(0);
    fs.run("start").expect(0);
    let keeper = node.process(&vserver, "berth-keeper");
    fs.run("start").expect(0);
    assert_eq!(node.process(&vserver, "berth-keeper"), keeper);
    fs.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn an_interface_of_somebody_else_with_the_cells_name_is_left_alone() {
    let node = Node::new("their");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let theirs = format!("b-{vserver}");
    sh(&format!("ip link add {theirs} type bridge"));
    let before = sh(&format!("ip -o link show {theirs}"));
    let refused = fs.run("start");
    refused.expect_reason(&[&format!("{theirs} is not berth's"), "rename it"]);
    fs.run("stop").expect(0);
    let now = sh(&format!("ip -o link show {theirs}"));
    sh(&format!("ip link del {theirs}"));
    assert_eq!(now, before);
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_file_system_is_found_by_uuid_and_label() {
    let node = Node::new("name");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let label = format!("L{vserver}");
    sh(&format!("e2label {device} {label}"));
    let uuid = sh(&format!("blkid -o value -s UUID {device}"));
    for spec in [format!("LABEL={label}"), format!("UUID={}", uuid.trim())] {
        let fs = node.fs(&vserver, &spec, "/data");
        fs.run("start").expect(0);
        fs.run("monitor").expect(0);
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
}

#[test]
#[ignore = "needs root"]
fn parallel_starts_share_one_cell_and_the_last_stop_ends_it() {
    let node = Node::new("many");
    let vserver = node.vserver('a');
    let disks: Vec<String> = (0..4).map(|_| node.disk("ext4")).collect();
    let calls: Vec<_> = disks
        .iter()
        .enumerate()
        .map(|(i, disk)| node.fs(&vserver, disk, &format!("/data{i}")))
        .collect();
    let all = |action: &str| {
        let runs: Vec<_> = calls.iter().map(|call| call.start(action)).collect();
        for run in runs {
            run.wait().expect(0);
        }
    };
    all("start");
    let keepers = node.processes(&vserver);
    let keepers = keepers
        .iter()
        .filter(|(_, name)| name == "berth-keeper")
        .count();
    assert_eq!(keepers, 1);
    calls[0].run("stop").expect(0);
    calls[0].run("monitor").expect(7);
    for call in &calls[1..] {
        call.run("monitor").expect(0);
    }
    all("stop");
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    node.assert_gone(&vserver, &disks);
}

#[test]
#[ignore = "needs root"]
fn who_uses_a_file_system_is_ended_by_its_stop_and_nobody_else() {
    let node = Node::new("busy");
    let vserver = node.vserver('a');
    let one = node.disk("ext4");
    let home = node.fs(&vserver, &one, "/home2");
    home.run("start").expect(0);
    let init = node.process(&vserver, "berth-init");
    for fstype in ["ext4", "xfs", "btrfs"] {
        let other = node.disk(fstype);
        let data = node.fs(&vserver, &other, "/data");
        data.run("start").expect(0);
        // A subvolume has a device number of its own; a file that is only mapped is open nowhere.
        let below = if fstype == "btrfs" {
            sh(&format!(
                "nsenter -t {init} -m btrfs -q subvolume create /data/below"
            ));
            "/data/below"
        } else {
            "/data"
        };
        let (good, _) = inside(
            &vserver,
            &format!("cd {below}; setsid sleep 600 >/dev/null 2>&1 & exec sleep 0"),
        );
        assert!(good);
        let (good, _) = inside(
            &vserver,
            &format!("setsid sleep 600 >{below}/file 2>&1 & exec sleep 0"),
        );
        assert!(good);
        data.run("stop").expect(0);
        home.run("monitor").expect(0);
        assert_eq!(node.process(&vserver, "berth-init"), init, "{fstype}");
    }
    home.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one]);
}

#[test]
#[ignore = "needs root"]
fn a_file_system_with_noted_damage_is_repaired_beside_and_then_attached() {
    let node = Node::new("mend");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    // "errors detected": what the kernel notes in the superblock of a damaged ext4.
    mark_damaged(&device);
    let fs = node.fs(&vserver, &device, "/data");
    fs.clone()
        .parameter("repair", "never")
        .run("start")
        .expect(0);
    let monitor = fs.clone().parameter("CRM_meta_interval", "10000");
    monitor.run("monitor").expect(190);
    let is_blocked = |phase: &VolumePhase| matches!(phase, VolumePhase::Blocked { .. });
    let blocked = node.await_phase(&vserver, "/data", is_blocked);
    assert_eq!(blocked.defect, Some(Defect::Noted));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    fs.run("start").expect(0);
    crate::node::eventually("it is repaired", || monitor.run("monitor").code == Some(0));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    let (_, state) = try_sh(&format!("dumpe2fs -h {device} | grep state"));
    assert!(state.contains("clean"), "{state}");
}

#[test]
#[ignore = "needs root"]
fn a_reload_starts_no_address_that_does_not_run() {
    let node = Node::new("reload");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh("ip link add a0 type veth peer name a1 && ip addr add 10.1.0.1/24 dev a0");
    sh("ip link set a0 up && ip link set a1 up");
    let (fs, vip) = (
        node.fs(&vserver, &device, "/data"),
        node.vip(&vserver, "10.1.0.50"),
    );
    fs.run("start").expect(0);
    vip.run("reload-agent").expect(1);
    vip.run("monitor").expect(7);
    vip.run("start").expect(0);
    vip.run("reload-agent").expect(0);
    vip.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
