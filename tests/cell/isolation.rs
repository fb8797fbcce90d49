//! What is one virtual server's is seen by nobody else.

use crate::node::{Node, inside};

#[test]
#[ignore = "needs root"]
fn a_cell_shows_nothing_of_the_host_s_or_another_cell_s() {
    let node = Node::new("iso");
    let (alpha, beta) = (node.vserver('a'), node.vserver('b'));
    let (one, other) = (node.disk("ext4"), node.disk("xfs"));
    let calls = [
        node.fs(&alpha, &one, "/data"),
        node.fs(&beta, &other, "/data"),
    ];
    for call in &calls {
        call.run("start").expect(0);
    }
    let beta_cell = berth::cell::client::find(&beta)
        .expect("an answer")
        .expect("a cell");
    let address = format!(
        "nsenter -t {} -n ip address add 192.0.2.7/32 dev eth0",
        beta_cell.init_pid
    );
    crate::node::sh(&address);

    let shows = |line: &str| inside(&alpha, line).1;
    let mounts = shows("cat /proc/self/mountinfo");
    assert!(
        mounts.contains(&one) && !mounts.contains(&other),
        "{mounts}"
    );
    assert!(!shows("ip address").contains("192.0.2.7"));
    let processes = shows("ps -e -o args=");
    assert!(
        !processes.contains(beta.as_str()) && processes.lines().count() <= 4,
        "{processes}"
    );
    assert_eq!(
        shows("find / -xdev -type b 2>/dev/null; find /dev -type b"),
        ""
    );
    for hidden in [
        "/sys",
        "/proc/partitions",
        "/proc/fs",
        "/proc/diskstats",
        "/proc/sys",
        "/root",
        "/home",
    ] {
        let (there, _) = inside(&alpha, &format!("test -e {hidden}"));
        assert!(!there, "{hidden} is seen");
    }
    // Replaced by renaming, as passwd(1) does it: a mount over the old file would be no help.
    let new = "/etc/berth-test-secret";
    crate::node::sh(&format!(
        "umask 077; echo secret >{new}.tmp; mv {new}.tmp {new}"
    ));
    let (readable, text) = inside(&alpha, "cat /.etc/berth-test-secret");
    crate::node::sh(&format!("rm {new}"));
    assert!(!readable && !text.contains("secret\n"), "{text}");
    for secret in [
        "/etc/shadow",
        "/.etc/shadow",
        "/.etc/gshadow",
        "/.etc/corosync/corosync.conf",
    ] {
        let (readable, text) = inside(&alpha, &format!("cat {secret}"));
        assert!(!readable, "{secret}: {text}");
    }
    for closed in ["/usr", "/etc", "/.etc", "/new", "/opt"] {
        let (good, _) = inside(&alpha, &format!("touch {closed}/x || mkdir {closed}"));
        assert!(!good, "{closed} can be written");
    }
    let (_, name) = inside(&alpha, "hostname");
    assert_eq!(alpha, name.trim());
    for call in &calls {
        call.run("stop").expect(0);
    }
    node.assert_gone(&alpha, &[&one]);
    node.assert_gone(&beta, &[&other]);
}
