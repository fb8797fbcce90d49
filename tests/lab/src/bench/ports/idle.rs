//! What watching costs, and whether load is mistaken for failure.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::{CLIENT, LIMIT, SPARE_PORTS, figure};
use crate::bench::VIP;
use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::ports;
use crate::process;
use crate::wait::{holds, wait_for};

const LOOK: Duration = Duration::from_secs(20);
/// After its first half minute a daemon asks the cluster less often.
const SETTLED: Duration = Duration::from_secs(35);
const PORT: &str = "5202";

/// The same with the spare ports.
pub fn with_eight_ports(config: &str) -> String {
    let spare: Vec<String> = (0..SPARE_PORTS)
        .map(|n| format!(", eth{} = \"office\"", n + 4))
        .collect();
    let spare = spare.concat();
    config.replace("eth3 = \"lab\"", &format!("eth3 = \"lab\"{spare}"))
}

/// Processor time and memory of the daemon.
pub fn daemon(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let last = format!("eth{}", 3 + SPARE_PORTS);
    ports::wait_usable(lab, node, &["eth1", "eth2", "eth3", &last], true, LIMIT)?;
    thread::sleep(SETTLED);
    let before = Usage::read(lab, node)?;
    let begun = Instant::now();
    thread::sleep(LOOK);
    let after = Usage::read(lab, node)?;
    let time = begun.elapsed();
    holds(
        before.pid == after.pid,
        Error::new("the daemon was restarted"),
    )?;
    let percent = |used: Duration| {
        let share = used.as_secs_f64() / time.as_secs_f64() * 100.0;
        format!("{share:.3} %")
    };
    let mib = |kib: u32| format!("{:.2}", f64::from(kib) / 1024.0);
    Ok(vec![
        figure(
            "an idle daemon, 8 ports, 201 VIPs: of one core",
            percent(after.own - before.own),
            "0.2 %",
        ),
        figure(
            "  its children, which talk to the cluster",
            percent(after.children - before.children),
            "",
        ),
        figure("  its memory, MiB (PSS)", mib(after.pss_kib), "6"),
        figure("  resident, MiB", mib(after.rss_kib), "6"),
    ])
}

#[derive(Debug)]
struct Usage {
    pid: u32,
    own: Duration,
    /// Those that have ended, to a hundredth of a second.
    children: Duration,
    pss_kib: u32,
    rss_kib: u32,
}

impl Usage {
    fn read(lab: &Lab, node: &str) -> Result<Self> {
        // In proc_pid_stat(5), times of ended children are the fields 16 and 17.
        let script = r#"
            pid=$(ps -e -o pid=,args= | awk '$2 == "berth-portwatch" { print $1; exit }')
            cd /proc/$pid
            echo $pid $(cut -d ' ' -f 1 schedstat) \
                $(sed 's/.*) //' stat | awk '{ print $14 + $15 }') \
                $(awk '/^Pss:/ { print $2 }' smaps_rollup) \
                $(awk '/^Rss:/ { print $2 }' smaps_rollup)"#;
        let output = lab.exec(node, &["sh", "-c", script])?.check("read /proc")?;
        let numbers: Vec<u64> = output
            .stdout
            .split_whitespace()
            .map(|n| n.parse().context(&output.stdout))
            .collect::<Result<_>>()?;
        let [pid, own, ticks, pss, rss] = numbers[..] else {
            return Err(Error::new(format!("no daemon: {}", output.stdout)));
        };
        let small = |n: u64| u32::try_from(n).context("a size");
        Ok(Self {
            pid: small(pid)?,
            own: Duration::from_nanos(own),
            children: Duration::from_millis(ticks * 10),
            pss_kib: small(pss)?,
            rss_kib: small(rss)?,
        })
    }
}

/// As much as goes through a port, both ways.
pub fn saturated(lab: &Lab, node: &str, time: Duration) -> Result<Vec<String>> {
    let nodes = lab.plan().node_names();
    let marks: Vec<usize> = nodes
        .iter()
        .map(|n| ports::log_mark(lab, n))
        .collect::<Result<_>>()?;
    let words = ["berth", "exec", "alpha", "--", "iperf3", "-s", "-p", PORT];
    let mut command = lab.command(node, &words)?;
    process::silence(&mut command);
    let _server = Ended(command.spawn().context("start iperf3")?);
    let seconds = time.as_secs().to_string();
    let words = [
        "iperf3", "-c", VIP, "-p", PORT, "-t", &seconds, "-P", "4", "--bidir", "-J",
    ];
    let rate = wait_for("iperf3", LIMIT, || -> Result<f64> {
        let output = lab.exec_within(CLIENT, &words, time + LIMIT)?;
        let report: serde_json::Value = serde_json::from_str(&output.stdout).context("iperf3")?;
        let end = &report["end"];
        let of = |name: &str| end[name]["bits_per_second"].as_f64();
        let sum = of("sum_received").zip(of("sum_received_bidir_reverse"));
        sum.map(|(up, down)| (up + down) / 1e9)
            .ok_or_else(|| Error::new("it reported no throughput"))
    })?;
    let mut alarms = 0;
    for (node, mark) in nodes.iter().zip(marks) {
        let log = ports::log_since(lab, node, mark)?;
        let is = |line: &&String| line.contains("no target answers");
        alarms += log.iter().filter(is).count();
    }
    let what = format!("a port with {rate:.1} Gbit/s for {seconds} s: false alarms");
    Ok(vec![figure(&what, alarms, "0")])
}

/// A program that is ended with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It can only have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
