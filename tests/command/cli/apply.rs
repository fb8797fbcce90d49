//! What `apply` changes in a cluster, and what it leaves.

use std::fs;

use predicates::prelude::*;

use super::{APPLY, DIFF, at, cib, edit, take_beta_out, with_others, workplace};

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
    take_beta_out(&dir);
    at(&dir, &APPLY)
        .assert()
        .success()
        .stdout(predicate::str::contains(
            "- resource beta (ocf:berth:vserver)\n",
        ));
    let cib = cib(&dir);
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
    let cib = cib(&dir);
    assert!(cib.contains(r#"name="target-role" value="Stopped""#));
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
