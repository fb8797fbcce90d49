//! alpha and beta on a lab of their own, made by the real agents.

#![allow(dead_code)] // not every test needs all of it

use std::path::{Path, PathBuf};

use lab::{Lab, Options, scene};

/// alpha with a third VIP, of the other family; Samba lets guests in.
pub fn alpha() -> String {
    with_vip(&scene::with_guests(scene::ALPHA), "fd00:1::50")
}

/// beta with a third VIP, of the other family.
pub fn beta() -> String {
    with_vip(scene::BETA, "fd00:2::60")
}

/// beta with what alpha has too: SMB, and a share of the same name.
pub fn beta_with_share() -> String {
    let smb = beta().replace("[\"nfs\"]", "[\"nfs\", \"smb\"]");
    scene::with_guests(&smb) + "smb = { share = \"data\", users = [\"demo\"] }\n"
}

fn with_vip(server: &str, vip: &str) -> String {
    server.replace("vips = [", &format!("vips = [\"{vip}\", "))
}

/// A lab whose nodes have the agents that were built beside it.
pub fn up(suffix: &str) -> Lab {
    let program = Path::new(env!("CARGO_BIN_EXE_lab"));
    let mut options = Options::new(&format!("t{}-{suffix}", std::process::id()));
    options.plan.agents = program.parent().map(Path::to_owned);
    options.program = Some(PathBuf::from(program));
    options.quiet = true;
    Lab::up(&options).unwrap()
}

/// What a script prints on a machine; it must succeed.
#[track_caller]
pub fn run(lab: &Lab, machine: &str, script: &str) -> String {
    let output = lab.exec(machine, &["sh", "-c", script]).unwrap();
    output.check(format!("{machine}: {script}")).unwrap().stdout
}

/// Whether a script succeeds in the cell of `vserver` on `node`, and what it prints.
pub fn inside(lab: &Lab, node: &str, vserver: &str, script: &str) -> (bool, String) {
    let words = ["berth", "exec", vserver, "--", "sh", "-c", script];
    let output = lab.exec(node, &words).unwrap();
    (output.status.success(), output.stdout)
}

/// The node's number of the loop device behind a disk.
pub fn loop_number(lab: &Lab, node: &str, disk: &str) -> u32 {
    lab.status().unwrap().machines[node].disks[disk]
}
