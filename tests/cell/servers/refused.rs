//! Exports that servers refuse, or do not answer for: what is said of which file system, and until when.

use std::time::Instant;

use berth::cell::client::Client;
use berth::cell::protocol::Request;

use super::own_settings;
use crate::node::{LIMIT, Node, await_good, eventually, in_network, inside, monitor};

#[test]
#[ignore = "needs root"]
fn what_the_servers_did_not_take_is_said_of_that_file_system_until_they_take_it() {
    let node = Node::new("take");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("ext4"));
    let own = own_settings();
    let home = node
        .fs(&vserver, &one, "/home2")
        .parameter("nfs_clients", "10.0.0.0/8")
        .parameter("smb_share", "home");
    let data = node.fs(&vserver, &other, "/data");
    let servers = node
        .servers(&vserver, "nfs smb")
        .parameter("home", "/home2")
        .parameter("config_dir", own);
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
        let file = format!("{own}/{file}");
        let write = |text: &str| std::fs::write(&file, text).expect("a file of the admin's");
        write("");
        home.run("start").expect(0);
        servers.run("start").expect(0);
        deep.run("monitor").expect(0);
        write(wrong);
        let exported = data.clone().parameter(parameter, value);
        let outcome = exported.run("start").expect(0);
        assert!(outcome.stderr.contains(words), "{outcome}");
        let outcome = monitor(&exported).run("monitor").expect(190);
        assert!(outcome.stderr.contains(words), "{outcome}");
        let of_servers = deep.clone().parameter("CRM_meta_interval", "60000");
        let outcome = of_servers.run("monitor").expect(190);
        assert!(outcome.stderr.contains(words), "{outcome}");
        home.run("monitor").expect(0);
        // As soon as what is wrong is gone, nobody has to do anything more.
        write("");
        await_good("it is served", &exported);
        deep.run("monitor").expect(0);
        // A change of what is served already is missed as well.
        write(wrong);
        if parameter == "nfs_clients" {
            let narrowed = data.clone().parameter(parameter, "10.1.0.0/24");
            let outcome = narrowed.run("reload-agent").expect(0);
            assert!(outcome.stderr.contains(words), "{outcome}");
            monitor(&exported).run("monitor").expect(190);
            write("");
            await_good("it is served", &exported);
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
        .parameter("nfs_clients", "10.0.0.0/8");
    let servers = node.servers(&vserver, "nfs").parameter("home", "/home2");
    home.run("start").expect(0);
    data.run("start").expect(0);
    // What Ganesha can't export: a directory in which nothing can be looked up.
    assert!(inside(&vserver, "mount -t proc -o subset=pid none /data").0);
    servers.run("start").expect(0);
    let outcome = monitor(&data).run("monitor").expect(190);
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
    let own = own_settings();
    let write = |text: &str| std::fs::write(format!("{own}/smb.conf"), text).expect("a file");
    write("");
    let home = node
        .fs(&vserver, &one, "/home2")
        .parameter("nfs_clients", "10.0.0.0/8")
        .parameter("smb_share", "home");
    let data = node.fs(&vserver, &other, "/data");
    let servers = node
        .servers(&vserver, "nfs smb")
        .parameter("home", "/home2")
        .parameter("config_dir", own);
    home.run("start").expect(0);
    servers.run("start").expect(0);
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
            resource: vserver.parse().expect("a good id"),
            budget: LIMIT,
        };
        let answer = keeper.ask(&request, Instant::now() + LIMIT);
        signal_all("CONT");
        answer.expect("an answer");
    };
    inspect();
    monitor(&home).run("monitor").expect(0);
    monitor(&servers).run("monitor").expect(0);
    assert_eq!(node.reports(), Vec::<String>::new());

    // What they have refused is refused until they say otherwise.
    write("[nonsense\n");
    let shared = data.clone().parameter("smb_share", "files");
    shared.run("start").expect(0);
    monitor(&shared).run("monitor").expect(190);
    inspect();
    let outcome = monitor(&shared).run("monitor").expect(190);
    assert!(
        outcome.stderr.contains("there is no share files"),
        "{outcome}"
    );
    write("");
    await_good("it is served", &shared);
    monitor(&home).run("monitor").expect(0);
    monitor(&servers).run("monitor").expect(0);
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
