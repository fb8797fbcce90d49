//! How the command is called, whatever the file and the cluster are.

use assert_cmd::Command;
use predicates::prelude::*;

use super::{EXAMPLE, berth};

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
