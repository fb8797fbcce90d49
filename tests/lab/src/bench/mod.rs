//! Figures, side by side with the stock agents in the same run.

mod detour;
mod failover;
pub mod measure;
mod memory;
mod monitor;
pub mod ports;
mod stock;
mod throughput;
pub mod timeline;

use self::failover::Run;
use self::measure::median;
use crate::control::{Lab, Options};
use crate::error::Result;
use crate::scene;

/// alpha's address on the subnet of the client that asks.
const VIP: &str = "10.1.0.50";

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Power failures and planned moves.
    pub runs: usize,
    /// Lost subnets.
    pub detours: usize,
    /// Failures of ports.
    pub ports: ports::Scope,
    /// Nothing but what has to do with ports.
    pub only_ports: bool,
    /// Nothing but what has to do with lost subnets.
    pub only_detours: bool,
}

/// Brings a lab up and prints all figures.
///
/// # Errors
/// If something can't be measured. A figure that misses its aim is no error: it is printed.
pub fn run(mut options: Options, scope: Scope) -> Result<()> {
    let runs = scope.runs;
    options.plan.spare_ports = ports::SPARE_PORTS;
    let lab = Lab::up(&options)?;
    lab.say("alpha with two file systems and two VIPs");
    scene::install(
        &lab,
        &[scene::ALPHA],
        &[("d1", "ext4"), ("d2", "xfs"), ("d4", "ext4")],
    )?;
    if scope.only_detours {
        detour::run(&lab, scope.detours)?;
        return lab.down();
    }
    if scope.only_ports {
        ports::run(&lab, scope.ports)?;
        return lab.down();
    }
    let node = scene::node_of(&lab, "n1", "alpha")?;

    lab.say("monitors");
    let resources = ["alpha-home", "alpha-data", "alpha", "alpha-ip1"];
    print_monitors(&monitor::measure(&lab, &node, &resources, "d4")?);
    print_memory(&memory::of_cells(&lab, &node)?);
    lab.say("throughput");
    let address = format!("10.1.0.{}", node.trim_start_matches('n'));
    print_throughput(throughput::measure(
        &lab,
        &node,
        "alpha",
        (VIP, &address),
        runs,
    )?);
    ports::run(&lab, scope.ports)?;
    detour::run(&lab, scope.detours)?;
    failover::add_dummy(&lab)?;
    let moves = repeat(&lab, "planned move", runs, || failover::planned(&lab, VIP))?;
    let stock = stock_moves(&lab, runs)?;
    let crashes = repeat(&lab, "power failure", runs, || failover::crash(&lab, VIP))?;
    print_runs("Planned move of alpha", &moves);
    print_stock(&moves, stock);
    print_runs("Power failure of alpha's node", &crashes);
    lab.down()
}

fn repeat(
    lab: &Lab,
    what: &str,
    runs: usize,
    mut once: impl FnMut() -> Result<Run>,
) -> Result<Vec<Run>> {
    (1..=runs.max(1))
        .map(|i| {
            let run = once()?;
            lab.say(&format!(
                "{what} {i} of {runs}: answered again after {} ms",
                run.answered
            ));
            Ok(run)
        })
        .collect()
}

/// The median of as many moves of the same server made of stock agents, in milliseconds.
fn stock_moves(lab: &Lab, runs: usize) -> Result<u64> {
    stock::install(lab, "d4")?;
    let mut found = Vec::new();
    for i in 1..=runs.max(1) {
        let answered = stock::planned(lab)?;
        lab.say(&format!(
            "planned move {i} of {runs}, stock agents: answered again after {answered} ms"
        ));
        found.push(answered);
    }
    stock::remove(lab)?;
    Ok(median(&mut found))
}

#[allow(clippy::cast_precision_loss)] // milliseconds
fn print_stock(ours: &[Run], stock: u64) {
    let ours = median(&mut ours.iter().map(|r| r.answered).collect::<Vec<_>>());
    println!(
        "  one file system, NFS and one VIP by stock agents, same lab: {stock} ms (median); \
         ours, two of each and SMB: {:.0} % of that\n",
        ours as f64 / stock.max(1) as f64 * 100.0
    );
}

fn print_runs(title: &str, runs: &[Run]) {
    println!("{title}, ms from the event: NFS listing answered again, beside a bare Dummy started");
    println!("  run   answered   outage   Dummy   answered - Dummy");
    for (i, r) in runs.iter().enumerate() {
        let name = (i + 1).to_string();
        println!("{}", row(&name, r.answered, r.outage, r.dummy, more(r)));
    }
    let of = |figure: fn(&Run) -> u64| median(&mut runs.iter().map(figure).collect::<Vec<_>>());
    // Each run is held against the Dummy of the same moment.
    let more = median(&mut runs.iter().map(more).collect::<Vec<_>>());
    let line = row(
        "median",
        of(|r| r.answered),
        of(|r| r.outage),
        of(|r| r.dummy),
        more,
    );
    println!("{line}");
    // The run in the middle shows where the time goes.
    let mut order: Vec<&Run> = runs.iter().collect();
    order.sort_by_key(|r| r.answered);
    let middle = order[(order.len() - 1) / 2];
    println!("{}", timeline::chart(&middle.actions, middle.begun));
}

/// How much longer the client waited than the Dummy took.
#[allow(clippy::cast_possible_wrap)] // milliseconds
fn more(run: &Run) -> i64 {
    run.answered as i64 - run.dummy as i64
}

fn row(name: &str, answered: u64, outage: u64, dummy: u64, more: i64) -> String {
    format!("  {name:<7}{answered:>7} {outage:>8} {dummy:>7} {more:>12}")
}

#[allow(clippy::cast_precision_loss)] // microseconds of one run
fn print_monitors(rows: &[monitor::Row]) {
    let millis = |us: u64| us as f64 / 1000.0;
    println!(
        "\nOne monitor (median of runs)\n  agent                  CPU ms   wall ms  processes  execs"
    );
    for row in rows {
        let c = row.cost;
        println!(
            "  {:<22} {:>6.2}  {:>8.2}  {:>9}  {:>5}",
            row.agent,
            millis(c.cpu_us),
            millis(c.wall_us),
            c.processes,
            c.execs
        );
    }
    let cheapest = |ours: bool| {
        let of = rows
            .iter()
            .filter(move |r| r.agent.starts_with("berth:") == ours);
        of.map(|r| r.cost.cpu_us.max(1))
    };
    if let (Some(dearest), Some(stock)) = (cheapest(true).max(), cheapest(false).min()) {
        let ratio = stock as f64 / dearest as f64;
        println!("  the cheaper stock agent takes {ratio:.1} times the CPU of our dearest\n");
    }
}

#[allow(clippy::cast_precision_loss)] // kibibytes
fn print_memory(processes: &[memory::Process]) {
    println!("Memory of a cell without its servers (PSS)");
    for p in processes {
        println!("  {:<30} {:>6} KiB", p.name, p.pss_kib);
    }
    let sum: u64 = processes.iter().map(|p| p.pss_kib).sum();
    println!("  {:<30} {:>6.2} MiB\n", "together", sum as f64 / 1024.0);
}

fn print_throughput(t: throughput::Throughput) {
    println!("Throughput, Gbit/s (median)      cell    bare   ratio");
    for (name, (cell, bare)) in [("to the client", t.down), ("from the client", t.up)] {
        println!(
            "  {name:<28} {cell:>6.2}  {bare:>6.2}  {:>5.1} %",
            cell / bare * 100.0
        );
    }
    println!();
}
