//! Two hundred VIPs on one node, started past Pacemaker, which would take a while for so many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use super::{CLIENT, LIMIT, figure, other, times};
use crate::bench::VIP;
use crate::control::Lab;
use crate::error::{Error, Result};
use crate::ports;
use crate::protocol::Cable;
use crate::wait::{holds, wait_for};
use crate::wire::{LinkEvent, arp_senders, link_events, wait_to_hear};

const COUNT: usize = 200;
const RUNS: usize = 5;
const ACTION_LIMIT: Duration = Duration::from_secs(120);
/// How long a flapping port is up, and down.
const FLAP: Duration = Duration::from_millis(300);
/// How long announcements are waited for before the node is looked at.
const QUIET: Duration = Duration::from_millis(1500);

pub struct Crowd<'l> {
    lab: &'l Lab,
    node: &'l str,
}

/// Addresses of the office that nobody else has.
fn addresses() -> Vec<Ipv4Addr> {
    let free = (102..=252)
        .chain(52..=100)
        .map(|n| Ipv4Addr::new(10, 1, 0, n));
    free.take(COUNT).collect()
}

impl<'l> Crowd<'l> {
    pub fn start(lab: &'l Lab, node: &'l str) -> Result<Self> {
        let crowd = Self { lab, node };
        crowd.act("start")?;
        Ok(crowd)
    }

    pub fn stop(self) -> Result<()> {
        self.act("stop")
    }

    fn act(&self, action: &str) -> Result<()> {
        let addresses: Vec<String> = addresses().iter().map(ToString::to_string).collect();
        let script = format!(
            "printf '%s\\n' {} | xargs -P 4 -I IP env OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 \
             OCF_RA_VERSION_MINOR=1 OCF_RESOURCE_INSTANCE=bench-IP OCF_RESOURCE_PROVIDER=berth \
             OCF_RESOURCE_TYPE=vip OCF_RESKEY_CRM_meta_timeout=60000 OCF_RESKEY_vserver=alpha \
             OCF_RESKEY_ip=IP OCF_RESKEY_subnet=office=10.1.0.0/24 \
             OCF_RESKEY_gateway=10.1.0.254 HA_LOGFACILITY=none \
             /usr/lib/ocf/resource.d/berth/vip {action}",
            addresses.join(" ")
        );
        let words = ["sh", "-c", &script];
        self.lab
            .exec_within(self.node, &words, ACTION_LIMIT)?
            .check(format!("{action} {COUNT} VIPs"))?;
        Ok(())
    }

    /// How many of the office's VIPs are at each port.
    fn counts(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for (_, port) in ports::placed(self.lab, self.node)? {
            *counts.entry(port).or_default() += 1;
        }
        Ok(counts)
    }

    fn wait_for_all_at(&self, port: &str) -> Result<()> {
        wait_for(format_args!("all VIPs at {port}"), LIMIT, || {
            let counts = self.counts()?;
            let all = counts.get(port) == Some(&(COUNT + 1));
            holds(all, Error::new(format!("{counts:?}")))
        })
    }

    fn mend(&self, port: &str) -> Result<()> {
        self.lab.set_cable(self.node, port, Cable::Good)?;
        ports::wait_usable(self.lab, self.node, &["eth1", "eth2"], true, LIMIT)
    }

    pub fn pulled(&self) -> Result<Vec<String>> {
        self.lab.set_cable(self.node, "eth2", Cable::Pulled)?;
        self.wait_for_all_at("eth1")?;
        self.mend("eth2")?;
        let heard = arp_senders(self.lab, CLIENT, "eth0")?;
        let events = link_events(self.lab, self.node)?;
        let own: BTreeSet<Ipv4Addr> = addresses().into_iter().collect();
        let (mut first, mut last, mut missing) = (vec![], vec![], 0);
        for _ in 0..RUNS {
            let port = ports::port_of(self.lab, self.node, VIP)?;
            let before = Instant::now();
            self.lab.set_cable(self.node, &port, Cable::Pulled)?;
            let is = |event: &LinkEvent| event.name == port && !event.carrier;
            let event = wait_to_hear(&events, before, LIMIT, is)?;
            // Not looked at meanwhile, which would take processor time.
            thread::sleep(QUIET);
            let mut told: BTreeMap<Ipv4Addr, Instant> = BTreeMap::new();
            for (at, (ip, _)) in heard.since(event) {
                if own.contains(&ip) {
                    told.entry(ip).or_insert(at);
                }
            }
            missing += COUNT - told.len();
            let since = |at: &Instant| at.saturating_duration_since(event);
            first.extend(told.values().min().map(since));
            last.extend(told.values().max().map(since));
            self.wait_for_all_at(other(&port))?;
            self.mend(&port)?;
        }
        let what = format!("{COUNT} VIPs on a pulled port, {RUNS} times: last announced, ms");
        let mut lines = vec![
            times(&what, &last, "<= 200"),
            times("  first announced, ms", &first, ""),
        ];
        if missing > 0 {
            lines.push(figure("  not announced at all", missing, "0"));
        }
        Ok(lines)
    }

    /// The port of the first VIP flaps; the rest is as it was.
    pub fn flapping(&self, time: Duration) -> Result<Vec<String>> {
        ports::wait_usable(self.lab, self.node, &["eth1", "eth2"], true, LIMIT)?;
        let port = ports::port_of(self.lab, self.node, VIP)?;
        let mark = ports::log_mark(self.lab, self.node)?;
        let end = Instant::now() + time;
        while Instant::now() < end {
            for state in [Cable::Pulled, Cable::Good] {
                self.lab.set_cable(self.node, &port, state)?;
                thread::sleep(FLAP);
            }
        }
        let log = ports::log_since(self.lab, self.node, mark)?;
        let moves: BTreeMap<IpAddr, usize> = ports::moves(&log);
        let most = moves.values().max().copied().unwrap_or_default();
        let what = format!(
            "a port flaps for {} s: most moves of one of {} VIPs",
            time.as_secs(),
            COUNT + 1
        );
        Ok(vec![figure(&what, most, "2")])
    }
}
