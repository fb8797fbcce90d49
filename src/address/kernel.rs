//! Reads the kernel's state in the plan's terms, and carries out the plan's steps.

mod apply;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use super::settings::{read_settings, recall, without_ipv6};
use crate::address::report;
use crate::address::terms::{filter, object_of, rule_from};
use crate::cell::network::{self, INSIDE, default_route};
use crate::log;
use crate::plan::vip::{
    ANNOUNCED_PROTOCOL, Link, Object, Observed, PLACEHOLDER, PROTOCOL, Route, RouteTarget,
    TO_TABLE, setting_keys,
};
use crate::sys::announce::Announcement;
use crate::sys::netlink::{self, LinkChange, OF_VRF, RouteFilter, Socket, Via};
use crate::sys::nft::{self, Barrier, Passage, Standing};
use crate::sys::state;
use crate::sys::sysctl::{FORWARD_ALL_IPV6, Record};
use crate::types::{Family, IfName, Mac};

/// The file that notes the generation of the kernel's nftables rules at which berth's tables were last found whole.
const WHOLE: &str = "nft.whole";
const WHOLE_LIMIT: u64 = 4096;

/// The kernel, as seen from this node and from one cell.
pub(crate) struct Kernel {
    route: Socket,
    nft: nft::Socket,
    cell: Option<Socket>,
    record: Record,
    /// Whether it was logged that the record of settings can't be written.
    forgetful: bool,
    runtime: PathBuf,
    links: Vec<netlink::Link>,
    /// Other programs' chains that may drop forwarded packets, as last seen.
    foreign: Vec<Barrier>,
    /// The cell's end of its veth, as last seen.
    inside: Option<netlink::Link>,
}

impl Kernel {
    /// Opens the sockets; `cell` is the cell's network namespace, if it has one. `runtime` is where
    /// the kernel settings' former values are recorded, and what portwatch reports.
    pub(crate) fn open(cell: Option<BorrowedFd<'_>>, runtime: &Path) -> io::Result<Self> {
        Ok(Self {
            route: Socket::new()?,
            nft: nft::Socket::new()?,
            cell: cell.map(Socket::in_netns).transpose()?,
            record: Record::empty(&runtime.join("vip.settings")),
            forgetful: false,
            runtime: runtime.to_owned(),
            links: Vec::new(),
            foreign: Vec::new(),
            inside: None,
        })
    }

    /// Closes the nftables socket aside: after a deletion, closing would wait until the kernel has freed what was
    /// deleted.
    pub(crate) fn close_aside(self) {
        self.nft.close_aside();
    }

    /// The kernel's state as far as it concerns VIPs of `families`; `vip` is looked for in the cell. Of the kernel's
    /// settings it has only those that berth has changed: [`Kernel::observe_settings`] adds others.
    pub(crate) fn observe(
        &mut self,
        vip: Option<IpAddr>,
        families: &[Family],
    ) -> io::Result<Observed> {
        let unread = self.record.reload().err();
        if let Some(e) = &unread {
            log::warn(format_args!(
                "{e}: forwarding counts as berth's doing, other settings will not be put back"
            ));
        }
        let mut seen = self.observe_ways(families)?;
        seen.no_ipv6 = !network::has_ipv6();
        if families.contains(&Family::V6) {
            let ports = seen.links.iter().filter(|l| l.eligible);
            seen.without_ipv6 = without_ipv6(ports.map(|l| &l.name))?;
        }
        seen.watched = report::read(&self.runtime);
        match self.survey()? {
            standing @ (Standing::Whole | Standing::Outdated) => {
                seen.objects.insert(Object::Tables);
                seen.outdated = standing == Standing::Outdated;
            }
            Standing::Damaged => seen.damaged = true,
            Standing::Absent => {}
        }
        let elements = self.nft.elements(families)?;
        seen.objects.extend(elements.into_iter().map(object_of));
        if let Some(vip) = vip {
            self.observe_cell(vip, &mut seen)?;
        }
        recall(&mut self.record, &seen, unread.is_some())?;
        for (key, before) in self.record.iter() {
            seen.before.insert(key.to_owned(), before);
        }
        let keys: Vec<String> = seen.before.keys().cloned().collect();
        read_settings(
            &mut seen,
            keys.into_iter().chain([FORWARD_ALL_IPV6.to_owned()]),
        )?;
        Ok(seen)
    }

    /// The state of berth's tables. They are not read again while the kernel reports no change since they were found
    /// whole with no chain of others in the way: reading them is the most expensive part of a monitor.
    fn survey(&mut self) -> io::Result<Standing> {
        let now = self.nft.generation()?;
        let file = self.runtime.join(WHOLE);
        let is_noted = |now: &String| {
            state::read(&file, WHOLE_LIMIT).is_ok_and(|noted| noted == now.as_bytes())
        };
        if now.as_ref().is_some_and(is_noted) {
            self.foreign = Vec::new();
            return Ok(Standing::Whole);
        }
        let (standing, foreign) = self.nft.survey()?;
        if let (Some(now), Standing::Whole, true) = (now, standing, foreign.is_empty()) {
            // If the note can't be written, the next call reads the tables, too.
            state::note(&file, now.as_bytes());
        }
        self.foreign = foreign;
        Ok(standing)
    }

    /// As [`Kernel::observe`], but only what shows which port each VIP is served through: links, addresses, routes,
    /// rules, proxy entries.
    pub(crate) fn observe_ways(&mut self, families: &[Family]) -> io::Result<Observed> {
        self.links = self.route.links()?;
        let mut seen = Observed::default();
        self.observe_links(&mut seen)?;
        for family in families {
            self.observe_routing(*family, &mut seen)?;
        }
        Ok(seen)
    }

    /// The byte counter of each VIP, which counts from its start.
    pub(crate) fn traffic(&mut self) -> io::Result<BTreeMap<IpAddr, u64>> {
        self.nft.traffic()
    }

    /// Adds the settings of `links` for the family of `vip`.
    pub(crate) fn observe_settings(
        &self,
        vip: IpAddr,
        links: &[IfName],
        seen: &mut Observed,
    ) -> io::Result<()> {
        let keys = links
            .iter()
            .flat_map(|link| setting_keys(Family::of(&vip), link));
        read_settings(seen, keys)
    }

    fn observe_cell(&mut self, vip: IpAddr, seen: &mut Observed) -> io::Result<()> {
        let Some(cell) = &mut self.cell else {
            return Ok(());
        };
        let Some(inside) = cell.link(INSIDE)? else {
            return Ok(());
        };
        let addresses = cell.addresses(Some(inside.index))?;
        self.inside = Some(inside.clone());
        if addresses.iter().any(|a| a.address.ip() == vip) {
            seen.objects.insert(Object::Address(vip));
        }
        let default = default_route(inside.index, vip.is_ipv6());
        let filter = RouteFilter {
            table: Some(default.table),
            protocol: None,
        };
        let routes = cell.routes(Family::of(&vip), filter)?;
        if routes.iter().any(|r| r.destination == default.destination) {
            seen.objects.insert(Object::CellRoute(Family::of(&vip)));
        }
        Ok(())
    }

    fn observe_links(&mut self, seen: &mut Observed) -> io::Result<()> {
        let addresses = self.route.addresses(None)?;
        for link in &self.links {
            let own = addresses.iter().filter(|a| a.link == link.index);
            let mut kept = Vec::new();
            for address in own {
                match address.address {
                    IpNetwork::V4(a) if a.ip() == PLACEHOLDER => {
                        seen.objects.insert(Object::Placeholder(link.name.clone()));
                    }
                    IpNetwork::V6(a) if a.ip().is_unicast_link_local() => {}
                    other => kept.push(other),
                }
            }
            seen.links.push(Link {
                name: link.name.clone(),
                up: link.up,
                carrier: link.carrier,
                eligible: !link.loopback && !network::is_own(link),
                addresses: kept,
            });
        }
        Ok(())
    }

    fn observe_routing(&mut self, family: Family, seen: &mut Observed) -> io::Result<()> {
        let [own, announced] = [(None, PROTOCOL), (Some(TO_TABLE), ANNOUNCED_PROTOCOL)].map(filter);
        let mut routes = self.route.routes(family, own)?;
        routes.extend(self.route.routes(family, announced)?);
        for route in routes {
            let Some(out) = self.out_of(route.via) else {
                continue;
            };
            seen.objects.insert(Object::Route(Route {
                table: route.table,
                to: route.destination,
                metric: route.metric,
                out,
                announced: route.protocol == ANNOUNCED_PROTOCOL,
            }));
        }
        let rules = self.route.rules(family)?;
        let of_vrf = |rule: &netlink::Rule| rule.action == netlink::Action::Lookup(OF_VRF);
        seen.has_vrfs |= rules.iter().any(of_vrf);
        let own = rules.into_iter().filter(|r| r.protocol == PROTOCOL);
        seen.objects
            .extend(own.map(|rule| Object::Rule(rule_from(rule))));
        let proxies = self.route.proxies(family)?.into_iter();
        for proxy in proxies.filter(|p| p.protocol == PROTOCOL) {
            if let Some(name) = self.name(proxy.link) {
                seen.objects.insert(Object::Proxy(name, proxy.address));
            }
        }
        Ok(())
    }

    fn out_of(&self, via: Via) -> Option<RouteTarget> {
        Some(match via {
            Via::Link(link) => RouteTarget::Link(self.name(link)?),
            Via::Gateway { link, gateway, .. } => RouteTarget::Gateway(self.name(link)?, gateway),
            Via::Unreachable => RouteTarget::Unreachable,
        })
    }

    fn name(&self, index: u32) -> Option<IfName> {
        let link = self.links.iter().find(|l| l.index == index);
        link.map(|l| l.name.clone())
    }

    fn link(&self, name: &str) -> io::Result<&netlink::Link> {
        let link = self.links.iter().find(|l| l.name == name);
        link.ok_or_else(|| io::Error::other(format!("there is no interface {name}")))
    }

    /// Gives both ends of the observed cell's veth, whose host end is called `name`, the MTU of the node's ports.
    pub(crate) fn fit(&mut self, name: &str) -> io::Result<()> {
        let mtu = network::mtu(&self.links);
        let change = LinkChange {
            mtu: Some(mtu),
            ..LinkChange::default()
        };
        // Both ends change: neither may send packets that are too large for the other.
        let differs = |link: &netlink::Link| link.mtu != mtu;
        if self.link(name).is_ok_and(differs) {
            self.route.change_link(name, &change)?;
        }
        match (&mut self.cell, &self.inside) {
            (Some(cell), Some(inside)) if differs(inside) => cell.change_link(INSIDE, &change),
            _ => Ok(()),
        }
    }

    /// Another program's chain that drops packets of VIPs of `family` between a port and an interface that leads to the
    /// cell. The interfaces need not exist yet.
    pub(crate) fn barrier(
        &self,
        family: Family,
        (port, inward): (&str, &str),
    ) -> io::Result<Option<Barrier>> {
        if self.foreign.is_empty() {
            return Ok(None);
        }
        let index = |name: &str| self.link(name).map_or(0, |link| link.index);
        let passage = Passage {
            family,
            port: (port, index(port)),
            inward: (inward, index(inward)),
        };
        // A dump that is broken off makes its socket unusable, so this does not use the tables' socket.
        let found = nft::Socket::new()?.barriers_among(&self.foreign, &[passage])?;
        Ok(found.into_iter().next())
    }

    /// The interface index and the Ethernet address of a port.
    pub(crate) fn port(&self, name: &str) -> io::Result<(u32, Mac)> {
        let link = self.link(name)?;
        let mac = link
            .mac
            .ok_or_else(|| io::Error::other(format!("port {name} is not Ethernet")))?;
        Ok((link.index, mac))
    }

    /// The Ethernet addresses of all of the node's interfaces.
    pub(crate) fn macs(&self) -> Vec<Mac> {
        self.links.iter().filter_map(|l| l.mac).collect()
    }

    /// The announcement that `vip` is at `port`.
    pub(crate) fn announcement(&self, port: &str, vip: IpAddr) -> io::Result<Announcement> {
        let (link, mac) = self.port(port)?;
        Ok(Announcement {
            link,
            mac,
            address: vip,
        })
    }
}
