//! What a lost subnet costs the clients of a virtual server that stays where it is.

use std::time::{Duration, Instant};

use super::measure::median;
use super::ports::{figure, head, print, times};
use super::{VIP, failover, throughput, timeline};
use crate::control::Lab;
use crate::error::{Error, Result};
use crate::flow::{Echo, Prober, Stream};
use crate::ports;
use crate::protocol::Cable;
use crate::scene;
use crate::status;
use crate::wait::{holds, wait_for};

/// The client that waits for answers, and one on the subnet between the nodes.
const CLIENT: &str = "c1";
const NEIGHBOUR: &str = "c2";
/// The VIP's resource.
const RESOURCE: &str = "alpha-ip1";
/// The ports of the subnet that is lost; VIPs are on the last one.
const PORTS: [&str; 2] = ["eth2", "eth1"];
const LIMIT: Duration = Duration::from_secs(60);
/// Measurements of throughput.
const ROUNDS: usize = 3;
/// How long the client is left alone after an event: to look at the nodes takes processor time.
const QUIET: Duration = Duration::from_secs(2);
/// Ports are used again at once when they are back, as they fail often here, and whatever the load.
const PORTWATCH: &str = "[portwatch]\nrecover_after = 0\nbalance = 0\n";

/// One loss and its end, in their parts.
#[derive(Debug, Default)]
struct Run {
    /// Until a probe was answered again.
    outage: Duration,
    /// From the loss to the attribute that the cluster acts on.
    noticed: Option<Duration>,
    /// From there to the begin of the start on the router.
    scheduled: Option<Duration>,
    /// The start.
    start: Option<Duration>,
    /// From its begin until the server's node was told where replies go.
    back: Option<Duration>,
    /// Stalls of a connection that is never idle: at the loss, and at the way home.
    stall: Duration,
    home: Duration,
    home_lost: usize,
    broken: bool,
}

struct Bench<'l> {
    lab: &'l Lab,
    node: String,
    echo: Echo,
}

/// Measures and prints.
///
/// # Errors
/// If something can't be measured. A figure that misses its aim is no error.
pub fn run(lab: &Lab, runs: usize) -> Result<()> {
    scene::apply(lab, &(scene::config(lab, &[scene::ALPHA]) + PORTWATCH))?;
    let node = scene::node_of(lab, "n1", "alpha")?;
    let bench = Bench {
        lab,
        echo: Echo::start(lab, (&node, "alpha"), VIP, CLIENT)?,
        node,
    };
    println!("{}", head("Detour"));
    bench.gather()?;
    lab.say("lost subnets");
    print(&report(
        &bench.repeat(runs, Cable::Pulled)?,
        "lost subnets, carrier gone",
        "max <= 500",
    ));
    lab.say("dead switches");
    print(&report(
        &bench.repeat(runs.div_ceil(2), Cable::Dead)?,
        "lost subnets, dead switch",
        "max <= 1200",
    ));
    lab.say("throughput");
    print(&bench.throughput()?);
    lab.say("a router without power");
    print(&bench.router_without_power()?);
    println!();
    Ok(())
}

fn report(runs: &[Run], what: &str, aim: &str) -> Vec<String> {
    let of = |figure: fn(&Run) -> Duration| runs.iter().map(figure).collect::<Vec<_>>();
    let parts =
        |part: fn(&Run) -> Option<Duration>| runs.iter().filter_map(part).collect::<Vec<_>>();
    let broken = runs.iter().filter(|run| run.broken).count();
    vec![
        times(
            &format!("{} {what}: outage, ms", runs.len()),
            &of(|r| r.outage),
            aim,
        ),
        times("  until the cluster was told", &parts(|r| r.noticed), ""),
        times(
            "  Pacemaker, until it began the start",
            &parts(|r| r.scheduled),
            "",
        ),
        times("  the start", &parts(|r| r.start), ""),
        times(
            "  from its begin until the server's node was told",
            &parts(|r| r.back),
            "",
        ),
        times("  stall of a TCP connection, ms", &of(|r| r.stall), ""),
        times("  stall at the way home, ms", &of(|r| r.home), "max <= 250"),
        figure(
            "  probes lost at the way home",
            runs.iter().map(|r| r.home_lost).sum::<usize>(),
            "",
        ),
        figure("  connections lost", broken, "0"),
    ]
}

impl Bench<'_> {
    /// Has the VIP at the last port, so that there is only one way home.
    fn gather(&self) -> Result<()> {
        self.lab.set_cable(&self.node, PORTS[0], Cable::Pulled)?;
        ports::wait_at(self.lab, &self.node, (VIP, PORTS[1]), LIMIT)?;
        self.lab.set_cable(&self.node, PORTS[0], Cable::Good)?;
        ports::wait_usable(self.lab, &self.node, &PORTS, true, LIMIT)
    }

    fn repeat(&self, runs: usize, state: Cable) -> Result<Vec<Run>> {
        (0..runs).map(|_| self.once(state)).collect()
    }

    fn once(&self, state: Cable) -> Result<Run> {
        let lab = self.lab;
        let stream = Stream::start(lab, CLIENT, self.echo.address())?;
        let prober = Prober::start(lab, CLIENT, self.echo.address())?;
        prober.wait_for_answer(Instant::now() + QUIET / 10, LIMIT)?;
        let mark = timeline::mark(lab)?;
        stream.take();
        let (lost, clock) = (Instant::now(), failover::time_of_day());
        for port in PORTS {
            lab.set_cable(&self.node, port, state)?;
        }
        prober.wait_for_answer(Instant::now() + QUIET, LIMIT)?;
        stream.wait_for_progress(LIMIT)?;
        let outage = longest(&prober, lost);
        let stall = stream.take().stall;
        let parts = self.parts(&mark, clock)?;
        let healed = Instant::now();
        self.mend()?;
        prober.wait_for_answer(Instant::now(), LIMIT)?;
        let moves_on = stream.wait_for_progress(LIMIT).is_ok();
        let traffic = stream.take();
        Ok(Run {
            outage,
            stall,
            home: traffic.stall,
            home_lost: prober.gaps(healed).iter().map(|gap| gap.lost).sum(),
            broken: traffic.broken.is_some() || !moves_on,
            ..parts
        })
    }

    /// Returns when the cluster has done what there was to do about it: cleaning up, above all, which
    /// holds up whatever comes next by a second.
    fn mend(&self) -> Result<()> {
        self.lab.set_cable(&self.node, PORTS[1], Cable::Good)?;
        ports::wait_at(self.lab, &self.node, (VIP, PORTS[1]), LIMIT)?;
        self.lab.set_cable(&self.node, PORTS[0], Cable::Good)?;
        ports::wait_usable(self.lab, &self.node, &PORTS, true, LIMIT)?;
        wait_for("no address to be degraded", LIMIT, || {
            let seen = status::complaints(self.lab, &self.node)?;
            let of_vip = seen.iter().find(|c| c.degraded && c.resource == RESOURCE);
            of_vip.map_or(Ok(()), |c| Err(Error::new(c.reason.clone())))
        })?;
        failover::settle(self.lab)
    }

    /// Where the time went, by the cluster's logs; `clock` is the time of the day of the loss.
    fn parts(&self, mark: &timeline::Mark, clock: u64) -> Result<Run> {
        let told = timeline::attribute_since(self.lab, mark, "berth-net-office", |v| v == "0")?;
        let router = format!("berth-router-{}", self.node);
        let back = timeline::attribute_since(self.lab, mark, &router, |v| v != "(unset)")?;
        let actions = timeline::since(self.lab, mark)?;
        let mut starts = actions
            .iter()
            .filter(|a| a.verb == "start" && a.resource == RESOURCE && a.node != self.node);
        let start = starts.next();
        let between = |from: u64, to: u64| Duration::from_millis(to.saturating_sub(from));
        Ok(Run {
            noticed: told.map(|told| between(clock, told)),
            scheduled: told
                .zip(start)
                .map(|(told, start)| between(told, start.begun)),
            start: start.map(|start| between(start.begun, start.ended)),
            back: start
                .zip(back)
                .map(|(start, back)| between(start.begun, back)),
            ..Run::default()
        })
    }

    fn lose(&self) -> Result<String> {
        for port in PORTS {
            self.lab.set_cable(&self.node, port, Cable::Pulled)?;
        }
        self.router()
    }

    /// The node that routes.
    fn router(&self) -> Result<String> {
        let others = timeline::powered(self.lab)?;
        let others: Vec<String> = others.into_iter().filter(|n| *n != self.node).collect();
        wait_for("a router", LIMIT, || {
            let mut answering = others
                .iter()
                .filter(|node| ports::port_of(self.lab, node, VIP).is_ok());
            answering.next().cloned().ok_or_else(|| Error::new("none"))
        })
    }

    /// From and to the client: directly, by the detour, and what the subnet between the nodes does by
    /// itself, between a client there and this node.
    fn throughput(&self) -> Result<Vec<String>> {
        let (lab, node) = (self.lab, &*self.node);
        let inside = ["berth", "exec", "alpha", "--", "iperf3", "-s", "-B", VIP];
        let _cell = throughput::Server::start(lab, node, &inside)?;
        let address = format!("10.2.0.{}", node.trim_start_matches('n'));
        let _bare = throughput::Server::start(lab, node, &["iperf3", "-s", "-B", &address])?;
        let measure = |client: &str, target: &str| -> Result<[f64; 2]> {
            let mut found = [vec![], vec![]];
            for _ in 0..ROUNDS {
                for (found, down) in found.iter_mut().zip([true, false]) {
                    found.push(throughput::once(lab, client, target, down)?);
                }
            }
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            Ok(found.map(|mut bits| median(&mut bits) as f64 / 1e9))
        };
        let direct = measure(CLIENT, VIP)?;
        self.lose()?;
        let detour = measure(CLIENT, VIP)?;
        let limit = measure(NEIGHBOUR, &address)?;
        self.mend()?;
        let line = |what: &str, [down, up]: [f64; 2]| format!("{what:<54} {down:>8.2} {up:>7.2}");
        Ok(vec![
            line("throughput, Gbit/s to and from the client: direct", direct),
            line("  by the detour", detour),
            line("  the subnet between the nodes, without VIPs", limit),
        ])
    }

    fn router_without_power(&self) -> Result<Vec<String>> {
        let lab = self.lab;
        let router = self.lose()?;
        let stream = Stream::start(lab, CLIENT, self.echo.address())?;
        let prober = Prober::start(lab, CLIENT, self.echo.address())?;
        prober.wait_for_answer(Instant::now(), LIMIT)?;
        let dead = Instant::now();
        lab.crash(&router)?;
        prober.wait_for_answer(Instant::now() + QUIET, LIMIT)?;
        let outage = longest(&prober, dead);
        let next = self.router()?;
        holds(
            next != router,
            Error::new(format!("{router} has no power and routes")),
        )?;
        let moves_on = stream.wait_for_progress(LIMIT).is_ok();
        let broken = !moves_on || stream.take().broken.is_some();
        self.mend()?;
        lab.boot(&router)?;
        lab.wait_for_cluster(&lab.plan().node_names())?;
        Ok(vec![
            times(
                "a router without power: outage until the third node, ms",
                &[outage],
                "",
            ),
            figure("  connections lost", usize::from(broken), "0"),
        ])
    }
}

/// The longest gap that was not over at `since`, counted from there.
fn longest(prober: &Prober, since: Instant) -> Duration {
    let gaps = prober.gaps(since);
    gaps.iter()
        .map(|gap| gap.after(since))
        .max()
        .unwrap_or_default()
}
