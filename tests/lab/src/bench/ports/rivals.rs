//! What else there is: a bond, where the kernel has one, and `ocf:heartbeat:ethmonitor`.

use std::time::{Duration, Instant};

use super::{CLIENT, times};
use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::flow::{Echo, Prober};
use crate::ports;
use crate::protocol::Cable;
use crate::scene;
use crate::wait::{holds, wait_for};

const RUNS: usize = 10;
const LIMIT: Duration = Duration::from_secs(10);
/// By its defaults ethmonitor looks every 10 s, and five times 10 s apart before it believes.
const MONITOR_LIMIT: Duration = Duration::from_secs(120);
/// A bond over two ports that nothing else uses, on a network of its own.
const BOND: &str = "\
    ip link add bond0 type bond mode active-backup miimon 100 2>/dev/null || exit 99
    sysctl -q -w net.ipv4.conf.all.arp_ignore=1
    for port in eth4 eth5; do ip link set $port down; ip link set $port master bond0; done
    ip address add 10.9.0.1/24 dev bond0 && ip link set bond0 up";
const BOND_ADDRESS: &str = "10.9.0.1";
const ETHMONITOR: &str = r#"<primitive id="bench-eth" class="ocf" provider="heartbeat" type="ethmonitor">
  <instance_attributes id="bench-eth-p">
    <nvpair id="bench-eth-i" name="interface" value="eth1"/>
  </instance_attributes>
  <operations><op id="bench-eth-m" name="monitor" interval="10s" timeout="60s"/></operations>
</primitive>"#;

pub fn measure(lab: &Lab, busy: &str) -> Result<Vec<String>> {
    let nodes = lab.plan().node_names();
    // Where nothing is served, so that nothing else happens there.
    let idle = nodes.iter().find(|node| *node != busy);
    let node = idle.ok_or_else(|| Error::new("there is only one node"))?;
    let mut lines = bond(lab, node)?;
    lines.extend(ethmonitor(lab, node)?);
    Ok(lines)
}

fn bond(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let output = lab.exec(node, &["sh", "-c", BOND])?;
    if output.code() == 99 {
        return Ok(vec!["a bond: this kernel has none".to_owned()]);
    }
    output.check("make a bond")?;
    let words = ["ip", "address", "add", "10.9.0.2/24", "dev", "eth0"];
    lab.exec(CLIENT, &words)?.check("ip address")?;
    let echo = Echo::start_on(lab, node, BOND_ADDRESS, CLIENT)?;
    let prober = Prober::start(lab, CLIENT, echo.address())?;
    let mut outages = vec![];
    for run in 0..RUNS {
        let port = ["eth4", "eth5"][run % 2];
        let before = Instant::now();
        lab.set_cable(node, port, Cable::Pulled)?;
        prober.wait_for_answer(Instant::now() + LIMIT / 10, LIMIT)?;
        outages.push(prober.longest(before));
        lab.set_cable(node, port, Cable::Good)?;
        prober.wait_for_answer(Instant::now() + LIMIT / 10, LIMIT)?;
    }
    lab.exec(node, &["ip", "link", "del", "bond0"])?
        .check("ip link")?;
    let what = format!("{RUNS} pulled cables of a bond, miimon 100: outage, ms");
    Ok(vec![times(&what, &outages, "")])
}

fn ethmonitor(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let words = ["cibadmin", "--create", "--scope", "resources", "--xml-text"];
    lab.exec(node, &[&words[..], &[ETHMONITOR]].concat())?
        .check("add ethmonitor")?;
    let location = format!(
        r#"<rsc_location id="bench-eth-l" rsc="bench-eth" node="{node}" score="INFINITY"/>"#
    );
    let words = [
        "cibadmin",
        "--create",
        "--scope",
        "constraints",
        "--xml-text",
        &location,
    ];
    lab.exec(node, &words)?.check("place ethmonitor")?;
    scene::wait_on(lab, node, "bench-eth", node)?;
    let value = || -> Result<String> {
        let words = ["attrd_updater", "-Q", "-n", "ethmonitor-eth1", "-N", node];
        let output = lab.exec(node, &words)?.check("attrd_updater")?;
        let value = output.stdout.split("value=").nth(1).unwrap_or_default();
        Ok(value.trim().trim_matches('"').to_owned())
    };
    wait_for("ethmonitor's attribute", MONITOR_LIMIT, || {
        let seen = value()?;
        holds(seen == "1", Error::new(seen))
    })?;
    lab.set_cable(node, "eth1", Cable::Pulled)?;
    let begun = Instant::now();
    ports::wait_usable(lab, node, &["eth1"], false, LIMIT)?;
    let ours = begun.elapsed();
    wait_for("ethmonitor to notice", MONITOR_LIMIT, || {
        let seen = value()?;
        holds(seen == "0", Error::new(seen))
    })?;
    let theirs = begun.elapsed();
    lab.set_cable(node, "eth1", Cable::Good)?;
    for words in [
        ["cibadmin", "--delete", "--xml-text", &location],
        ["crm_resource", "--cleanup", "--resource", "bench-eth"],
    ] {
        lab.exec(node, &words)?.check(words[0])?;
    }
    lab.exec(node, &["cibadmin", "--delete", "--xml-text", ETHMONITOR])?
        .check("remove ethmonitor")
        .context("clean up")?;
    Ok(vec![
        times(
            "a pulled cable is known to portwatch at most after, ms",
            &[ours],
            "",
        ),
        times("  to ethmonitor, by its defaults", &[theirs], ""),
    ])
}
