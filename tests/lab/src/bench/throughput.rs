//! Throughput into a cell beside that to the bare node, in turns, by iperf3.

use std::process::Child;
use std::time::Duration;

use super::measure::median;
use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::process;
use crate::wait::wait_for;

const SECONDS: &str = "2";
const PORT: &str = "5201";
const LIMIT: Duration = Duration::from_secs(30);

/// Medians, in Gbit/s.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// From the server to the client, through the cell and to the bare node.
    pub down: (f64, f64),
    /// From the client to the server.
    pub up: (f64, f64),
}

/// Measures from client c1, `rounds` times each in turns: `vip` is served by `vserver`'s cell on
/// `node`, `address` is the node's own.
///
/// # Errors
/// If iperf3 can't be run.
pub fn measure(
    lab: &Lab,
    node: &str,
    vserver: &str,
    (vip, address): (&str, &str),
    rounds: usize,
) -> Result<Throughput> {
    let inside = Server::start(
        lab,
        node,
        &["berth", "exec", vserver, "--", "iperf3", "-s", "-B", vip],
    )?;
    let bare = Server::start(lab, node, &["iperf3", "-s", "-B", address])?;
    let mut found: [Vec<u64>; 4] = Default::default();
    for _ in 0..rounds.max(1) {
        found[0].push(once(lab, "c1", vip, true)?);
        found[1].push(once(lab, "c1", address, true)?);
        found[2].push(once(lab, "c1", vip, false)?);
        found[3].push(once(lab, "c1", address, false)?);
    }
    drop((inside, bare));
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let [cell_down, bare_down, cell_up, bare_up] = found.map(|mut v| median(&mut v) as f64 / 1e9);
    Ok(Throughput {
        down: (cell_down, bare_down),
        up: (cell_up, bare_up),
    })
}

/// Bits a second of one run from `client` to a server at `address`.
///
/// # Errors
/// If iperf3 can't be run.
pub(super) fn once(lab: &Lab, client: &str, address: &str, down: bool) -> Result<u64> {
    let mut words = vec!["iperf3", "-c", address, "-p", PORT, "-t", SECONDS, "-J"];
    words.extend(down.then_some("-R"));
    let run = || -> Result<f64> {
        let output = lab.exec_within(client, &words, LIMIT)?;
        let report: serde_json::Value = serde_json::from_str(&output.stdout).context("iperf3")?;
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
        let why = report["error"]
            .as_str()
            .unwrap_or("it reported no throughput");
        bits.ok_or_else(|| Error::new(why))
    };
    // The server may still be about to listen, or busy with the end of the run before.
    let bits = wait_for(format_args!("iperf3 at {address}"), LIMIT, run)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate
    Ok(bits as u64)
}

/// An iperf3 server, ended when dropped.
pub(super) struct Server(Child);

impl Server {
    /// Starts one.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(lab: &Lab, node: &str, words: &[&str]) -> Result<Self> {
        let mut words = words.to_vec();
        words.extend(["-p", PORT]);
        let mut command = lab.command(node, &words)?;
        process::silence(&mut command);
        Ok(Self(command.spawn().context(words.join(" "))?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It can only have ended by itself; the next round starts another.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
