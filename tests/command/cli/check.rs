//! What `check` says of a file, and of the node on which it is checked.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::*;
use tempfile::TempDir;

use super::{APPLY, DIFF, EXAMPLE, at, berth, edit, workplace};

#[test]
fn a_good_file_is_said_to_be_good() {
    let said = "examples/berth.toml: good: 2 virtual servers, 4 file systems, 4 VIPs\n";
    berth(&["check", "-f", EXAMPLE])
        .assert()
        .success()
        .stdout(predicate::str::ends_with(said))
        .stderr("");
}

#[test]
fn a_wrong_file_is_exit_code_3_and_one_line_for_each_mistake() {
    let dir = workplace();
    edit(&dir, "berth.toml", "priority = 100 ", "priority = -1 ");
    edit(&dir, "berth.toml", "fstype = \"xfs\"", "fstype = \"zfs\"");
    for verb in ["check", "plan", "diff", "apply"] {
        let refused = at(&dir, &[verb, "-f", "berth.toml"])
            .assert()
            .code(3)
            .stdout("");
        refused.stderr(
            "berth: berth.toml:25: vserver.alpha.priority: number -1 instead of a whole number from 0 to 9999\n\
             berth: berth.toml:60: vserver.beta.filesystem.fstype: \"zfs\" is none of ext4, xfs, btrfs\n",
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let expected =
        "berth: /nonexistent/berth.toml: can't be read: No such file or directory (os error 2)\n";
    berth(&["check", "--file", "/nonexistent/berth.toml"])
        .assert()
        .code(3)
        .stderr(expected);
}

#[test]
fn a_file_that_was_cut_off_is_not_taken_for_a_wish_to_have_nothing() {
    let dir = workplace();
    for rest in ["", "# berth.toml\n\n"] {
        fs::write(dir.path().join("berth.toml"), rest).unwrap();
        for verb in ["check", "apply"] {
            at(&dir, &[verb, "-f", "berth.toml"])
                .assert()
                .code(3)
                .stderr("berth: berth.toml: says nothing: no subnet, no node, no virtual server\n");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn two_names_of_one_device_on_this_node_are_refused() {
    let dir = workplace();
    let device = dir.path().join("conf-a");
    let number = rustix::fs::makedev(1, 77);
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &device,
        rustix::fs::FileType::BlockDevice,
        rustix::fs::Mode::RUSR,
        number,
    );
    made.unwrap();
    let link = dir.path().join("conf-b");
    std::os::unix::fs::symlink(&device, &link).unwrap();
    let (device, link) = (device.display().to_string(), link.display().to_string());
    edit(&dir, "berth.toml", "/dev/vg0/alpha-data", &device);
    edit(&dir, "berth.toml", "/dev/vg0/beta-data", &link);
    for arguments in [&["check", "-f", "berth.toml"][..], &DIFF, &APPLY] {
        at(&dir, arguments).assert().code(3).stdout("").stderr(format!(
            "berth: berth.toml:57: vserver.beta.filesystem.device: device {link} is {device} of alpha (line 39): both are 1:77 on this node\n"
        ));
    }
}

/// What check says on a node of that name which is prepared so.
fn checked_on(dir: &TempDir, node: &str, preparation: &str) -> String {
    let script = format!(
        "hostname {node}; {preparation}\n{} check -f berth.toml 2>&1",
        env!("CARGO_BIN_EXE_berth")
    );
    let mut shell = Command::new("/usr/bin/unshare");
    shell.args(["--net", "--uts", "--mount", "/bin/sh", "-e", "-c", &script]);
    let assert = shell.current_dir(dir.path()).assert();
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
#[ignore = "needs root and nft"]
fn a_firewall_that_drops_what_is_forwarded_is_named_on_a_node() {
    let dir = workplace();
    let chain = "nft add table inet conf; nft add chain inet conf passing '{ type filter hook forward priority 0; policy drop; }'";
    let good = "berth.toml: good: 2 virtual servers, 4 file systems, 4 VIPs\n";
    assert_eq!(checked_on(&dir, "n1", ""), good);
    assert_eq!(checked_on(&dir, "elsewhere", chain), good);
    let accept = r#"nft add rule inet conf passing iifname '"b-*"' accept; nft add rule inet conf passing oifname '"b-*"' accept"#;
    assert_eq!(checked_on(&dir, "n1", &format!("{chain}; {accept}")), good);
    let said = checked_on(&dir, "n1.example.com", chain);
    let warning = "berth: berth.toml: warning: chain passing of nftables table inet conf drops what virtual servers receive and send: have it accept";
    assert!(said.starts_with(warning) && said.ends_with(good), "{said}");
}

#[test]
#[ignore = "needs root"]
fn a_node_that_can_t_show_a_cell_what_it_needs_is_named_before_anything_starts() {
    let dir = workplace();
    // It gives handles, and its owners can't be hidden.
    let overlay = "mount -t tmpfs none /mnt; cd /mnt; mkdir up work; cp -a /etc low; cd - >/dev/null; mount -t overlay -o \
                   lowerdir=/mnt/low,upperdir=/mnt/up,workdir=/mnt/work,index=on,nfs_export=on none /etc";
    let said = checked_on(&dir, "n1", overlay);
    let warning =
        "berth: berth.toml: warning: no cell can be made here: /etc (overlay) can't be shown, ";
    assert!(said.contains(warning), "{said}");
    assert!(!checked_on(&dir, "elsewhere", overlay).contains("no cell"));
}

#[test]
#[ignore = "needs root"]
fn an_address_that_is_the_nodes_own_is_refused_there() {
    let dir = workplace();
    let address = "ip link set lo up; ip addr add 10.1.0.254/32 dev lo";
    let said = checked_on(&dir, "n2", address);
    let refused = "berth: berth.toml:4: subnets.office: the gateway 10.1.0.254 is this node's own address, on lo\n";
    assert_eq!(said, refused);
    // On the router itself it is right.
    assert!(!checked_on(&dir, "router", address).contains("own address"));
}
