//! The command as people and scripts use it: output, messages, exit codes.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::*;
use tempfile::TempDir;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/berth.toml");

fn berth(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("berth").unwrap();
    command.args(arguments);
    command
}

/// A directory with the example and an empty CIB.
fn workplace() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(EXAMPLE, dir.path().join("berth.toml")).unwrap();
    let cib = r#"<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" epoch="1" num_updates="0" admin_epoch="0">
        <configuration><crm_config><cluster_property_set id="o"><nvpair id="o-s" name="stonith-enabled" value="false"/></cluster_property_set></crm_config><nodes><node id="1" uname="n1"/><node id="2" uname="n2"/><node id="3" uname="n3"/></nodes><resources/><constraints/></configuration><status/></cib>"#;
    fs::write(dir.path().join("cib.xml"), cib).unwrap();
    dir
}

fn at(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = berth(arguments);
    command.current_dir(dir.path());
    command
}

fn edit(dir: &TempDir, name: &str, from: &str, to: &str) {
    let path = dir.path().join(name);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

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
fn wrong_use_is_exit_code_2_and_one_line() {
    for arguments in [
        &["chekc"][..],
        &["plan", "--format", "json"],
        &["apply", "--wait", "0"],
        &[],
    ] {
        let assert = berth(arguments).assert().code(2).stdout("");
        let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(
            said.starts_with("berth: ") && said.lines().count() == 1,
            "{said}"
        );
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

#[test]
fn help_and_version_go_to_standard_output() {
    berth(&["--help"])
        .assert()
        .success()
        .stdout(predicate::str::contains("Exit codes:"));
    berth(&["--version"])
        .assert()
        .success()
        .stdout(predicate::str::starts_with("berth "));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let shell = format!(
        "{} plan --format xml -f {EXAMPLE} | head -n 1",
        env!("CARGO_BIN_EXE_berth")
    );
    let script = format!("set -o pipefail; for i in 1 2 3 4 5; do {shell}; done");
    Command::new("/bin/bash")
        .args(["-c", &script])
        .assert()
        .success()
        .stderr("");
}

#[test]
#[ignore = "needs pacemaker"]
fn a_cluster_without_fencing_is_refused_and_left_as_it_is() {
    let dir = workplace();
    let before = fs::read(dir.path().join("cib.xml")).unwrap();
    let refused = at(&dir, &["apply", "-f", "berth.toml", "--cib", "cib.xml"])
        .assert()
        .code(4)
        .stdout("");
    refused.stderr(predicate::str::starts_with(
        "berth: the cluster property stonith-enabled is false",
    ));
    assert_eq!(fs::read(dir.path().join("cib.xml")).unwrap(), before);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_fence_device_of_a_template_counts_and_a_stopped_one_is_named() {
    let dir = workplace();
    let options = r#"name="stonith-enabled" value="false""#;
    edit(&dir, "cib.xml", options, &options.replace("false", "true"));
    let apply = ["apply", "-f", "berth.toml", "--cib", "cib.xml"];
    at(&dir, &apply).assert().code(4).stderr(
        "berth: the cluster has no fence device (a resource of class stonith); without fencing two nodes may write to one file system (--without-fencing applies nevertheless)\n",
    );
    let devices = r#"<resources><template id="ipmi" class="stonith" type="fence_ipmilan"/><group id="fences"><meta_attributes id="fences-m"><nvpair id="fences-t" name="target-role" value="Stopped"/></meta_attributes><primitive id="fence-n1" template="ipmi"/></group></resources>"#;
    edit(&dir, "cib.xml", "<resources/>", devices);
    at(&dir, &apply).assert().code(4).stderr(
        "berth: all fence devices are set to stay stopped (target-role): fence-n1; without fencing two nodes may write to one file system\n",
    );
    edit(&dir, "cib.xml", r#"value="Stopped""#, r#"value="Started""#);
    at(&dir, &apply).assert().success();
}

#[test]
#[ignore = "needs pacemaker"]
fn nodes_that_the_cluster_does_not_have_are_refused_and_the_reverse_is_told() {
    let dir = workplace();
    edit(
        &dir,
        "cib.xml",
        r#"uname="n1""#,
        r#"uname="n1.example.com""#,
    );
    let before = fs::read(dir.path().join("cib.xml")).unwrap();
    let unknown = "nodes.n1 (line 7): the cluster has no node n1, did you mean n1.example.com? (it has n1.example.com, n2 and n3)\n";
    let refused = at(&dir, &APPLY).assert().code(4).stdout("");
    refused.stderr(format!("berth: {unknown}"));
    assert_eq!(fs::read(dir.path().join("cib.xml")).unwrap(), before);
    let unmentioned = "the cluster's node n1.example.com is not in the file: virtual servers may come to it, and its ports are found by their addresses\n";
    at(&dir, &DIFF).assert().code(5).stderr(format!(
        "berth: warning: {unknown}berth: warning: {unmentioned}"
    ));
    edit(
        &dir,
        "cib.xml",
        r#"uname="n1.example.com""#,
        r#"uname="n1""#,
    );
    edit(
        &dir,
        "cib.xml",
        "</nodes>",
        r#"<node id="r" uname="r" type="remote"/></nodes>"#,
    );
    let unmentioned = unmentioned.replace("n1.example.com", "r");
    let applied = at(&dir, &APPLY).assert().success();
    applied.stderr(format!("berth: warning: {unmentioned}"));
}

#[test]
#[ignore = "needs pacemaker"]
fn an_opt_in_cluster_needs_the_nodes_by_name() {
    let dir = workplace();
    let option = r#"<nvpair id="o-s" "#;
    let opt_in = r#"<nvpair id="o-y" name="symmetric-cluster" value="off"/>"#;
    edit(&dir, "cib.xml", option, &format!("{opt_in}{option}"));
    let allowed = "+ constraint berth-on-n1-alpha\n+ constraint berth-on-n2-alpha\n+ constraint berth-on-n3-alpha\n+ constraint berth-elsewhere-alpha\n";
    let applied = at(&dir, &APPLY).assert().success();
    applied.stdout(predicate::str::contains(allowed));
    at(&dir, &APPLY).assert().success().stdout("no change\n");
    edit(&dir, "cib.xml", r#"value="off""#, r#"value="true""#);
    let gone = allowed.replace("+ ", "- ");
    let applied = at(&dir, &APPLY).assert().success();
    applied.stdout(predicate::str::contains(gone));
    edit(
        &dir,
        "cib.xml",
        r#"name="symmetric-cluster" value="true""#,
        r#"name="symmetric-cluster" value="no""#,
    );
    let text = fs::read_to_string(dir.path().join("berth.toml")).unwrap();
    let lines = text.lines().filter(|line| {
        !line.starts_with("[nodes.") && !line.starts_with("ports =") && !line.starts_with("stay_on")
    });
    fs::write(
        dir.path().join("berth.toml"),
        lines.collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    let refused = at(&dir, &APPLY).assert().code(4);
    refused.stderr(predicate::str::starts_with(
        "berth: the cluster is opt-in (symmetric-cluster is false), and the file names no nodes",
    ));
}

const APPLY: [&str; 6] = [
    "apply",
    "-f",
    "berth.toml",
    "--cib",
    "cib.xml",
    "--without-fencing",
];
const DIFF: [&str; 5] = ["diff", "-f", "berth.toml", "--cib", "cib.xml"];

#[test]
#[ignore = "needs pacemaker"]
fn applying_twice_changes_nothing_and_a_shorter_file_removes_only_its_own() {
    let dir = workplace();
    let foreign =
        r#"<resources><primitive id="foreign" class="ocf" provider="pacemaker" type="Dummy"/>"#;
    edit(
        &dir,
        "cib.xml",
        "<resources/>",
        &format!("{foreign}</resources>"),
    );
    at(&dir, &DIFF)
        .assert()
        .code(5)
        .stdout(predicate::str::contains(
            "+ resource alpha (ocf:berth:vserver)\n",
        ));
    at(&dir, &APPLY)
        .assert()
        .success()
        .stdout(predicate::str::contains("+ constraint berth-tier-50\n"));
    at(&dir, &APPLY).assert().success().stdout("no change\n");
    at(&dir, &DIFF).assert().success().stdout("");
    edit(
        &dir,
        "berth.toml",
        "device = \"/dev/vg0/beta-data\"",
        "device = \"/dev/vg0/other\"",
    );
    let changed = "~ resource beta-data (ocf:berth:fscheck): device \"/dev/vg0/beta-data\" -> \"/dev/vg0/other\"\n";
    at(&dir, &APPLY).assert().success().stdout(changed);
    let text = fs::read_to_string(dir.path().join("berth.toml")).unwrap();
    let without_beta = text.split("[vserver.beta]").next().unwrap();
    fs::write(dir.path().join("berth.toml"), without_beta).unwrap();
    at(&dir, &APPLY)
        .assert()
        .success()
        .stdout(predicate::str::contains(
            "- resource beta (ocf:berth:vserver)\n",
        ));
    let cib = fs::read_to_string(dir.path().join("cib.xml")).unwrap();
    assert!(cib.contains("\"foreign\"") && cib.contains("\"alpha\"") && !cib.contains("beta"));
}

#[test]
#[ignore = "needs pacemaker"]
fn the_ports_of_a_node_of_its_own_come_change_and_go() {
    let dir = workplace();
    at(&dir, &APPLY).assert().success();
    let watch = "~ resource portwatch (ocf:berth:portwatch): ";
    let alike = "eth1=office eth2=office eth3=lab";
    let own = "eth1=office eth2=office eth7=lab";
    let text = fs::read_to_string(dir.path().join("berth.toml")).unwrap();
    let one_differs = text.replacen("eth3 = \"lab\"", "eth7 = \"lab\"", 1);
    fs::write(dir.path().join("berth.toml"), one_differs).unwrap();
    at(&dir, &APPLY).assert().success().stdout(predicate::str::contains(format!(
        "{watch}ports on n1 {own:?} added, ports on n2 {alike:?} added, ports on n3 {alike:?} added, ports removed\n"
    )));
    at(&dir, &APPLY).assert().success().stdout("no change\n");
    edit(&dir, "berth.toml", "eth7 = \"lab\"", "eth8 = \"lab\"");
    let other = "eth1=office eth2=office eth8=lab";
    at(&dir, &APPLY)
        .assert()
        .success()
        .stdout(predicate::str::contains(format!(
            "{watch}ports on n1 {own:?} -> {other:?}\n"
        )));
    fs::write(dir.path().join("berth.toml"), text).unwrap();
    at(&dir, &APPLY).assert().success().stdout(predicate::str::contains(format!(
        "{watch}ports {alike:?} added, ports on n1 removed, ports on n2 removed, ports on n3 removed\n"
    )));
    at(&dir, &DIFF).assert().success().stdout("");
}

#[test]
#[ignore = "needs pacemaker"]
fn what_others_set_on_a_resource_stays_and_what_berth_decides_is_put_right() {
    let dir = workplace();
    at(&dir, &APPLY).assert().success();
    let mark = r#"name="berth-home" value="n1"/>"#;
    let set =
        r#"name="berth-home" value="n2"/><nvpair id="x" name="target-role" value="Stopped"/>"#;
    edit(&dir, "cib.xml", mark, set);
    let put_right = "~ resource alpha (ocf:berth:vserver): meta berth-home \"n2\" -> \"n1\"\n";
    at(&dir, &APPLY).assert().success().stdout(put_right);
    let cib = fs::read_to_string(dir.path().join("cib.xml")).unwrap();
    assert!(cib.contains(r#"name="target-role" value="Stopped""#));
}

#[test]
#[ignore = "needs pacemaker"]
fn what_stands_in_the_way_is_named_and_nothing_is_changed() {
    let dir = workplace();
    let foreign = r#"<resources><primitive id="alpha" class="ocf" provider="pacemaker" type="Dummy"/></resources>"#;
    edit(&dir, "cib.xml", "<resources/>", foreign);
    let before = fs::read(dir.path().join("cib.xml")).unwrap();
    let taken = "berth: primitive alpha exists already and was not made by berth: rename or remove one of the two\n";
    at(&dir, &APPLY).assert().code(1).stderr(taken);
    assert_eq!(fs::read(dir.path().join("cib.xml")).unwrap(), before);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_constraint_of_others_on_what_would_go_is_named() {
    let dir = workplace();
    at(&dir, &APPLY).assert().success();
    let ban =
        r#"<rsc_location id="cli-ban-beta" rsc="beta" node="n1" score="-INFINITY"/></constraints>"#;
    edit(&dir, "cib.xml", "</constraints>", ban);
    let text = fs::read_to_string(dir.path().join("berth.toml")).unwrap();
    fs::write(
        dir.path().join("berth.toml"),
        text.split("[vserver.beta]").next().unwrap(),
    )
    .unwrap();
    let needed = "berth: constraint cli-ban-beta, not made by berth, refers to beta, which would be removed: remove the constraint first\n";
    at(&dir, &APPLY).assert().code(1).stderr(needed);
}

/// What an administrator has beside berth's: two resources, and how they are ordered.
fn with_others(dir: &TempDir, kind: &str, meta: &str) {
    let resources = format!(
        r#"<resources><primitive id="x" class="ocf" provider="pacemaker" type="Dummy">{meta}</primitive>
           <primitive id="y" class="ocf" provider="pacemaker" type="Dummy"/></resources>"#
    );
    edit(dir, "cib.xml", "<resources/>", &resources);
    let order =
        format!(r#"<constraints><rsc_order id="xy" first="x" then="y" {kind}/></constraints>"#);
    edit(dir, "cib.xml", "<constraints/>", &order);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_cib_of_which_pacemaker_only_warns_is_no_obstacle() {
    let dir = workplace();
    with_others(&dir, r#"kind="Serialize" symmetrical="true""#, "");
    // Otherwise this test would show nothing.
    let mut verify = berth::sys::program::command("crm_verify").unwrap();
    verify.arg("--xml-file").arg(dir.path().join("cib.xml"));
    let soon = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let code = berth::sys::command::run(verify, soon)
        .unwrap()
        .status
        .code();
    assert_eq!(code, Some(78));
    at(&dir, &DIFF).assert().code(5);
    at(&dir, &APPLY).assert().success();
    at(&dir, &APPLY).assert().success().stdout("no change\n");
}

#[test]
#[ignore = "needs pacemaker"]
fn a_cib_with_errors_is_left_as_it_is() {
    let dir = workplace();
    let bogus = r#"<meta_attributes id="x-m"><nvpair id="x-r" name="requires" value="bogus"/></meta_attributes>"#;
    with_others(&dir, r#"kind="Optional""#, bogus);
    let before = fs::read(dir.path().join("cib.xml")).unwrap();
    let refused = at(&dir, &APPLY).assert().code(1);
    refused.stderr(
        predicate::str::is_match("^berth: verify the new configuration: .*'bogus' is not valid\n$")
            .unwrap(),
    );
    assert_eq!(fs::read(dir.path().join("cib.xml")).unwrap(), before);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_cluster_that_is_too_old_is_named_in_one_line() {
    let dir = workplace();
    edit(&dir, "cib.xml", "pacemaker-3.9", "pacemaker-2.0");
    for arguments in [&APPLY[..], &DIFF] {
        at(&dir, arguments).assert().code(1).stderr(
            "berth: the CIB has the old form pacemaker-2.0: bring it up to date first, with cibadmin --upgrade\n",
        );
    }
    edit(&dir, "cib.xml", "3.16.1", "3.13.0");
    for arguments in [&APPLY[..], &DIFF] {
        at(&dir, arguments).assert().code(1).stderr(
            "berth: a node of the cluster has a Pacemaker that is too old (feature set 3.13.0): berth needs 2.1.3 or newer on all nodes\n",
        );
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn without_a_cluster_the_failure_is_one_line() {
    let assert = berth(&["diff", "-f", EXAMPLE]).assert().code(1);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(
        said.starts_with("berth: read the CIB: ") && said.lines().count() == 1,
        "{said}"
    );
}
