//! Wrong parameters and other people's things: one clear line, the right code, nothing changed.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use berth::cell::protocol;
use berth::runtime::paths::RUNTIME;

use crate::node::{Node, sh};

#[test]
#[ignore = "needs root"]
fn wrong_parameters_are_refused_by_name_and_start_nothing() {
    let node = Node::new("bad");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let right = node.fs(&vserver, &device, "/data");
    for (name, value, code, words) in [
        ("vserver", "a-name-far-too-long", 6, "longest"),
        ("vserver", "Alpha", 6, "allowed"),
        ("device", "sdb1", 6, "absolute path"),
        ("device", "/dev/berth-no-such", 2, "/dev/berth-no-such"),
        ("device", "/dev/null", 2, "/dev/null"),
        ("directory", "data", 6, "absolute"),
        ("directory", "/data/../etc", 6, ".."),
        ("directory", "/usr/share", 6, "/usr"),
        ("directory", "/", 6, "root"),
        ("fstype", "ext5", 6, "ext4, xfs"),
        ("fstype", "xfs", 6, "parameter fstype"),
        ("options", "noatime,suid", 6, "suid"),
        ("options", "errors=panic", 6, "whole node"),
        // What this kernel does not know another node's may.
        ("options", "no_such_option", 2, "parameter options"),
        ("repair", "maybe", 6, "preen"),
        ("nfs_clients", "10.0.0.0/99", 6, "10.0.0.0/99"),
        ("nfs_clients", "2001:db8::/112", 6, "single addresses"),
        ("nfs_clients", "0.0.0.0", 6, "* means all"),
        ("nfs_clients", " ", 6, "nothing but blanks"),
        ("smb_share", "IPC$", 6, "IPC$"),
        ("smb_share", "Glo bals", 6, "meaning of its own"),
        ("smb_users", "  ", 6, "nothing but blanks"),
    ] {
        let call = right.clone().parameter(name, value);
        let outcome = call.run("start").expect(code);
        assert!(
            outcome.stderr.contains(words),
            "{words:?} is missing:\n{outcome}"
        );
        // Whatever became of a parameter, the resource can be stopped.
        call.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
    let absent = right.parameter("device", "/dev/berth-no-such");
    absent.run("monitor").expect(7);
}

#[test]
#[ignore = "needs root"]
fn a_device_in_use_is_refused_and_its_user_named() {
    let node = Node::new("used");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    sh(&format!(
        "mkdir -p /run/elsewhere && mount {device} /run/elsewhere"
    ));
    let outcome = fs.run("start").expect(1);
    assert!(outcome.stderr.contains("/run/elsewhere"), "{outcome}");
    assert!(outcome.stderr.contains("parameter device: "), "{outcome}");
    // It is not this resource's: neither running here nor a reason to end the node.
    fs.run("monitor").expect(7);
    fs.run("stop").expect(0);
    assert!(node.logged().contains("mounted at /run/elsewhere"));
    sh("umount /run/elsewhere");
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn an_ext4_that_is_mounted_on_a_living_node_is_refused() {
    let node = Node::new("mmp");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("tune2fs -O mmp -E mmp_update_interval=1 {device}"));
    // Another device on the same image stands for another node's path to the same disk.
    let theirs = node.path_to(&device);
    sh(&format!("mkdir /run/theirs && mount {theirs} /run/theirs"));
    // What another node has mounted is in no mount table of this one.
    let mut inside = node.shell("cd /run/theirs && echo && exec sleep 1000");
    sh("umount --lazy /run/theirs");
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("CRM_meta_timeout", "60000");
    let outcome = fs.run("start").expect(1);
    inside.kill().expect("a process");
    inside.wait().expect("its end");
    node.detach(&theirs);
    assert!(outcome.stderr.contains("is mounted on node"), "{outcome}");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
}

#[test]
#[ignore = "needs root"]
fn two_resources_cannot_have_the_same_or_nested_directories_or_one_device() {
    let node = Node::new("nest");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    let fs = node.fs(&vserver, &one, "/data");
    fs.run("start").expect(0);
    for directory in ["/data/below", "/data"] {
        let call = node.fs(&vserver, &other, directory);
        let call = call.variable("OCF_RESOURCE_INSTANCE", "another");
        let outcome = call.run("start").expect(6);
        assert!(
            outcome.stderr.contains(&format!("{vserver}-data")),
            "{outcome}"
        );
        assert!(
            outcome.stderr.contains("parameter directory: "),
            "{outcome}"
        );
        call.run("stop").expect(0);
    }
    let outcome = node.fs(&vserver, &one, "/other").run("start").expect(6);
    let words = format!("parameter device: {one} is that of");
    assert!(outcome.stderr.contains(&words), "{outcome}");
    fs.run("monitor").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn somebody_else_s_socket_is_left_alone_and_a_dead_one_replaced() {
    let node = Node::new("sock");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    for path in [RUNTIME.into(), protocol::directory(&vserver)] {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .expect("a directory");
    }
    let path = protocol::socket(&vserver);
    sh(&format!(
        "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(\"{}\")'",
        path.display()
    ));
    // Bound once, listened on by nobody.
    fs.run("monitor").expect(7);
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);

    let theirs = UnixListener::bind(&path).expect("a socket of another kind");
    let outcome = fs.run("start").expect(1);
    assert!(
        outcome.stderr.contains(&path.display().to_string()),
        "{outcome}"
    );
    // Nothing is there, whoever sits in the keeper's place: no reason to fence a node.
    let servers = node.servers(&vserver, "none");
    for stopped in [&fs, &servers] {
        stopped.run("monitor").expect(7);
        stopped.run("stop").expect(0);
    }
    assert!(path.exists(), "their socket is gone");
    drop(theirs);
}

#[test]
#[ignore = "needs root"]
fn a_runtime_directory_that_others_can_write_is_not_used() {
    let node = Node::new("open");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let directory = RUNTIME;
    fs::create_dir(directory).expect("a directory");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).expect("its permissions");
    let fs = node.fs(&vserver, &device, "/data");
    let outcome = fs.run("start").expect(1);
    assert!(outcome.stderr.contains(directory), "{outcome}");
    fs.run("stop").expect(0);
}
