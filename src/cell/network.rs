//! The cell's network: one veth, routed, without neighbours of its own. What a VIP needs beyond that is made by the vip
//! agent.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::plan::vip::{PROTOCOL, SHUT_RULE, cell_link, cell_mac, is_cell_link};
use crate::sys::namespace;
use crate::sys::netlink::{Action, Incoming, Link, LinkChange, Route, Rule, Socket, Veth, Via};
use crate::sys::nft::CellFilter;
use crate::types::{Family, IfName, VserverName};

/// The cell's end of the veth.
pub(crate) const INSIDE: &str = "eth0";

/// The table that routes are in when none is named: `RT_TABLE_MAIN`.
const MAIN: u32 = 254;

/// Shortest retransmission time-out towards clients: the kernel's 200 ms would make an outage of
/// 20 ms, such as a port's failover, ten times as long.
const RTO_MIN: Duration = Duration::from_millis(20);

/// The least MTU of the veth: by path MTU discovery servers learn of ports with a smaller one.
const SMALLEST_MTU: u32 = 1500;

/// Name of the host's end of `vserver`'s veth.
pub fn outside(vserver: &VserverName) -> IfName {
    cell_link(vserver)
}

/// Whether an interface of the node is its end of a cell's veth, and not somebody else's of such a name.
pub(crate) fn is_own(link: &Link) -> bool {
    is_cell_link(&link.name, link.mac)
}

/// The MTU of the cells' veths, in bytes, on a node with these interfaces: the largest of its ports. For a path with a
/// smaller one the node reports that packets are too big, as any router does.
pub(crate) fn mtu(links: &[Link]) -> u32 {
    let ports = links
        .iter()
        .filter(|l| l.up && !l.loopback && l.mac.is_some() && !is_own(l));
    // No client is at an interface with a larger MTU than Ethernet can have.
    let largest = ports.map(|l| l.mtu).max().unwrap_or(0);
    largest.clamp(SMALLEST_MTU, u32::from(u16::MAX))
}

/// Connects the network namespace of a new cell with the caller's. The returned filter keeps the cell from the node's
/// own ports as long as it lives.
///
/// # Errors
/// The step that failed.
pub(crate) fn connect(vserver: &VserverName, namespace: &OwnedFd) -> io::Result<CellFilter> {
    let name = outside(vserver);
    let mut host = Socket::new()?;
    // The veth of a cell that died a moment ago may not have been cleared away yet.
    remove(&mut host, &name)?;
    let filter = CellFilter::new(vserver, &name)?;
    let mtu = mtu(&host.links()?);
    let _ = host.create_veth(&Veth {
        name: &name,
        peer: INSIDE,
        peer_namespace: Some(namespace.as_fd()),
        mac: cell_mac(vserver),
        mtu: Some(mtu),
    })?;
    bar(&mut host, vserver)?;
    // The vip agent switches on forwarding of the cell's packets, once its filter is there.
    set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    // Without ARP both ends take the other's address for their own, which it is: no neighbour
    // entries, no duplicate address detection.
    let quiet = LinkChange {
        arp: Some(false),
        generated_address: Some(false),
        ..LinkChange::default()
    };
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    host.change_link(&name, &quiet)?;
    host.change_link(&name, &up)?;

    let mut cell = Socket::in_netns(namespace)?;
    cell.change_link("lo", &up)?;
    cell.change_link(INSIDE, &quiet)?;
    cell.change_link(INSIDE, &up)?;
    let link = cell
        .link(INSIDE)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {INSIDE}")))?
        .index;
    for ipv6 in [false, true] {
        if !ipv6 || has_ipv6() {
            let _ = cell.add_route(&default_route(link, ipv6))?;
        }
    }
    Ok(filter)
}

/// Adds policy rules that drop forwarded packets from `vserver`'s cell, but for those of its VIPs, whose own rules come
/// first. They hold before the first VIP is started, after the last one, and when somebody has removed the nftables
/// tables. Rules refer to an interface by name, and stay without it.
///
/// # Errors
/// If the kernel refuses.
pub fn bar(host: &mut Socket, vserver: &VserverName) -> io::Result<()> {
    for rule in bars(vserver) {
        let _ = host.add_rule(&rule)?;
    }
    Ok(())
}

/// The rules of [`bar`].
fn bars(vserver: &VserverName) -> impl Iterator<Item = Rule> {
    let families = Family::BOTH.into_iter();
    families
        .filter(|family| *family == Family::V4 || has_ipv6())
        .map(move |family| Rule {
            family,
            preference: SHUT_RULE,
            from: None,
            incoming: Incoming::By(outside(vserver)),
            action: Action::Blackhole,
            protocol: PROTOCOL,
        })
}

/// The cell's default route, by its interface with the index `link`. No host has the gateway's address: without ARP it
/// need not be resolved.
pub(crate) fn default_route(link: u32, ipv6: bool) -> Route {
    let (any, gateway) = match ipv6 {
        false => (
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::from(Ipv4Addr::new(169, 254, 1, 1)),
        ),
        true => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
        ),
    };
    Route {
        // A prefix of length 0 is never too long.
        destination: IpNetwork::new(any, 0).unwrap_or_else(|_| any.into()),
        via: Via::Gateway {
            link,
            gateway,
            onlink: true,
        },
        table: MAIN,
        metric: 0,
        protocol: PROTOCOL,
        rto_min: Some(RTO_MIN),
    }
}

/// Whether the host end of the veth of `vserver`'s cell is there.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn is_connected(host: &mut Socket, vserver: &VserverName) -> io::Result<bool> {
    Ok(host
        .link(&outside(vserver))?
        .is_some_and(|link| is_own(&link)))
}

/// Removes the host end of the veth, and with it the cell's end.
///
/// # Errors
/// If the kernel refuses, or the interface is somebody else's. It is no error if there is none.
pub(crate) fn disconnect(vserver: &VserverName) -> io::Result<()> {
    let mut host = Socket::new()?;
    remove(&mut host, &outside(vserver))?;
    for rule in bars(vserver) {
        let _ = host.delete_rule(&rule)?;
    }
    Ok(())
}

fn remove(host: &mut Socket, name: &str) -> io::Result<()> {
    match host.link(name)? {
        None => Ok(()),
        Some(link) if is_own(&link) && link.kind.as_deref() == Some("veth") => {
            let _ = host.delete_link(name)?;
            Ok(())
        }
        Some(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{name} is not berth's, but has the name of this cell's interface: rename it"),
        )),
    }
}

/// Makes the cell forget what it has learned of the paths to its clients, such as the MTU: otherwise that would be used
/// for ten minutes on another path, too.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn forget_paths(namespace: impl AsFd) -> io::Result<()> {
    let mut cell = Socket::in_netns(&namespace)?;
    let Some(link) = cell.link(INSIDE)? else {
        return Ok(());
    };
    // For IPv6 this is tied to the route; for IPv4 there is a setting that flushes it.
    if has_ipv6() {
        cell.replace_route(&default_route(link.index, true))?;
    }
    namespace::inside(&namespace, || set("ipv4/route/flush", "1"))
}

/// Whether this kernel has IPv6: not with `ipv6.disable=1`.
pub(crate) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6/conf").unwrap_or(false)
}

/// Settings of a network namespace in which there is one way out and nobody to learn another from.
/// To be called in the new namespace, before it has links.
///
/// # Errors
/// The setting that the kernel refused.
pub(crate) fn harden() -> io::Result<()> {
    for scope in ["all", "default"] {
        for (name, value) in [
            ("ipv4/conf/{}/accept_redirects", "0"),
            ("ipv4/conf/{}/send_redirects", "0"),
            ("ipv4/conf/{}/accept_source_route", "0"),
            ("ipv4/conf/{}/forwarding", "0"),
            // The host may be strict by default; with a single way out there is nothing to filter.
            ("ipv4/conf/{}/rp_filter", "0"),
            ("ipv6/conf/{}/accept_redirects", "0"),
            ("ipv6/conf/{}/accept_source_route", "0"),
            ("ipv6/conf/{}/forwarding", "0"),
            ("ipv6/conf/{}/accept_ra", "0"),
            ("ipv6/conf/{}/disable_ipv6", "0"),
        ] {
            set(&name.replace("{}", scope), value)?;
        }
    }
    Ok(())
}

/// Writes a setting of the caller's network namespace, by its name below `net`. One that this kernel does not have is
/// skipped.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    match fs::write(&path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| crate::sys::message(e, format_args!("write {value} to {path}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Mac;

    fn link(name: &str, mtu: u32) -> Link {
        Link {
            index: 1,
            name: name.into(),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu,
            up: true,
            carrier: true,
            loopback: false,
            arp: true,
            kind: None,
            master: None,
        }
    }

    #[test]
    fn a_cell_carries_what_the_largest_port_does() {
        let down = Link {
            up: false,
            ..link("eth3", 9600)
        };
        let tunnel = Link {
            mac: None,
            ..link("ib0", 65_520)
        };
        let cell = Link {
            mac: Some(cell_mac("beta")),
            ..link("b-beta", 9700)
        };
        let loopback = Link {
            loopback: true,
            ..link("lo", 65_536)
        };
        let others = vec![loopback, down, tunnel, cell];
        assert_eq!(mtu(&others), 1500);
        let with = |mtus: &[u32]| {
            let ports = mtus.iter().map(|m| link("eth1", *m));
            mtu(&ports.chain(others.clone()).collect::<Vec<_>>())
        };
        assert_eq!(with(&[1500, 9000]), 9000);
        assert_eq!(with(&[1280]), 1500);
        // The administrator's, whatever it is called.
        assert_eq!(mtu(&[link("b-lan", 4000)]), 4000);
    }
}
