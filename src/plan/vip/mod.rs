//! Which port a VIP is served through, and the steps from the kernel's present state to the desired one.
//!
//! The state of a node is a set of [`Object`]s and of kernel settings. [`Desired`] lists those that one VIP needs, in
//! the order in which they are made; [`start`] and [`stop`] are differences of sets. There is no count of the users of
//! a shared object: it is needed as long as some VIP's rule leads to it.

mod cell_link;
pub(crate) mod change;
mod desired;
mod egress;
mod element;
mod gateway;
mod judge;
mod place;
pub mod record;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::port::Standing;
use crate::types::{Family, IfName};

pub(crate) use crate::types::name::CELL_LINK_PREFIX;
pub use cell_link::{cell_link, cell_mac, is_cell_link, vserver_of};
pub(crate) use change::{start, start_all, stop};
pub(crate) use desired::{Desired, setting_keys};
pub(crate) use egress::present_port;
pub(crate) use element::Element;
pub(crate) use gateway::{GatewayFault, gateway_fits};
pub(crate) use judge::{Verdict, judge, judge_without_plan};
pub(crate) use place::{
    Behind, Detour, NextHop, Problem, Request, check_places, holder, is_lost, is_reserved,
};
pub(crate) use rule::{Action, Incoming, Rule};

/// The protocol number (`rtm_protocol` and its likes) of everything that berth makes, by which that is recognised.
pub(crate) const PROTOCOL: u8 = 190;
/// The protocol number of the routes that a routing daemon may announce.
pub(crate) const ANNOUNCED_PROTOCOL: u8 = 191;

/// After how long portwatch, which never waits for a lock, tries the lock of the addresses' agents again. It is held
/// while something is changed in the kernel.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The table of the routes to this node's VIPs.
pub(crate) const TO_TABLE: u32 = 190;
/// The table that is looked up last: the subnets and gateways of the ports.
pub(crate) const LAST_TABLE: u32 = 191;
/// The kernel's table of the node's own addresses: `RT_TABLE_LOCAL`, rtnetlink(7).
pub(crate) const LOCAL_TABLE: u32 = 255;
/// The tables of the ways out, each with a number of its own.
pub(crate) const WAY_TABLES: std::ops::Range<u32> = 0x4000_0000..0x8000_0000;

/// Preference of the rule for [`TO_TABLE`]: before any that leads a VIP's packets out.
pub(crate) const TO_RULE: u32 = 100;
/// Preference of the rules that lead a VIP's packets to its way out.
pub(crate) const FROM_RULE: u32 = 200;
/// Preference of the rules by which VIPs pass those of [`SHUT_RULE`] on their way to the node's own tables.
pub(crate) const PASS_RULE: u32 = 300;
/// Preference of the rules by which the node itself is reached through the ports of [`SHUT_RULE`], wherever the rule
/// for [`LOCAL_TABLE`] is: VRFs have it moved behind their own.
pub(crate) const HOST_RULE: u32 = 399;
/// Preference of the rules that drop what else comes from cells and from ports that forwarded nothing before:
/// without them a node whose nftables table somebody flushes would be everybody's router.
pub(crate) const SHUT_RULE: u32 = 400;
/// Preference of the rule that those of [`PASS_RULE`] lead to.
pub(crate) const GO_ON_RULE: u32 = 500;
/// Preference of the rule for [`LAST_TABLE`]: after the node's own tables.
pub(crate) const LAST_RULE: u32 = 33_000;

/// Metric of the route by the chosen port.
pub(crate) const FIRST_METRIC: u32 = 1000;
/// Metric of the route by the first backup port.
pub(crate) const BACKUP_METRIC: u32 = 2000;
/// Metric of a VIP's route into its cell.
pub(crate) const CELL_METRIC: u32 = 10;
/// Metric of the route that is left when all others are gone.
pub(crate) const UNREACHABLE_METRIC: u32 = 4_278_198_272;

/// The address that a port without any IPv4 address gets: without one the kernel's reverse path filter is strict,
/// whatever it is set to.
pub(crate) const PLACEHOLDER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// The network of all addresses of a family, the destination of a default route.
pub(crate) fn anywhere(family: Family) -> IpNetwork {
    let zero = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A prefix of length 0 is never too long.
    IpNetwork::new(zero, 0).unwrap_or_else(|_| zero.into())
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RouteTarget {
    /// Out of this interface.
    Link(IfName),
    /// Out of this interface, to a gateway.
    Gateway(IfName, IpAddr),
    /// Nowhere.
    Unreachable,
}

impl RouteTarget {
    /// The interface.
    pub(crate) fn link(&self) -> Option<&IfName> {
        match self {
            Self::Link(link) | Self::Gateway(link, _) => Some(link),
            Self::Unreachable => None,
        }
    }
}

/// A route of berth's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Route {
    /// Its table.
    pub table: u32,
    /// Its destination.
    pub(crate) to: IpNetwork,
    /// Its metric.
    pub metric: u32,
    /// Where it leads.
    pub(crate) out: RouteTarget,
    /// Whether a routing daemon may tell others of it.
    pub(crate) announced: bool,
}

impl Route {
    /// The family it is of.
    pub(crate) fn family(&self) -> Family {
        Family::of(&self.to.ip())
    }
}

/// Something in the kernel that berth makes. Interfaces are known by their names, since elements of nftables sets
/// outlive an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Object {
    /// The nftables tables with all their rules.
    Tables,
    /// An element of one of their sets.
    Element(Element),
    /// [`PLACEHOLDER`] on this port.
    Placeholder(IfName),
    /// The VIP, on the cell's interface.
    Address(IpAddr),
    /// The cell's default route. The kernel drops the IPv4 one with the cell's last address.
    CellRoute(Family),
    /// A route.
    Route(Route),
    /// A rule.
    Rule(Rule),
    /// The proxy entry that has a port answer for a VIP.
    Proxy(IfName, IpAddr),
}

impl Object {
    /// The VIP that the object belongs to; `None` if VIPs share it.
    pub(crate) fn vip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(vip) | Self::Proxy(_, vip) => Some(*vip),
            Self::Element(element) => element.vip(),
            Self::Route(route) => (route.table == TO_TABLE).then(|| route.to.ip()),
            Self::Rule(rule) => rule.from,
            Self::Tables | Self::Placeholder(_) | Self::CellRoute(_) => None,
        }
    }

    /// Whether packets are dropped because of this object.
    fn drops(&self) -> bool {
        match self {
            Self::Element(_) => true,
            // The rules for the node's own traffic stay as long as those that drop the rest.
            Self::Rule(rule) => matches!(rule.preference, HOST_RULE | SHUT_RULE),
            _ => false,
        }
    }

    /// Whether it is an element of an nftables set.
    pub(crate) const fn is_element(&self) -> bool {
        matches!(self, Self::Element(_))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables => f.write_str("nftables table berth"),
            Self::Element(element) => element.fmt(f),
            Self::Placeholder(port) => write!(f, "address {PLACEHOLDER} on {port}"),
            Self::Address(vip) => write!(f, "address {vip} in the cell"),
            Self::CellRoute(family) => {
                write!(f, "default route in the cell ({})", family.directory())
            }
            Self::Route(route) => route.fmt(f),
            Self::Rule(rule) => rule.fmt(f),
            Self::Proxy(port, vip) => write!(f, "proxy entry {vip} on {port}"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.to)?;
        match &self.out {
            RouteTarget::Link(link) => write!(f, " dev {link}")?,
            RouteTarget::Gateway(link, gateway) => write!(f, " via {gateway} dev {link}")?,
            RouteTarget::Unreachable => f.write_str(" unreachable")?,
        }
        write!(f, " table {}", self.table)
    }
}

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make this object.
    Add(Object),
    /// Remove this object.
    Remove(Object),
    /// Change a kernel setting, and record its former value.
    Set(String, i64),
    /// Restore the recorded value of this setting.
    Restore(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(object) => write!(f, "add {object}"),
            Self::Remove(object) => write!(f, "remove {object}"),
            Self::Set(key, value) => write!(f, "set {key} to {value}"),
            Self::Restore(key) => write!(f, "restore {key}"),
        }
    }
}

/// An interface of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its name.
    pub name: IfName,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and has carrier.
    pub carrier: bool,
    /// Whether it may serve as a port: not the loopback interface, nor a cell's.
    pub(crate) eligible: bool,
    /// Its addresses, berth's own left out.
    pub(crate) addresses: Vec<IpNetwork>,
}

/// What portwatch knows of a port.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Watched {
    /// How far the port can be relied on.
    pub(crate) standing: Standing,
    /// The traffic of all VIPs at the port, in thousandths of its speed.
    pub(crate) load: u32,
    /// The networks that the port is on, each with the gateway out of it.
    pub(crate) nets: Vec<(IpNetwork, Option<IpAddr>)>,
}

/// The state of a node, as far as it concerns VIPs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Its interfaces.
    pub(crate) links: Vec<Link>,
    /// What portwatch reports of its ports; empty if it does not run.
    pub(crate) watched: BTreeMap<IfName, Watched>,
    /// berth's objects, of all VIPs; of those inside cells only the ones of the VIP in question.
    pub(crate) objects: BTreeSet<Object>,
    /// Whether the nftables tables are there in part only.
    pub(crate) damaged: bool,
    /// Whether the rules of the nftables tables are those of another version of berth, which serve as well.
    pub(crate) outdated: bool,
    /// Whether a rule (`l3mdev`) looks up VRFs' tables; it comes after the rules that drop.
    pub(crate) has_vrfs: bool,
    /// Whether the kernel has no IPv6.
    pub(crate) no_ipv6: bool,
    /// The interfaces on which IPv6 is switched off, where that matters.
    pub(crate) without_ipv6: BTreeSet<IfName>,
    /// The kernel settings that exist, by their names under /proc/sys/net.
    pub(crate) settings: BTreeMap<String, i64>,
    /// The former values of the settings that berth has changed.
    pub(crate) before: BTreeMap<String, i64>,
}

impl Observed {
    /// The interface called `name`.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// Whether a port forwards packets, as far as is known.
    pub(crate) fn is_usable(&self, link: &Link) -> bool {
        let failed = |w: &Watched| w.standing == Standing::Failed;
        link.carrier && !self.watched.get(&link.name).is_some_and(failed)
    }

    /// The value of `key` without berth: the recorded one, or else the present one.
    fn originally(&self, key: &str) -> Option<i64> {
        self.before
            .get(key)
            .or_else(|| self.settings.get(key))
            .copied()
    }

    fn routes(&self) -> impl Iterator<Item = &Route> {
        self.objects.iter().filter_map(|o| match o {
            Object::Route(route) => Some(route),
            _ => None,
        })
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.objects.iter().filter_map(|o| match o {
            Object::Rule(rule) => Some(rule),
            _ => None,
        })
    }

    /// The rule that leads the packets of `vip` to its way out: the one for forwarded packets.
    fn way_rule(&self, vip: IpAddr) -> Option<&Rule> {
        let mut rules = self.rules().filter(|rule| rule.is_way());
        rules.find(|rule| rule.from == Some(vip))
    }

    fn proxies(&self) -> impl Iterator<Item = (&IfName, IpAddr)> {
        self.objects.iter().filter_map(|o| match o {
            Object::Proxy(port, vip) => Some((port, *vip)),
            _ => None,
        })
    }
}
