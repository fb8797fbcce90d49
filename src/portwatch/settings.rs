//! The agent's parameters, parsed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::log;
use crate::ocf::param::{network, words};
use crate::ocf::{Env, Error, Optional, Param};
use crate::plan::port::Limits;
use crate::spec::portwatch as declared;
use crate::types::{Family, IfName, Label, NodeName, ResourceId, name};

pub(crate) static PORTS: Optional<BTreeMap<IfName, Label>> = Optional::new(declared::PORTS, ports);
pub(crate) static SUBNETS: Optional<Vec<Subnet>> = Optional::new(declared::SUBNETS, subnets);
pub(crate) static TARGETS: Optional<Vec<IpAddr>> = Optional::new(declared::TARGETS, targets);
pub(crate) static INTERVAL: Param<Duration> = Param::time(declared::INTERVAL);
pub(crate) static FAIL_AFTER: Param<u32> = Param::integer(declared::FAIL_AFTER);
pub(crate) static RECOVER_AFTER: Param<Duration> = Param::time(declared::RECOVER_AFTER);
pub(crate) static BALANCE: Param<u32> = Param::integer(declared::BALANCE);

/// How often the VIPs' traffic is measured.
pub(crate) const MEASURE: Duration = Duration::from_secs(5);

/// A network of a subnet; a subnet may have one in each family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    /// The subnet's name.
    pub(crate) name: Label,
    /// The network.
    pub(crate) net: IpNetwork,
    /// The gateway, if the subnet has one.
    pub(crate) gateway: Option<IpAddr>,
}

/// The parameters of one node's portwatch resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Each port with its subnet's name; `None`: the ports are the interfaces with an address in one of the subnets.
    pub(crate) ports: Option<BTreeMap<IfName, Label>>,
    /// The networks of the subnets.
    pub(crate) subnets: Vec<Subnet>,
    /// Addresses to probe besides gateways and other nodes.
    pub(crate) targets: Vec<IpAddr>,
    /// The time from one probe to the next.
    pub(crate) interval: Duration,
    /// After how many intervals without a reply a port has failed.
    pub(crate) fail_after: u32,
    /// How long a port must work before it is good again.
    pub(crate) recover_after: Duration,
    /// From which difference between ports loads are evened out, in percent; 0: never.
    pub(crate) balance: u32,
    /// The name of the resource in the cluster.
    pub(crate) resource: ResourceId,
    /// This node's name in the cluster.
    pub(crate) node: Option<NodeName>,
}

impl Settings {
    /// Reads the parameters.
    ///
    /// # Errors
    /// What is wrong with the parameters. An error in `ports`, which may differ from node to node, is this
    /// node's alone.
    pub(crate) fn read(env: &Env) -> Result<Self, Error> {
        let subnets = SUBNETS.get(env)?.unwrap_or_default();
        let targets = TARGETS.get(env)?.unwrap_or_default();
        for target in &targets {
            if !subnets.iter().any(|s| s.net.contains(*target)) {
                let text = format!("parameter targets: {target} is in none of the subnets");
                return Err(Error::config(text));
            }
        }
        let ports = PORTS.get(env)?;
        for (port, subnet) in ports.iter().flatten() {
            if !subnets.is_empty() && !subnets.iter().any(|s| s.name == *subnet) {
                let mut known: Vec<&str> = subnets.iter().map(|s| s.name.as_str()).collect();
                known.dedup();
                return Err(Error::host(format!(
                    "parameter ports: {port} is on {subnet}, which is none of the subnets ({})",
                    known.join(", ")
                )));
            }
        }
        if ports.is_none() && subnets.is_empty() {
            let text = "neither ports nor subnets is set: there is nothing to watch";
            return Err(Error::config(text));
        }
        Ok(Self {
            ports,
            subnets,
            targets,
            interval: INTERVAL.get(env)?,
            fail_after: FAIL_AFTER.get(env)?,
            recover_after: RECOVER_AFTER.get(env)?,
            balance: BALANCE.get(env)?,
            resource: env.instance().clone(),
            node: env.on_node().and_then(node),
        })
    }

    /// The time limits by which the health of ports is judged.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            interval: self.interval,
            fail_after: self.fail_after,
            recover_after: self.recover_after,
        }
    }

    /// How long a difference in load must last before it is evened out: as long as a port must work before it is good
    /// again, as that moves VIPs, too.
    pub(crate) fn balance_hold(&self) -> Duration {
        self.recover_after.max(MEASURE)
    }

    /// The networks of the subnet called `name`.
    pub(crate) fn nets(&self, name: &str) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter().filter(move |s| s.name == name)
    }
}

/// The node that the cluster calls `name`. One whose name can't be used is as one that the cluster does not name.
pub(crate) fn node(name: &str) -> Option<NodeName> {
    let named = name.parse();
    named
        .inspect_err(|why| log::debug(format_args!("the name of a node {name:?} {why}")))
        .ok()
}

fn ports(text: &str) -> Result<BTreeMap<IfName, Label>, String> {
    let mut ports = BTreeMap::new();
    for word in text.split_whitespace() {
        let wrong = || format!("\"{word}\" is not a port and its subnet, such as eth1=office");
        let (port, subnet) = word.split_once('=').ok_or_else(wrong)?;
        let port = name::interface(port).map_err(|e| format!("\"{port}\" {e}"))?;
        let on: Label = subnet.parse().map_err(|_| wrong())?;
        if let Some(other) = ports.insert(port.clone(), on) {
            return Err(format!("\"{port}\" is on {other} and on {subnet}"));
        }
    }
    match ports.is_empty() {
        true => Err("names no interface".into()),
        false => Ok(ports),
    }
}

fn subnets(text: &str) -> Result<Vec<Subnet>, String> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for word in words(text)? {
        let new = subnet(&word)?;
        for other in &subnets {
            if other.net.contains(new.net.ip()) || new.net.contains(other.net.ip()) {
                return Err(format!(
                    "\"{}={}\" overlaps {}={}",
                    new.name, new.net, other.name, other.net
                ));
            }
        }
        subnets.push(new);
    }
    match subnets.is_empty() {
        true => Err("names no subnet".into()),
        false => Ok(subnets),
    }
}

fn subnet(word: &str) -> Result<Subnet, String> {
    let wrong = || {
        format!(
            "\"{word}\" is not a subnet such as office=10.1.0.0/24 or office=10.1.0.0/24,10.1.0.254"
        )
    };
    let (name, rest) = word.split_once('=').ok_or_else(wrong)?;
    let name: Label = name.parse().map_err(|_| wrong())?;
    let (cidr, gateway) = match rest.split_once(',') {
        Some((cidr, gateway)) => (cidr, Some(gateway.parse::<IpAddr>().map_err(|_| wrong())?)),
        None => (rest, None),
    };
    let net = network(cidr).map_err(|why| format!("\"{cidr}\" {why}"))?;
    let net = net.ok_or_else(wrong)?;
    let reachable = |gateway: IpAddr| match gateway {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Family::of(&net.ip()) == Family::V6,
        _ => net.contains(gateway),
    };
    if let Some(gateway) = gateway.filter(|gateway| !reachable(*gateway)) {
        return Err(format!("\"{gateway}\" is not in the subnet {cidr}"));
    }
    Ok(Subnet { name, net, gateway })
}

fn targets(text: &str) -> Result<Vec<IpAddr>, String> {
    let words = words(text)?;
    let parse = |word: &String| {
        let parsed = word.parse();
        parsed.map_err(|_| format!("\"{word}\" is not an IP address"))
    };
    words.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocf::Fault;

    fn read(parameters: &[(&str, &str)]) -> Result<Settings, Error> {
        let variables = parameters
            .iter()
            .map(|(name, value)| (format!("OCF_RESKEY_{name}"), (*value).to_owned()));
        Settings::read(&Env::from_variables(variables))
    }

    const SUBNETS: (&str, &str) = (
        "subnets",
        "office=10.1.0.0/24,10.1.0.254 office=fd00:1::/64,fe80::1 lab=10.2.0.0/24",
    );

    #[test]
    fn all_parameters_are_understood() {
        let settings = read(&[
            SUBNETS,
            ("ports", "eth1=office  eth3=lab"),
            ("targets", "10.1.0.9 fd00:1::9"),
            ("interval", "100ms"),
            ("recover_after", "1m"),
        ])
        .unwrap();
        let ports = settings.ports.as_ref().unwrap();
        assert_eq!(ports["eth3"], "lab");
        assert_eq!(settings.nets("office").count(), 2);
        assert_eq!(settings.targets.len(), 2);
        assert_eq!(settings.limits().interval, Duration::from_millis(100));
        assert_eq!(settings.recover_after, Duration::from_secs(60));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (parameters, why) in [
            (
                vec![],
                "neither ports nor subnets is set: there is nothing to watch",
            ),
            (
                vec![("subnets", "office=10.1.0.0/24 lab=10.1.0.128/25")],
                "parameter subnets: \"lab=10.1.0.128/25\" overlaps office=10.1.0.0/24",
            ),
            (
                vec![("subnets", "office=10.1.0.1/24")],
                "parameter subnets: \"10.1.0.1/24\" has host bits set; its network is 10.1.0.0/24",
            ),
            (
                vec![("subnets", "office=10.1.0.0/24,10.2.0.1")],
                "parameter subnets: \"10.2.0.1\" is not in the subnet 10.1.0.0/24",
            ),
            (
                vec![SUBNETS, ("ports", "eth1=attic")],
                "parameter ports: eth1 is on attic, which is none of the subnets (office, lab)",
            ),
            (
                vec![SUBNETS, ("ports", "eth1")],
                "parameter ports: \"eth1\" is not a port and its subnet, such as eth1=office",
            ),
            (
                vec![SUBNETS, ("targets", "10.9.0.1")],
                "parameter targets: 10.9.0.1 is in none of the subnets",
            ),
            (
                vec![SUBNETS, ("interval", "0")],
                "parameter interval: \"0\" is not a time from 20ms to 10s, such as 200ms",
            ),
            (
                vec![SUBNETS, ("fail_after", "1")],
                "parameter fail_after: \"1\" is not a whole number from 2 to 100",
            ),
        ] {
            assert_eq!(read(&parameters).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn what_is_wrong_with_the_ports_of_one_node_does_not_hold_for_the_others() {
        let error = read(&[SUBNETS, ("ports", "eth1=attic")]).unwrap_err();
        assert_eq!(error.fault(), Fault::Host);
        let error = read(&[SUBNETS, ("interval", "0")]).unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
    }
}
