//! The command as people and scripts use it: output, messages, exit codes.

use std::fs;

use assert_cmd::Command;
use tempfile::TempDir;

mod apply;
mod check;
mod refused;
mod usage;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/berth.toml");

const APPLY: [&str; 6] = [
    "apply",
    "-f",
    "berth.toml",
    "--cib",
    "cib.xml",
    "--without-fencing",
];
const DIFF: [&str; 5] = ["diff", "-f", "berth.toml", "--cib", "cib.xml"];

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

fn cib(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("cib.xml")).unwrap()
}

/// Takes the last of the example's virtual servers out of the file.
fn take_beta_out(dir: &TempDir) {
    let path = dir.path().join("berth.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (rest, _) = text.split_once("[vserver.beta]").unwrap();
    fs::write(path, rest).unwrap();
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
