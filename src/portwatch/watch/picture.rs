//! The ports and the subnets as [`NodeState`](crate::portwatch::state::NodeState) shows them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::{Watch, WatchedPort};
use crate::plan::port::{Cause, Fault, Standing, State};
use crate::portwatch::state::{Condition, Failure, Hearing, PortState, SubnetState, TargetState};
use crate::types::{BitRate, IfName, Label, Milliseconds};

impl Watch {
    /// The ports as the last judgement has them, with the traffic of VIPs at each.
    pub(crate) fn port_states(
        &self,
        loads: &BTreeMap<&IfName, BitRate>,
        now: Instant,
    ) -> BTreeMap<IfName, PortState> {
        let target = |(address, answered): (IpAddr, Option<Instant>)| TargetState {
            address,
            answered_ms_ago: answered.map(|at| Milliseconds::between(at, now)),
        };
        let state = |(name, port): (&IfName, &WatchedPort)| {
            let state = PortState {
                subnet: port.subnet.clone(),
                condition: condition(port, now),
                good: port.good,
                speed_bits_per_second: port.speed,
                load_bits_per_second: loads.get(name).copied().unwrap_or_default(),
                targets: port.target_probes.targets().map(target).collect(),
            };
            (name.clone(), state)
        };
        self.ports.iter().map(state).collect()
    }

    /// The subnets as the last judgement has them.
    pub(crate) fn subnet_states(&self, now: Instant) -> BTreeMap<Label, SubnetState> {
        let subnets = self.subnets.iter().map(|(name, subnet)| {
            let state = SubnetState {
                nets: self.settings.nets(name).map(|subnet| subnet.net).collect(),
                lost_ms_ago: subnet.lost.map(|at| Milliseconds::between(at, now)),
                hearing: match subnet.fault {
                    Fault::Nobody => Hearing::Answers,
                    Fault::Unknown => Hearing::InDoubt,
                    Fault::Ports => Hearing::OnlyElsewhere,
                    Fault::Targets => Hearing::Nowhere,
                },
            };
            (name.clone(), state)
        });
        subnets.collect()
    }
}

fn condition(port: &WatchedPort, now: Instant) -> Condition {
    if let Some(interface) = &port.part_of {
        let interface = interface.clone();
        return Condition::PartOf { interface };
    }
    if port.link.is_none() {
        return Condition::Missing;
    }
    match port.state {
        State::Failed(Cause::Carrier) => Condition::Failed {
            why: Failure::Carrier,
        },
        State::Failed(Cause::Silent) => Condition::Failed {
            why: Failure::Silent,
        },
        State::Held => {
            let until = port.health.held_until().unwrap_or(now);
            let left_ms = Milliseconds::between(now, until);
            Condition::Held { left_ms }
        }
        State::Good | State::Suspect if port.standing == Standing::Degraded => Condition::Flapping,
        State::Good => Condition::Good,
        State::Suspect => Condition::Suspect,
    }
}
