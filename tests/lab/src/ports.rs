//! What a node says of its ports and of the addresses it serves through them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::machine::LOG;
use crate::portwatch;
use crate::wait::{holds, wait_for};

/// What portwatch tells the agents of its node.
const REPORT: &str = "/run/berth/ports.json";

/// Each VIP that a node serves, and the port that it serves it through.
///
/// # Errors
/// If the node does not answer.
pub fn placed(lab: &Lab, node: &str) -> Result<BTreeMap<IpAddr, String>> {
    let script = "ip neigh show proxy; ip -6 neigh show proxy";
    let output = lab.exec(node, &["sh", "-c", script])?.check("ip neigh")?;
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (vip, "dev", port) = (words.next()?.parse().ok()?, words.next()?, words.next()?) else {
            return None;
        };
        Some((vip, port.to_owned()))
    };
    Ok(output.stdout.lines().filter_map(entry).collect())
}

/// The port that a VIP is served through.
///
/// # Errors
/// If the node does not serve it.
pub fn port_of(lab: &Lab, node: &str, vip: &str) -> Result<String> {
    let ip: IpAddr = vip.parse().context(vip)?;
    let port = placed(lab, node)?.remove(&ip);
    port.ok_or_else(|| Error::new(format!("{vip} is not served on {node}")))
}

/// Waits until a VIP is served through `port`.
///
/// # Errors
/// If it is not within `limit`.
pub fn wait_at(lab: &Lab, node: &str, (vip, port): (&str, &str), limit: Duration) -> Result<()> {
    wait_for(format_args!("{vip} at {port} of {node}"), limit, || {
        let seen = port_of(lab, node, vip)?;
        holds(seen == port, Error::new(format!("it is at {seen}")))
    })
}

/// The ports that VIPs may move to, as portwatch has it.
///
/// # Errors
/// If it does not run.
pub fn usable(lab: &Lab, node: &str) -> Result<BTreeSet<String>> {
    let Some(state) = portwatch::known_state(lab, node)? else {
        return usable_by_report(lab, node);
    };
    let ports = state.ports.into_iter();
    let usable = ports.filter(|(_, port)| port.condition.is_usable());
    Ok(usable.map(|(name, _)| name).collect())
}

/// The same of a daemon that does not tell its state: what it tells the agents.
fn usable_by_report(lab: &Lab, node: &str) -> Result<BTreeSet<String>> {
    let output = lab.exec(node, &["cat", REPORT])?.check(REPORT)?;
    let report: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&output.stdout).context(REPORT)?;
    let is_usable =
        |port: &serde_json::Value| matches!(port["standing"].as_str(), Some("Good" | "Degraded"));
    let usable = report.into_iter().filter(|(_, port)| is_usable(port));
    Ok(usable.map(|(name, _)| name).collect())
}

/// Waits until each of these ports can be used, or none of them.
///
/// # Errors
/// If it is not so within `limit`.
pub fn wait_usable(
    lab: &Lab,
    node: &str,
    ports: &[&str],
    usable: bool,
    limit: Duration,
) -> Result<()> {
    let what = format!("{} of {node} to be usable: {usable}", ports.join(" "));
    wait_for(what, limit, || {
        let seen = self::usable(lab, node)?;
        let mut ports = ports.iter();
        let all = ports.all(|port| seen.contains(*port) == usable);
        holds(all, Error::new(format!("usable are {seen:?}")))
    })
}

/// How many lines a node's log has.
///
/// # Errors
/// If the node does not answer.
pub fn log_mark(lab: &Lab, node: &str) -> Result<usize> {
    let output = lab.exec(node, &["wc", "-l", LOG])?.check("wc")?;
    let count = output.stdout.split_whitespace().next();
    count.unwrap_or_default().parse().context("wc")
}

/// What portwatch's daemon and agent have logged on a node after the first `mark` lines.
///
/// # Errors
/// If the node does not answer.
pub fn log_since(lab: &Lab, node: &str, mark: usize) -> Result<Vec<String>> {
    let from = format!("+{}", mark + 1);
    let output = lab.exec(node, &["tail", "-n", &from, LOG])?.check("tail")?;
    let own = |line: &&str| line.contains(" portwatch(");
    Ok(output
        .stdout
        .lines()
        .filter(own)
        .map(str::to_owned)
        .collect())
}

/// How often each VIP was moved, by the lines of such a log.
pub fn moves(log: &[String]) -> BTreeMap<IpAddr, usize> {
    let mut moves = BTreeMap::new();
    for line in log {
        let words = line.split_once("INFO: ").map_or("", |(_, words)| words);
        let vip = words.split_once(": from ").map(|(vip, _)| vip.parse());
        if let Some(Ok(vip)) = vip {
            *moves.entry(vip).or_default() += 1;
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_counted_by_vip() {
        let line = |vip: &str| {
            format!("Nov 25 17:19:14 portwatch(portwatch)[188]: INFO: {vip}: from eth1 to eth2")
        };
        let other = line("x").replace("INFO", "WARNING");
        let log = [
            line("10.1.0.50"),
            line("fd00:1::50"),
            other,
            line("10.1.0.50"),
        ];
        let counted: Vec<usize> = moves(&log).into_values().collect();
        assert_eq!(counted, [2, 1]);
    }
}
