//! Pulled cables and dead switches, one after the other, as a client sees them.

use std::time::{Duration, Instant};

use super::{CLIENT, LIMIT, figure, millis, other, times};
use crate::bench::VIP;
use crate::control::Lab;
use crate::error::Result;
use crate::flow::{Echo, Prober, Stream};
use crate::ports;
use crate::protocol::Cable;
use crate::wire::{LinkEvent, Listener, link_events, wait_to_hear};
use crate::worker::{Worker, at_work, wait_for_work};

/// Pulled cables without load, and dead switches.
const PULLED: usize = 20;
const DEAD: usize = 10;
/// How long the client is left alone after an event: to look at the node takes processor time.
const QUIET: Duration = Duration::from_millis(400);
/// portwatch's default.
const INTERVAL: Duration = Duration::from_millis(200);

pub struct Bench<'l> {
    lab: &'l Lab,
    node: &'l str,
    echo: &'l Echo,
    prober: Prober,
    events: Listener<LinkEvent>,
}

/// One pulled cable.
struct Pulled {
    /// Until a probe was answered again: from the first lost one, and from the link event.
    outage: Duration,
    after_event: Duration,
}

impl<'l> Bench<'l> {
    pub fn new(lab: &'l Lab, node: &'l str, echo: &'l Echo) -> Result<Self> {
        Ok(Self {
            lab,
            node,
            echo,
            prober: Prober::start(lab, CLIENT, echo.address())?,
            events: link_events(lab, node)?,
        })
    }

    pub fn pulled(&self) -> Result<Vec<String>> {
        let runs: Vec<Pulled> = (0..PULLED).map(|_| self.pull()).collect::<Result<_>>()?;
        let of = |figure: fn(&Pulled) -> Duration| runs.iter().map(figure).collect::<Vec<_>>();
        let what = format!("{PULLED} pulled cables: outage after the link event, ms");
        Ok(vec![
            times(&what, &of(|p| p.after_event), "median <= 10"),
            times("  from the first lost probe", &of(|p| p.outage), ""),
        ])
    }

    /// With a connection that is never idle and an NFS client that writes.
    pub fn loaded(&self, failures: usize) -> Result<Vec<String>> {
        let mut stalls = vec![];
        let (mut outages, mut broken) = (vec![], 0);
        let workers = [Worker::nfs(CLIENT, VIP, "/data")?];
        let during = || {
            wait_for_work(&workers, &[0], 1, || {})?;
            let mut stream = Stream::start(self.lab, CLIENT, self.echo.address())?;
            for _ in 0..failures {
                stream.wait_for_progress(LIMIT)?;
                stream.take();
                outages.push(self.pull()?.after_event);
                let moves_on = stream.wait_for_progress(LIMIT);
                let traffic = stream.take();
                stalls.push(traffic.stall);
                if moves_on.is_err() || traffic.broken.is_some() {
                    broken += 1;
                    stream = Stream::start(self.lab, CLIENT, self.echo.address())?;
                }
            }
            Ok(())
        };
        let ((), reports) = at_work(self.lab, &workers, during)?;
        let (mut lost, mut waits) = (0, vec![]);
        for (worker, report) in workers.iter().zip(&reports) {
            lost += worker.lost(self.lab, report)?;
            broken += usize::from(report.error.is_some());
            let mut longest: Vec<Duration> = report.acks.iter().map(|ack| ack.took).collect();
            longest.sort_unstable();
            waits.extend(longest.into_iter().rev().take(failures));
        }
        let what = format!("{failures} pulled cables under load: outage, ms");
        Ok(vec![
            times(&what, &outages, ""),
            times("  stall of a TCP connection, ms", &stalls, "max <= 250"),
            times("  longest waits of an NFS writer, ms", &waits, "max <= 250"),
            figure("  connections lost", broken, "0"),
            figure("  acknowledged writes lost", lost, "0"),
        ])
    }

    pub fn dead(&self) -> Result<Vec<String>> {
        let mut found = vec![];
        for _ in 0..DEAD {
            let port = ports::port_of(self.lab, self.node, VIP)?;
            let before = Instant::now();
            self.lab.set_cable(self.node, &port, Cable::Dead)?;
            let answered = self
                .prober
                .wait_for_answer(Instant::now() + QUIET * 3, LIMIT)?;
            let gaps = self.prober.gaps(before);
            let until = gaps.iter().filter_map(|gap| gap.until).max();
            let from = gaps.iter().map(|gap| gap.from).min();
            if let (Some(from), Some(until)) = (from, until.filter(|u| *u <= answered)) {
                found.push(until.saturating_duration_since(from));
            }
            self.mend(&port)?;
        }
        let most = found.iter().max().copied().unwrap_or_default();
        let intervals = format!("{:.2}", millis(most) / millis(INTERVAL));
        let what = format!("{} dead switches: outage, ms", found.len());
        Ok(vec![
            times(&what, &found, "max <= 600"),
            figure("  the longest, in probe intervals", intervals, "3"),
        ])
    }

    fn pull(&self) -> Result<Pulled> {
        let port = ports::port_of(self.lab, self.node, VIP)?;
        self.prober.wait_for_answer(Instant::now(), LIMIT)?;
        let before = Instant::now();
        self.lab.set_cable(self.node, &port, Cable::Pulled)?;
        let is = |event: &LinkEvent| event.name == port && !event.carrier;
        let event = wait_to_hear(&self.events, before, LIMIT, is)?;
        self.prober.wait_for_answer(event + QUIET, LIMIT)?;
        let gaps = self.prober.gaps(before);
        let until = gaps.iter().filter_map(|gap| gap.until).max();
        let from = gaps.iter().map(|gap| gap.from).min();
        let since = |begin: Instant| {
            until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(begin)
            })
        };
        let pulled = Pulled {
            outage: from.map_or(Duration::ZERO, since),
            after_event: since(event),
        };
        self.mend(&port)?;
        Ok(pulled)
    }

    fn mend(&self, port: &str) -> Result<()> {
        self.lab.set_cable(self.node, port, Cable::Good)?;
        ports::wait_usable(self.lab, self.node, &[port, other(port)], true, LIMIT)
    }
}
