//! The conclusions from the ports' state: which ports VIPs may use, what is published, and what is logged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;

use crate::log;
use crate::plan::attribute::Attribute;
use crate::plan::port::{Cause, Fault, Port, Standing, State};
use crate::plan::vip::Watched;
use crate::portwatch::mover::View;
use crate::portwatch::state::part_of;
use crate::portwatch::watch::{Watch, WatchedPort, is_local};
use crate::sys::netlink::Link;
use crate::types::{BitRate, IfName};

impl Watch {
    /// Draws the conclusions. Returns whether there are any new ones.
    pub(crate) fn judge(&mut self, now: Instant) -> bool {
        let mut changed = !std::mem::replace(&mut self.judged, true);
        for (name, port) in &mut self.ports {
            let (standing, state) = (port.health.standing(now), port.health.state());
            if (standing, state) != (port.standing, port.state) {
                log_change(name, port, state);
                changed |= standing != port.standing;
                (port.standing, port.state) = (standing, state);
            }
            let fault = self.subnets.get(&port.subnet).map(|s| s.witness.fault());
            // Silence is not logged before it is known whose fault it is.
            if fault != Some(Fault::Unknown) || state != State::Failed(Cause::Silent) {
                port.good = standing < Standing::Held;
            }
        }
        for (name, subnet) in &mut self.subnets {
            let fault = subnet.witness.fault();
            changed |= fault != std::mem::replace(&mut subnet.fault, fault);
            let mut ports = self.ports.values().filter(|p| p.subnet == *name);
            let lost = match ports.any(|p| p.good) {
                true => None,
                false => Some(subnet.lost.unwrap_or(now)),
            };
            changed |= lost != std::mem::replace(&mut subnet.lost, lost);
        }
        if changed {
            self.view = self.new_view();
        }
        changed
    }

    fn new_view(&self) -> View {
        let mut view = View::default();
        for (name, port) in &self.ports {
            view.ports.push(Port {
                name: name.clone(),
                subnet: port.subnet.clone(),
                standing: port.standing,
                speed: port.speed,
                load: BitRate::NONE,
            });
            let nets = self.settings.nets(&port.subnet);
            let before = self.view.report.get(name);
            let watched = Watched {
                standing: port.standing,
                load: before.map_or(0, |w| w.load),
                nets: nets.map(|s| (s.net, s.gateway)).collect(),
            };
            view.report.insert(name.clone(), watched);
        }
        view
    }

    /// The ports, as the last judgement has them.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Whether each port has proved that it forwards, or has had the time to.
    pub(crate) fn is_known(&self, now: Instant) -> bool {
        let time = self.settings.interval * (self.settings.fail_after + 1);
        let proved = |port: &WatchedPort| {
            let carries = |l: &Link| l.carrier && port.part_of.is_none();
            let carrier = port.link.as_ref().is_some_and(carries);
            !carrier || !port.target_probes.has_targets() || port.target_probes.has_heard()
        };
        now.saturating_duration_since(self.begun) >= time || self.ports.values().all(proved)
    }

    /// Notes the traffic of the VIPs at each port. Returns whether that changes the report.
    pub(crate) fn set_loads(&mut self, loads: &BTreeMap<&IfName, BitRate>) -> bool {
        let mut changed = false;
        for port in &self.view.ports {
            let load = loads.get(&port.name).copied().unwrap_or_default();
            let share = port.speed.and_then(|speed| load.share_of(speed, 1000));
            if let Some(watched) = self.view.report.get_mut(&port.name) {
                let new = u32::try_from(share.unwrap_or(0)).unwrap_or(u32::MAX);
                changed |= new != std::mem::replace(&mut watched.load, new);
            }
        }
        changed
    }

    /// Makes the next judgement count as new, whatever has changed.
    pub(crate) fn judge_anew(&mut self) {
        self.judged = false;
    }

    /// The attributes to publish; `None`: the attribute is deleted.
    pub(crate) fn attributes(&self) -> Vec<(Attribute, Option<String>)> {
        let ports = self.ports.values().filter(|p| p.good).count();
        let mut attributes = vec![(Attribute::Ports, Some(ports.to_string()))];
        for (name, subnet) in &self.subnets {
            let flag = |on: bool| String::from(if on { "1" } else { "0" });
            let addresses = join(&self.addresses(name));
            let heard = flag(subnet.witness.fault() == Fault::Nobody);
            attributes.extend([
                (
                    Attribute::Net(name.clone()),
                    Some(flag(subnet.lost.is_none())),
                ),
                (
                    Attribute::Addr(name.clone()),
                    Some(addresses).filter(|text| !text.is_empty()),
                ),
                (Attribute::Heard(name.clone()), Some(heard)),
            ]);
        }
        attributes
    }

    /// What is published when the daemon ends: that no target replies to this node. Nobody listens here any more, so
    /// this node can't bear witness for others.
    pub(crate) fn final_values(&self) -> impl Iterator<Item = (Attribute, Option<String>)> {
        let subnets = self.subnets.keys().cloned();
        subnets.map(|name| (Attribute::Heard(name), Some("0".to_owned())))
    }

    /// This node's addresses on a subnet: one of each family, if it has them.
    pub(crate) fn addresses(&self, subnet: &str) -> Vec<IpAddr> {
        let nets: Vec<IpNetwork> = self.settings.nets(subnet).map(|s| s.net).collect();
        let ports = self.ports.values().filter(|p| p.subnet == subnet);
        let all: Vec<(Standing, IpAddr)> = ports
            .flat_map(|p| p.addresses.iter().map(|a| (p.standing, a.ip())))
            .collect();
        let inside = |ip: IpAddr| nets.iter().any(|net| net.contains(ip));
        let given = |ipv4| {
            let own = all.iter().map(|(_, ip)| *ip);
            own.filter(|ip| ip.is_ipv4() == ipv4 && inside(*ip)).min()
        };
        // Every port has a link-local address by which neighbours can reach it in IPv6.
        let local = || {
            let own = all.iter().filter(|(_, ip)| is_local(*ip));
            own.min().map(|(_, ip)| *ip)
        };
        let addresses = [given(true), given(false).or_else(local)];
        addresses.into_iter().flatten().collect()
    }
}

fn join(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(",")
}

fn log_change(name: &str, port: &WatchedPort, state: State) {
    let subnet = &port.subnet;
    match state {
        State::Failed(Cause::Carrier) if port.link.is_none() => {
            log::warn(format_args!(
                "port {name} of {subnet}: there is no such interface"
            ));
        }
        State::Failed(Cause::Carrier) if port.part_of.is_some() => {
            let master = port.part_of.as_deref().unwrap_or_default();
            log::warn(format_args!(
                "port {name} of {subnet}: {}",
                part_of(name, master)
            ));
        }
        State::Failed(Cause::Carrier) => {
            log::warn(format_args!("port {name} of {subnet}: no carrier"));
        }
        State::Failed(Cause::Silent) if port.state == State::Failed(Cause::Carrier) => {
            log::info(format_args!("port {name} of {subnet}: has carrier again"));
        }
        State::Failed(Cause::Silent) => {
            log::warn(format_args!("port {name} of {subnet}: no target answers"));
        }
        State::Held => log::info(format_args!("port {name} of {subnet}: works again")),
        State::Good => log::info(format_args!("port {name} of {subnet}: good")),
        State::Suspect => log::debug(format_args!(
            "port {name} of {subnet}: an answer is overdue"
        )),
    }
}
