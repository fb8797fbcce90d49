//! Real servers in cells.

use std::time::Instant;

use berth::cell::client::Client;
use berth::cell::protocol::Request;
use nix::sys::signal::Signal;

use crate::common::AgentCall;
use crate::node::{LIMIT, Node, eventually, in_network, inside, sh, signal};

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
    let server = || inside(&vserver, "grep -l ganesha.nfsd /proc/[0-9]*/comm").1;
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
    let (_, pid) = inside(&vserver, "grep -l ganesha /proc/[0-9]*/comm | cut -d/ -f3");
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
    sh("mount -t tmpfs none /opt && mkdir /opt/own");
    let write = |name: &str, text: &str| {
        std::fs::write(format!("/opt/own/{name}"), text).expect("a file of the admin's");
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
        let servers = node
            .servers(&vserver, service)
            .parameter("config_dir", "/opt/own");
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
fn what_the_servers_did_not_take_is_said_of_that_file_system_until_they_take_it() {
    let node = Node::new("take");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    sh("mount -t tmpfs none /opt && mkdir /opt/own");
    let home = node
        .fs(&vserver, &one, "/home2")
        .parameter("nfs_clients", "10.0.0.0/8")
        .parameter("smb_share", "home");
    let data = node.fs(&vserver, &other, "/data");
    let servers = node
        .servers(&vserver, "nfs smb")
        .parameter("home", "/home2")
        .parameter("config_dir", "/opt/own");
    let deep = servers.clone().variable("OCF_CHECK_LEVEL", "10");
    for (file, wrong, parameter, value, words) in [
        (
            "ganesha.conf",
            "%include \"/nowhere/at.all\"\n",
            "nfs_clients",
            "0.0.0.0/0",
            "open error (No such file or directory)",
        ),
        (
            "smb.conf",
            "[nonsense\n",
            "smb_share",
            "files",
            "there is no share files",
        ),
    ] {
        let file = format!("/opt/own/{file}");
        let write = |text: &str| std::fs::write(&file, text).expect("a file of the admin's");
        write("");
        home.run("start").expect(0);
        servers.run("start").expect(0);
        deep.run("monitor").expect(0);
        write(wrong);
        let exported = data.clone().parameter(parameter, value);
        let outcome = exported.run("start").expect(0);
        assert!(outcome.stderr.contains(words), "{outcome}");
        let exported = exported.parameter("CRM_meta_interval", "10000");
        let outcome = exported.run("monitor").expect(190);
        assert!(outcome.stderr.contains(words), "{outcome}");
        let of_servers = deep.clone().parameter("CRM_meta_interval", "60000");
        let outcome = of_servers.run("monitor").expect(190);
        assert!(outcome.stderr.contains(words), "{outcome}");
        home.run("monitor").expect(0);
        // As soon as what is wrong is gone, nobody has to do anything more.
        write("");
        eventually("it is served", || exported.run("monitor").code == Some(0));
        deep.run("monitor").expect(0);
        // A change of what is served already is missed as well.
        write(wrong);
        if parameter == "nfs_clients" {
            let narrowed = data.clone().parameter(parameter, "10.1.0.0/24");
            let outcome = narrowed.run("reload-agent").expect(0);
            assert!(outcome.stderr.contains(words), "{outcome}");
            exported.run("monitor").expect(190);
            write("");
            eventually("it is served", || exported.run("monitor").code == Some(0));
        }
        servers.run("stop").expect(0);
        data.run("stop").expect(0);
        home.run("stop").expect(0);
    }
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn an_export_that_is_refused_at_the_start_does_not_take_the_others_along() {
    let node = Node::new("alone");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    let home = node
        .fs(&vserver, &one, "/home2")
        .parameter("nfs_clients", "0.0.0.0/0 ::/0");
    let data = node
        .fs(&vserver, &other, "/data")
        .parameter("nfs_clients", "10.0.0.0/8")
        .parameter("CRM_meta_interval", "10000");
    let servers = node.servers(&vserver, "nfs").parameter("home", "/home2");
    home.run("start").expect(0);
    data.run("start").expect(0);
    // What Ganesha can't export: a directory in which nothing can be looked up.
    assert!(inside(&vserver, "mount -t proc -o subset=pid none /data").0);
    servers.run("start").expect(0);
    let outcome = data.run("monitor").expect(190);
    assert!(outcome.stderr.contains("/data"), "{outcome}");
    home.run("monitor").expect(0);
    let (good, list) = in_network(&vserver, "nfs-ls 'nfs://127.0.0.1/home2?version=4'");
    assert!(good, "{list}");
    assert!(inside(&vserver, "umount /data").0);
    let outcome = servers
        .clone()
        .variable("OCF_CHECK_LEVEL", "10")
        .parameter("CRM_meta_interval", "60000")
        .run("monitor")
        .expect(190);
    assert!(outcome.stderr.contains("/data"), "{outcome}");
    servers.run("stop").expect(0);
    data.run("stop").expect(0);
    home.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}

/// A server may wait for the node's name services, or for the machine.
#[test]
#[ignore = "needs root"]
fn what_a_slow_server_does_not_answer_for_counts_as_it_was_before() {
    let node = Node::new("slow");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    sh("mount -t tmpfs none /opt && mkdir /opt/own");
    let write = |text: &str| std::fs::write("/opt/own/smb.conf", text).expect("a file");
    write("");
    let home = node
        .fs(&vserver, &one, "/home2")
        .parameter("nfs_clients", "10.0.0.0/8")
        .parameter("smb_share", "home");
    let data = node.fs(&vserver, &other, "/data");
    let servers = node
        .servers(&vserver, "nfs smb")
        .parameter("home", "/home2")
        .parameter("config_dir", "/opt/own");
    home.run("start").expect(0);
    servers.run("start").expect(0);
    let monitor = |call: &AgentCall, code| {
        let call = call.clone().parameter("CRM_meta_interval", "10000");
        call.run("monitor").expect(code)
    };
    // Helpers of Samba may come and go.
    let signal_all = |signal: &str| {
        let line = format!(
            "for comm in /proc/[0-9]*/comm; do
                 read -r name <$comm && process=${{comm#/proc/}} || continue
                 case $name in smbd*|ganesha*) kill -{signal} ${{process%/comm}} ;; esac
             done; true"
        );
        inside(&vserver, &line);
    };
    let inspect = || {
        signal_all("STOP");
        let keeper = Client::connect(&vserver).expect("an answer");
        let keeper = keeper.expect("a keeper");
        let request = Request::Inspect {
            resource: vserver.to_string(),
            budget: LIMIT,
        };
        let answer = keeper.ask(&request, Instant::now() + LIMIT);
        signal_all("CONT");
        answer.expect("an answer");
    };
    inspect();
    monitor(&home, 0);
    monitor(&servers, 0);
    assert_eq!(node.reports(), Vec::<String>::new());

    // What they have refused is refused until they say otherwise.
    write("[nonsense\n");
    let shared = data.clone().parameter("smb_share", "files");
    shared.run("start").expect(0);
    monitor(&shared, 190);
    inspect();
    let outcome = monitor(&shared, 190);
    assert!(
        outcome.stderr.contains("there is no share files"),
        "{outcome}"
    );
    write("");
    let shared = shared.parameter("CRM_meta_interval", "10000");
    eventually("it is served", || shared.run("monitor").code == Some(0));
    monitor(&home, 0);
    monitor(&servers, 0);
    servers.run("stop").expect(0);
    data.run("stop").expect(0);
    home.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn a_start_whose_time_is_up_is_good_where_an_export_is_refused() {
    let node = Node::new("late");
    let vserver = node.vserver('a');
    let (one, other, third) = (node.disk("ext4"), node.disk("ext4"), node.disk("ext4"));
    let fs = |device: &str, directory: &str| {
        node.fs(&vserver, device, directory)
            .parameter("nfs_clients", "10.0.0.0/8")
    };
    let (home, data) = (fs(&one, "/home2"), fs(&other, "/data"));
    let servers = node.servers(&vserver, "nfs").parameter("home", "/home2");
    home.run("start").expect(0);
    data.run("start").expect(0);
    assert!(inside(&vserver, "mount -t proc -o subset=pid none /data").0);
    servers.run("start").expect(0);
    // A server that hangs takes up nothing more.
    assert!(inside(&vserver, "pkill -STOP ganesha").0);
    let more = fs(&third, "/more");
    let begun = more.start("start");
    eventually("it is attached, and waits for the server", || {
        inside(&vserver, "mountpoint -q /more").0
    });
    let again = data.clone().parameter("CRM_meta_timeout", "3000");
    let outcome = again.run("start").expect(0);
    assert!(outcome.stderr.contains("NFS"), "{outcome}");
    assert!(inside(&vserver, "pkill -CONT ganesha").0);
    begun.wait().expect(0);
    assert!(inside(&vserver, "umount /data").0);
    servers.run("stop").expect(0);
    for fs in [more, data, home] {
        fs.run("stop").expect(0);
    }
    node.assert_gone(&vserver, &[&one, &other, &third]);
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

/// What the cluster was told of a degraded resource does not outlast its stay on the node.
#[test]
#[ignore = "needs root"]
fn what_was_degraded_when_it_left_is_cleaned_up_and_nothing_waits_for_that() {
    let node = Node::new("left");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("debugfs -w -R 'set_super_value state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 60.0);
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 600");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    for resource in [&fs, &servers] {
        let monitor = resource.clone().parameter("CRM_meta_interval", "10000");
        monitor.run("monitor").expect(190);
    }
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    eventually("the keeper has ended", || {
        let left = node.processes(&vserver);
        left.iter().all(|(_, name)| name == "berth-clean-up")
    });
    eventually("the cluster was told that it is over", || {
        node.reports().len() >= 2
    });
    let mut reports = node.reports();
    reports.sort();
    let wanted =
        [vserver.to_string(), format!("{vserver}-data")].map(|r| format!("--cleanup -r {r} -N n1"));
    assert_eq!(reports, wanted);
    eventually("nothing is left", || node.processes(&vserver).is_empty());
    node.assert_gone(&vserver, &[&device]);
}

/// To clean up would have the cluster forget a start that has failed meanwhile, and try it again.
#[test]
#[ignore = "needs root"]
fn what_was_degraded_when_it_left_and_could_not_start_again_is_not_cleaned_up() {
    let node = Node::new("again");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("debugfs -w -R 'set_super_value state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 60.0);
    node.set_attribute(&format!("fail-count-{vserver}#start_0"), "INFINITY");
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 600");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    for resource in [&fs, &servers] {
        let monitor = resource.clone().parameter("CRM_meta_interval", "10000");
        monitor.run("monitor").expect(190);
    }
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    eventually("nothing is left", || node.processes(&vserver).is_empty());
    let of_file_system = format!("--cleanup -r {vserver}-data -N n1");
    assert_eq!(node.reports(), [of_file_system]);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn servers_whose_home_is_being_repaired_start_after_it_and_never_count_as_failed() {
    let node = Node::new("after");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("debugfs -w -R 'set_super_value state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 0.3);
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "smb")
        .parameter("command", "/bin/sleep 600");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let monitor = servers.clone().parameter("CRM_meta_interval", "10000");
    let outcome = monitor.run("monitor").expect(190);
    assert!(outcome.stderr.contains("waiting for home"), "{outcome}");
    eventually("the servers run", || match monitor.run("monitor") {
        outcome if outcome.code == Some(0) => true,
        outcome => {
            outcome.expect(190);
            false
        }
    });
    // The cluster shows what was degraded until it is told otherwise.
    eventually("the cluster was told that it is over", || {
        !node.reports().is_empty()
    });
    assert_eq!(node.reports(), [format!("--cleanup -r {vserver} -N n1")]);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn servers_that_do_not_start_after_their_home_was_repaired_are_reported() {
    let node = Node::new("late");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("debugfs -w -R 'set_super_value state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 0.3);
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/false");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    node.await_report(&vserver);
    let outcome = servers.run("monitor").expect(1);
    assert!(outcome.stderr.contains("command 1 ended"), "{outcome}");
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
