//! The cell's network: one veth, routed, without neighbours of its own. What a VIP needs beyond it is
//! the vip agent's.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::hash::fnv32;
use crate::sys::namespace;
use crate::sys::netlink::{LinkChange, Mac, Route, Socket, Veth, Via};

/// The cell's end of the veth.
pub const INSIDE: &str = "eth0";

/// The table that routes are in when none is named: `RT_TABLE_MAIN`.
const MAIN: u32 = 254;

/// The owner of berth's routes: `rtm_protocol`.
const PROTOCOL: u8 = 190;

/// Shortest retransmission time-out towards clients: the kernel's 200 ms would make an outage of
/// 20 ms, such as a port's failover, ten times as long.
const RTO_MIN: Duration = Duration::from_millis(20);

/// Name of the host's end of `vserver`'s veth.
pub fn outside(vserver: &str) -> String {
    format!("b-{vserver}")
}

/// Connects the network namespace of a new cell with the caller's.
///
/// # Errors
/// The step that failed.
pub fn connect(vserver: &str, namespace: &OwnedFd) -> io::Result<()> {
    let name = outside(vserver);
    let mut host = Socket::new()?;
    // That of a cell which died a moment ago may not have been cleared away yet.
    let _ = host.delete_link(&name)?;
    let _ = host.create_veth(&Veth {
        name: &name,
        peer: INSIDE,
        peer_namespace: Some(namespace.as_fd()),
        mac: mac(vserver),
        mtu: None,
    })?;
    // That the host forwards what comes out of it is the vip agent's to allow, behind its filter.
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
    Ok(())
}

/// The cell's only way out, by its interface numbered `link`. The gateway is nobody: without ARP its
/// address need not be resolved.
pub fn default_route(link: u32, ipv6: bool) -> Route {
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

/// Removes the host's end, and with it the cell's.
///
/// # Errors
/// If the kernel refuses; not if there is none.
pub fn disconnect(vserver: &str) -> io::Result<()> {
    let _ = Socket::new()?.delete_link(&outside(vserver))?;
    Ok(())
}

/// Has the cell forget what it has learned of the ways to its clients, such as the size of packets that
/// fit through: it would count for ten minutes on another way too.
///
/// # Errors
/// If the kernel refuses.
pub fn forget_paths(namespace: impl AsFd) -> io::Result<()> {
    let mut cell = Socket::in_netns(&namespace)?;
    let Some(link) = cell.link(INSIDE)? else {
        return Ok(());
    };
    // What was learned of IPv6 hangs on the route; of IPv4 it has a switch of its own.
    if has_ipv6() {
        cell.replace_route(&default_route(link.index, true))?;
    }
    namespace::inside(&namespace, || set("ipv4/route/flush", "1"))
}

/// A fixed address from the name: locally administered, unicast. Nobody but the two ends sees it.
fn mac(vserver: &str) -> Mac {
    let [a, b, c, d] = fnv32(vserver).to_be_bytes();
    Mac([0x02, 0xbe, a, b, c, d])
}

fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6").unwrap_or(false)
}

/// Settings of a network namespace in which there is one way out and nobody to learn another from.
/// To be called in the new namespace, before it has links.
///
/// # Errors
/// The setting that the kernel refused.
pub fn harden() -> io::Result<()> {
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

/// Writes a setting of the caller's network namespace. One that this kernel does not have is skipped.
fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    match fs::write(&path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| crate::sys::message(e, format_args!("write {value} to {path}"))),
    }
}
