//! The memory of a cell without its servers.

use crate::control::Lab;
use crate::error::{Context, Error, Result};

/// One of berth's own processes of a cell.
#[derive(Debug)]
pub struct Process {
    /// Its command line.
    pub name: String,
    /// Proportional set size: its own memory and its share of what it shares. In KiB.
    pub pss_kib: u64,
}

/// berth's own processes of all cells on `node`: keepers, guards, PID 1s.
///
/// # Errors
/// If the node does not answer or runs no cell.
pub fn of_cells(lab: &Lab, node: &str) -> Result<Vec<Process>> {
    // One line a process: its command line and the sum that the kernel keeps in smaps_rollup.
    let script = r#"
        for dir in /proc/[0-9]*; do
            line=$(tr '\0' ' ' <"$dir/cmdline" 2>/dev/null) || continue
            case $line in berth-portwatch*) continue ;; berth-*) ;; *) continue ;; esac
            pss=$(awk '/^Pss:/ { print $2 }' "$dir/smaps_rollup" 2>/dev/null) || continue
            echo "$pss $line"
        done"#;
    let output = lab
        .exec(node, &["sh", "-c", script])?
        .check("read the memory of processes")?;
    let processes: Result<Vec<Process>> = output
        .stdout
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(pss, name)| {
            let pss_kib = pss.parse().context(format!("size of {name}"))?;
            Ok(Process {
                name: name.trim().to_owned(),
                pss_kib,
            })
        })
        .collect();
    processes.and_then(|found| match found.is_empty() {
        true => Err(Error::new(format!("no cell runs on {node}"))),
        false => Ok(found),
    })
}
