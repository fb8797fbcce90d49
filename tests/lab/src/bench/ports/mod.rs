//! What failed ports cost, and what it costs to watch them.

mod crowd;
mod failed;
mod idle;
mod rivals;

use std::time::Duration;

use super::VIP;
use super::measure::median;
use crate::control::Lab;
use crate::error::Result;
use crate::flow::Echo;
use crate::scene;

/// The client that waits for answers.
const CLIENT: &str = "c1";
const LIMIT: Duration = Duration::from_secs(30);
/// Ports of each node beside the usual ones: eight in all that clients can be on.
pub const SPARE_PORTS: u8 = 5;
/// Ports that have failed are used again at once: they fail in turns.
const AT_ONCE: &str = "[portwatch]\nrecover_after = 0\n";

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Pulled cables under load.
    pub failures: usize,
    /// How long a port is saturated.
    pub soak: Duration,
    /// How long a port flaps.
    pub flap: Duration,
}

/// The head of a table of what was reached, and the aims.
pub(super) fn head(what: &str) -> String {
    format!("\n{what:<54} {:>8} {:>7}   aim", "median", "max")
}

/// Measures and prints.
///
/// # Errors
/// If something can't be measured. A figure that misses its aim is no error.
pub fn run(lab: &Lab, scope: Scope) -> Result<()> {
    let config = scene::config(lab, &[scene::ALPHA]);
    scene::apply(lab, &(config.clone() + AT_ONCE))?;
    let node = scene::node_of(lab, "n1", "alpha")?;
    println!("{}", head("Ports"));
    {
        let echo = Echo::start(lab, (&node, "alpha"), VIP, CLIENT)?;
        let bench = failed::Bench::new(lab, &node, &echo)?;
        lab.say("pulled cables");
        print(&bench.pulled()?);
        lab.say("pulled cables under load");
        print(&bench.loaded(scope.failures)?);
        lab.say("dead switches");
        print(&bench.dead()?);
    }
    lab.say("200 more VIPs");
    let crowd = crowd::Crowd::start(lab, &node)?;
    print(&crowd.pulled()?);
    lab.say("a port that flaps, as the defaults have it");
    scene::apply(lab, &config)?;
    print(&crowd.flapping(scope.flap)?);
    lab.say("a saturated port");
    print(&idle::saturated(lab, &node, scope.soak)?);
    lab.say("an idle daemon with eight ports and 200 VIPs");
    scene::apply(lab, &idle::with_eight_ports(&config))?;
    print(&idle::daemon(lab, &node)?);
    crowd.stop()?;
    scene::apply(lab, &config)?;
    lab.say("a bond, and ethmonitor");
    print(&rivals::measure(lab, &node)?);
    println!();
    Ok(())
}

pub(super) fn print(lines: &[String]) {
    lines.iter().for_each(|line| println!("  {line}"));
}

/// A line of the table: times in milliseconds, and the aim.
pub(super) fn times(what: &str, times: &[Duration], aim: &str) -> String {
    let mut sorted = times.to_vec();
    if sorted.is_empty() {
        return format!("{what:<54} {:>8}", "none");
    }
    let middle = millis(median(&mut sorted));
    let most = millis(sorted.last().copied().unwrap_or_default());
    format!("{what:<54} {middle:>8.1} {most:>7.1}   {aim}")
}

/// A line of the table: one figure, and the aim.
pub(super) fn figure(what: &str, value: impl std::fmt::Display, aim: &str) -> String {
    format!("{what:<54} {value:>8} {:>7}   {aim}", "")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The other of the two ports that the bench pulls.
fn other(port: &str) -> &'static str {
    match port {
        "eth1" => "eth2",
        _ => "eth1",
    }
}
