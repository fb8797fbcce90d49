//! A home file system without a byte or an inode left.

use crate::node::{Node, eventually, in_network, inside};
use berth::types::VserverName;

/// Fills the file system at this place of a cell to its last byte and its last inode.
fn fill(vserver: &VserverName, directory: &str) {
    let script = format!(
        "cd {directory} && mkdir -p fill && cd fill
         cat /dev/zero >bytes-$$
         for kind in 'echo x >' 'true >' mkdir; do
             n=0; while eval \"$kind $$-$n-${{kind%% *}}\" 2>/dev/null; do n=$((n + 1)); done
         done
         cat /dev/zero >rest-$$
         ! mkdir more"
    );
    let (full, text) = inside(vserver, &format!("({script}) 2>&1"));
    assert!(full && text.contains("No space left"), "{text}");
}

#[test]
#[ignore = "needs root"]
fn what_is_on_a_full_home_can_be_read_and_deleted_and_servers_start_on_it() {
    let node = Node::new("full");
    for (which, kind) in [('a', "ext4"), ('b', "xfs"), ('c', "btrfs")] {
        let (vserver, device) = (node.vserver(which), node.disk(kind));
        let fs = node
            .fs(&vserver, &device, "/data")
            .parameter("nfs_clients", "*")
            .parameter("smb_share", "data");
        let servers = node
            .servers(&vserver, "nfs smb")
            .parameter("nfs_lease", "5")
            .parameter("nfs_grace", "6");
        let deep = servers.clone().variable("OCF_CHECK_LEVEL", "10");
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        let (good, text) = inside(
            &vserver,
            "cd /data && mkdir -m 777 open && cd open && for n in 1 2 3; do echo old >$n; done \
             && printf 'secret\nsecret\n' | pdbedit -s /run/berth/smb.conf -a -t -u games",
        );
        assert!(good, "{text}");
        let smb = |work: &str| {
            let client = "smbclient -U games%secret //127.0.0.1/data -D open -c";
            let (good, text) = inside(&vserver, &format!("{client} '{work}'"));
            assert!(good && !text.contains("NT_STATUS"), "{kind}: {text}");
        };
        let reads = || {
            let call = "nfs-cat 'nfs://127.0.0.1/data/open/1?version=4'";
            in_network(&vserver, call).1.contains("old")
        };
        fill(&vserver, "/data");
        smb("get 1 /tmp/1; rm 2");
        assert!(reads(), "{kind}");
        deep.run("monitor").expect(0);
        fill(&vserver, "/data");
        servers.run("stop").expect(0);
        fill(&vserver, "/data");
        servers.run("start").expect(0);
        deep.run("monitor").expect(0);
        smb("get 1 /tmp/1; rm 3");
        eventually("it is read", reads);
        servers.run("stop").expect(0);
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
}

#[test]
#[ignore = "needs root"]
fn new_servers_on_a_full_home_say_that_it_is_full() {
    let node = Node::new("new");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let refused = |services: &str| {
        fill(&vserver, "/data");
        let servers = node.servers(&vserver, services);
        let outcome = servers.run("start").expect(1);
        servers.run("stop").expect(0);
        outcome.stderr
    };
    let text = refused("nfs");
    assert!(text.contains("/data") && text.contains("is full"), "{text}");
    // Samba has never run there, and has a state of its own.
    assert!(inside(&vserver, "rm -r /data/fill").0);
    let servers = node.servers(&vserver, "nfs");
    servers.run("start").expect(0);
    servers.run("stop").expect(0);
    let text = refused("nfs smb");
    assert!(text.contains("is full"), "{text}");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
