//! Bridges and cables, all of them in the lab's own network namespace: nothing of the host's network
//! is touched, and two labs can't meet.

use std::time::Duration;

use crate::error::Result;
use crate::plan::{BRIDGES, Host, Port};
use crate::process::{command, run};
use crate::protocol::Cable;
use crate::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(10);

/// Builds the bridges.
///
/// # Errors
/// If the kernel has no bridges.
pub fn build() -> Result<()> {
    let mut batch = String::from("link set lo up\n");
    for name in BRIDGES {
        batch += &format!(
            "link add {name} type bridge forward_delay 0 mcast_snooping 0\n\
             link set {name} addrgenmode none up\n"
        );
    }
    ip(&batch, "build the bridges")
}

/// Plugs all cables of a machine whose PID 1 is `pid`.
///
/// # Errors
/// If a port can't be made.
pub fn plug(host: &Host, pid: i32) -> Result<()> {
    let batch: String = host.ports.iter().map(|p| cable(host, p, pid)).collect();
    ip(&batch, &format!("plug the cables of {}", host.name))
}

/// Takes a port away and puts a new one of the same name in its place.
///
/// # Errors
/// If it can't be made.
pub fn replace(host: &Host, port: &Port, pid: i32) -> Result<()> {
    let batch = format!("link del {}\n", outer(&host.name, &port.name)) + &cable(host, port, pid);
    ip(&batch, &format!("replace {} of {}", port.name, host.name))
}

fn cable(host: &Host, port: &Port, pid: i32) -> String {
    let outer = outer(&host.name, &port.name);
    format!(
        "link add {outer} type veth peer name {} netns {pid}\n\
         link set {outer} master {} addrgenmode none up\n",
        port.name, port.bridge
    )
}

/// Nothing that a machine sends arrives any more. Ports that it lost already are no matter.
pub fn silence(host: &Host) {
    let down = |port: &Port| format!("link set {} down\n", outer(&host.name, &port.name));
    let batch: String = host.ports.iter().map(down).collect();
    let mut ip = command("ip");
    ip.args(["-force", "-batch", "-"]);
    // The machine is about to die all the same.
    let _ = run(ip, &batch, LIMIT);
}

/// Takes away what is left of a dead machine's cables. The kernel does it too, but later.
pub fn unplug(host: &Host) {
    for port in &host.ports {
        // Gone already, mostly.
        let _ = ip(
            &format!("link del {}\n", outer(&host.name, &port.name)),
            "unplug",
        );
    }
}

/// Puts the cable of `port` into `state`.
///
/// # Errors
/// If the machine has no power.
pub fn set_cable(host: &Host, port: &Port, state: Cable) -> Result<()> {
    let outer = outer(&host.name, &port.name);
    let what = format!("set the cable of {} {}", host.name, port.name);
    let link = if state == Cable::Pulled { "down" } else { "up" };
    ip(&format!("link set {outer} {link}\n"), &what)?;
    if state == Cable::Pulled {
        return Ok(());
    }
    // States of linux/if_bridge.h: 0 disabled, 3 forwarding.
    let bridge_state = if state == Cable::Dead { "0" } else { "3" };
    // The bridge hears of the link a moment after it came up, and refuses until then.
    wait_for(&what, LIMIT, || {
        let mut bridge = command("bridge");
        bridge.args(["link", "set", "dev", &outer, "state", bridge_state]);
        run(bridge, "", LIMIT)?.check(&what).map(drop)
    })
}

fn outer(machine: &str, port: &str) -> String {
    format!("{machine}-{port}")
}

fn ip(batch: &str, what: &str) -> Result<()> {
    let mut ip = command("ip");
    ip.args(["-batch", "-"]);
    run(ip, batch, LIMIT)?.check(what)?;
    Ok(())
}
