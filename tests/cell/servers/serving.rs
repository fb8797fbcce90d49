//! What NFS and Samba serve in cells, while exports come and go.

use crate::node::{Node, eventually, in_network, inside};

#[test]
#[ignore = "needs root"]
fn two_cells_serve_the_same_path_and_share_without_meeting() {
    let node = Node::new("serve");
    let (alpha, beta) = (node.vserver('a'), node.vserver('b'));
    let (one, other) = (node.disk("ext4"), node.disk("xfs"));
    let mut calls = Vec::new();
    for (vserver, disk) in [(&alpha, &one), (&beta, &other)] {
        let fs = node
            .fs(vserver, disk, "/data")
            .parameter("nfs_clients", "*")
            .parameter("nfs_squash", "none")
            .parameter("smb_share", "data");
        let servers = node.servers(vserver, "nfs smb");
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        servers.run("start").expect(0);
        servers.run("monitor").expect(0);
        servers
            .clone()
            .variable("OCF_CHECK_LEVEL", "10")
            .run("monitor")
            .expect(0);
        assert!(inside(vserver, &format!("touch /data/of-{vserver}")).0);
        calls.push((servers, fs));
    }
    for (vserver, foreign) in [(&alpha, &beta), (&beta, &alpha)] {
        let (good, list) = in_network(vserver, "nfs-ls 'nfs://127.0.0.1/data?version=4'");
        assert!(good && list.contains(&format!("of-{vserver}")), "{list}");
        assert!(!list.contains(&format!("of-{foreign}")), "{list}");
        // The servers' own state is not to be had through an export.
        let (_, list) = in_network(vserver, "nfs-ls 'nfs://127.0.0.1/data/.berth?version=4'");
        assert!(!list.contains("smb") && !list.contains("nfs"), "{list}");
        let (good, shares) = inside(vserver, "smbclient -N -L 127.0.0.1");
        assert!(good && shares.contains("data"), "{shares}");
        let (_, sockets) = in_network(vserver, "ss -Hlntu");
        let known = |line: &str| line.contains(":2049 ") || line.contains(":445 ");
        assert!(sockets.lines().all(known), "{sockets}");
    }
    let log = node.logged();
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.to_lowercase().contains("unknown param"))
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
    for (servers, fs) in &calls {
        servers.run("stop").expect(0);
        servers.run("stop").expect(0);
        servers.run("monitor").expect(7);
        fs.run("monitor").expect(0);
        fs.run("stop").expect(0);
    }
    node.assert_gone(&alpha, &[&one]);
    node.assert_gone(&beta, &[&other]);
}

#[test]
#[ignore = "needs root"]
fn exports_come_and_go_while_the_servers_run() {
    let node = Node::new("live");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("btrfs"));
    let home = node
        .fs(&vserver, &one, "/home2")
        .parameter("nfs_clients", "*");
    let data = node.fs(&vserver, &other, "/data");
    let exported = data
        .clone()
        .parameter("nfs_clients", "127.0.0.1")
        .parameter("smb_share", "files");
    let servers = node
        .servers(&vserver, "nfs smb")
        .parameter("home", "/home2");
    home.run("start").expect(0);
    servers.run("start").expect(0);
    let server = || inside(&vserver, "grep -slx ganesha.nfsd /proc/[0-9]*/comm").1;
    let first = server();
    let sees_nfs = || {
        in_network(&vserver, "nfs-ls 'nfs://127.0.0.1/?version=4'")
            .1
            .contains("data")
    };
    let sees_smb = || {
        inside(&vserver, "smbclient -N -L 127.0.0.1")
            .1
            .contains("files")
    };
    assert!(!sees_nfs());
    data.run("start").expect(0);
    assert!(!sees_nfs() && !sees_smb());
    exported.run("reload-agent").expect(0);
    eventually("the export appears", sees_nfs);
    eventually("the share appears", sees_smb);
    data.run("reload-agent").expect(0);
    eventually("the export goes", || !sees_nfs());
    exported.run("reload-agent").expect(0);
    eventually("the export appears again", sees_nfs);
    exported.run("stop").expect(0);
    assert!(!sees_nfs() && !sees_smb());
    servers.run("monitor").expect(0);
    assert!(
        first.contains("comm") && server() == first,
        "it was restarted"
    );
    servers.run("stop").expect(0);
    home.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}
