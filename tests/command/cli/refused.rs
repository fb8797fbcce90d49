//! Clusters that a file does not fit: nothing is changed in them.

use predicates::prelude::*;

use super::{APPLY, DIFF, EXAMPLE, at, berth, cib, edit, take_beta_out, with_others, workplace};

#[test]
#[ignore = "needs pacemaker"]
fn a_cluster_without_fencing_is_refused_and_left_as_it_is() {
    let dir = workplace();
    let before = cib(&dir);
    let refused = at(&dir, &["apply", "-f", "berth.toml", "--cib", "cib.xml"])
        .assert()
        .code(4)
        .stdout("");
    refused.stderr(predicate::str::starts_with(
        "berth: the cluster property stonith-enabled is false",
    ));
    assert_eq!(cib(&dir), before);
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
    let before = cib(&dir);
    let unknown = "nodes.n1 (line 7): the cluster has no node n1, did you mean n1.example.com? (it has n1.example.com, n2 and n3)\n";
    let refused = at(&dir, &APPLY).assert().code(4).stdout("");
    refused.stderr(format!("berth: {unknown}"));
    assert_eq!(cib(&dir), before);
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
fn what_stands_in_the_way_is_named_and_nothing_is_changed() {
    let dir = workplace();
    let foreign = r#"<resources><primitive id="alpha" class="ocf" provider="pacemaker" type="Dummy"/></resources>"#;
    edit(&dir, "cib.xml", "<resources/>", foreign);
    let before = cib(&dir);
    let taken = "berth: primitive alpha exists already and was not made by berth: rename or remove one of the two\n";
    at(&dir, &APPLY).assert().code(1).stderr(taken);
    assert_eq!(cib(&dir), before);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_constraint_of_others_on_what_would_go_is_named() {
    let dir = workplace();
    at(&dir, &APPLY).assert().success();
    let ban =
        r#"<rsc_location id="cli-ban-beta" rsc="beta" node="n1" score="-INFINITY"/></constraints>"#;
    edit(&dir, "cib.xml", "</constraints>", ban);
    take_beta_out(&dir);
    let needed = "berth: constraint cli-ban-beta, not made by berth, refers to beta, which would be removed: remove the constraint first\n";
    at(&dir, &APPLY).assert().code(1).stderr(needed);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_cib_with_errors_is_left_as_it_is() {
    let dir = workplace();
    let bogus = r#"<meta_attributes id="x-m"><nvpair id="x-r" name="requires" value="bogus"/></meta_attributes>"#;
    with_others(&dir, r#"kind="Optional""#, bogus);
    let before = cib(&dir);
    let refused = at(&dir, &APPLY).assert().code(1);
    refused.stderr(
        predicate::str::is_match("^berth: verify the new configuration: .*'bogus' is not valid\n$")
            .unwrap(),
    );
    assert_eq!(cib(&dir), before);
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
