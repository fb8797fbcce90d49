//! Servers that end: at their start, in service, or with their node.

use nix::sys::signal::Signal;

use super::own_settings;
use crate::node::{Node, eventually, inside, signal};

#[test]
#[ignore = "needs root"]
fn a_server_that_dies_is_reported_at_once_and_starts_again() {
    let node = Node::new("die");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("nfs_clients", "*");
    let servers = node.servers(&vserver, "nfs");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let (_, pid) = inside(&vserver, "grep -sl ganesha /proc/[0-9]*/comm | cut -d/ -f3");
    let (good, text) = inside(&vserver, &format!("kill -9 {}", pid.trim()));
    assert!(good, "{text}");
    node.await_report(&vserver);
    let outcome = servers.run("monitor").expect(1);
    assert!(
        outcome
            .stderr
            .contains("server nfs has ended: signal SIGKILL"),
        "{outcome}"
    );
    servers.run("stop").expect(0);
    servers.run("start").expect(0);
    servers.run("monitor").expect(0);
    fs.run("monitor").expect(0);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    node.await_report(&format!("{vserver}-data"));
    let of_servers = format!("--fail -r {vserver} -N ");
    let told = || {
        node.reports()
            .iter()
            .filter(|r| r.starts_with(&of_servers))
            .count()
    };
    eventually("the servers are reported again", || told() == 2);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_server_that_ends_at_its_start_says_why() {
    let node = Node::new("why");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let own = own_settings();
    let write = |name: &str, text: &str| {
        std::fs::write(format!("{own}/{name}"), text).expect("a file of the admin's");
    };
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    for (service, file, text, words) in [
        (
            "nfs",
            "ganesha.conf",
            "%include \"/nowhere/at.all\"\n",
            "open error (No such file or directory)",
        ),
        (
            "smb",
            "smb.conf",
            "passdb backend = elsewhere\n",
            "elsewhere",
        ),
    ] {
        write(file, text);
        let servers = node.servers(&vserver, service).parameter("config_dir", own);
        let outcome = servers.run("start").expect(1);
        assert!(outcome.stderr.contains(words), "{outcome}");
        servers.run("stop").expect(0);
        write(file, "");
        servers.run("start").expect(0);
        servers.run("stop").expect(0);
    }
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn servers_need_a_home_and_a_program_that_stays() {
    let node = Node::new("home");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 600");
    let outcome = servers.run("start").expect(1);
    assert!(outcome.stderr.contains("home"), "{outcome}");
    servers.run("stop").expect(0);
    node.assert_gone(&vserver, &[]);

    let (home, data) = (
        node.fs(&vserver, &one, "/home2"),
        node.fs(&vserver, &other, "/data"),
    );
    home.run("start").expect(0);
    let hasty = servers
        .clone()
        .parameter("command", "/bin/sh -c 'echo no; exit 3'");
    let outcome = hasty.run("start").expect(1);
    assert!(
        outcome.stderr.contains("command 1 ended: exit code 3: no"),
        "{outcome}"
    );
    hasty.run("stop").expect(0);
    servers.run("start").expect(0);
    servers.run("stop").expect(0);
    data.run("start").expect(0);
    // The choice that was made while there was only one stands as long as the cell lives.
    servers.run("start").expect(0);
    servers.run("stop").expect(0);
    data.run("stop").expect(0);
    home.run("stop").expect(0);

    data.run("start").expect(0);
    home.run("start").expect(0);
    let outcome = servers.run("start").expect(6);
    assert!(outcome.stderr.contains("parameter home"), "{outcome}");
    servers.run("stop").expect(0);
    data.run("stop").expect(0);
    home.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn a_shutdown_of_the_node_ends_the_cell_in_good_order_and_unreported() {
    let node = Node::new("down");
    let (vserver, device) = (node.vserver('a'), node.disk("xfs"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("nfs_clients", "*");
    let servers = node.servers(&vserver, "nfs smb");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGTERM);
    eventually("the cell has ended", || node.processes(&vserver).is_empty());
    node.assert_gone(&vserver, &[&device]);
    assert_eq!(node.reports(), Vec::<String>::new());
    servers.run("monitor").expect(7);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
}
