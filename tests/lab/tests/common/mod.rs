//! alpha and beta, made by the real agents, and what is to be seen of them.

#![allow(dead_code)] // not every test needs all of it

pub mod detour;
pub mod pinging;

use lab::nfs4::Report;
use lab::worker::Worker;
use lab::{Lab, scene};

/// Prints what a node has of VIPs.
pub const STATE: &str = "ip rule | sort; ip -6 rule | sort; \
    ip route show table all | sort; ip -6 route show table all | grep -v '^fe80\\|^multicast' | sort; \
    ip neigh show proxy; ip -6 neigh show proxy; ip neigh show nud permanent; \
    nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//' | sort; \
    sysctl -a 2>/dev/null | grep -E '^net[.]ipv[46][.](conf|neigh)[.]' \
    | grep -vE 'stable_secret|base_reachable_time'";

/// alpha with one address, one file system and NFS only.
pub const SMALL: &str = r#"
[vserver.alpha]
services = ["nfs"]
vips = ["10.1.0.50"]

[[vserver.alpha.filesystem]]
name = "data"
device = "/dev/disk/lab/d1"
path = "/data"
unit = "array"
nfs = { clients = ["*"], access = "rw", squash = "none" }
"#;

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

/// These clients have noticed nothing but pauses: no error, no restart of a server, no loss.
#[track_caller]
pub fn assert_unharmed(lab: &Lab, workers: &[Worker], reports: &[Report]) {
    for (worker, report) in workers.iter().zip(reports) {
        let target = worker.target();
        eprintln!("{target}: {report}");
        assert_eq!(report.error, None, "{target}");
        assert_eq!(report.reclaims, 0, "{target}: the server was restarted");
        assert_eq!(worker.lost(lab, report).unwrap(), 0, "{target}");
    }
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

/// Names and numbers of a virtual server's processes, its servers' main ones included.
pub fn processes(lab: &Lab, node: &str, vserver: &str) -> Vec<(String, u32)> {
    let table = run(lab, node, "ps -e -o pid=,ppid=,comm=,args=");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let own: Vec<&Vec<&str>> = rows
        .iter()
        .filter(|row| row.get(3..) == Some(&["berth-keeper", vserver]))
        .collect();
    let init = own.iter().find(|row| row[2] == "berth-init");
    let servers = rows.iter().filter(|row| Some(row[1]) == init.map(|i| i[0]));
    let named = |row: &Vec<&str>| (row[2].to_owned(), row[0].parse().unwrap());
    own.iter().copied().chain(servers).map(named).collect()
}

/// The lines that only one of two texts has.
pub fn difference(before: &str, now: &str) -> String {
    let only_in = |a: &str, b: &str, sign: char| -> String {
        let lines = a.lines().filter(|line| !b.lines().any(|l| l == *line));
        let signed: Vec<String> = lines.map(|line| format!("\n{sign} {line}")).collect();
        signed.concat()
    };
    only_in(before, now, '-') + &only_in(now, before, '+')
}
