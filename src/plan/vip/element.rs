//! The elements of the sets in berth's nftables tables.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::Ipv4Network;

use crate::types::{Family, IfName, Mac};

/// An element of a set of berth's tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Element {
    /// A port that VIPs are served through.
    Port(IfName),
    /// A port that forwarded nothing of this family before berth.
    ClosedPort(Family, IfName),
    /// The host end of a cell's veth.
    Cell(IfName),
    /// An address of the node.
    Host(IpAddr),
    /// A VIP.
    Vip(IpAddr),
    /// The cell's interface that a VIP's packets come from.
    CellSource(IfName, IpAddr),
    /// The interface that packets to a VIP leave by: the cell's, or the port by which the node with the cell is
    /// reached.
    VipTarget(IpAddr, IfName),
    /// A port at which packets to a VIP are dropped, since none of its clients can be there.
    NotFrom(IfName, IpAddr),
    /// The port by which a VIP's packets come in from the node with its cell, and that node's Ethernet address.
    RemoteSource(IfName, IpAddr, Mac),
    /// The VIP in whose name a port without an address sends ARP requests in a subnet.
    Source {
        /// The port.
        port: IfName,
        /// The subnet.
        subnet: Ipv4Network,
        /// The VIP.
        vip: Ipv4Addr,
    },
}

impl Element {
    /// The VIP that the element belongs to; `None` if VIPs share it.
    pub(crate) fn vip(&self) -> Option<IpAddr> {
        match self {
            Self::Vip(vip)
            | Self::CellSource(_, vip)
            | Self::VipTarget(vip, _)
            | Self::NotFrom(_, vip)
            | Self::RemoteSource(_, vip, _) => Some(*vip),
            Self::Source { vip, .. } => Some((*vip).into()),
            Self::Port(_) | Self::ClosedPort(..) | Self::Cell(_) | Self::Host(_) => None,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nft element ")?;
        match self {
            Self::Port(port) => write!(f, "ports {port}"),
            Self::ClosedPort(family, port) => write!(f, "shut {} {port}", family.directory()),
            Self::Cell(link) => write!(f, "cells {link}"),
            Self::Host(ip) => write!(f, "host {ip}"),
            Self::Vip(vip) => write!(f, "vip {vip}"),
            Self::CellSource(link, vip) => write!(f, "own {link} . {vip}"),
            Self::VipTarget(vip, link) => write!(f, "to {vip} . {link}"),
            Self::NotFrom(port, vip) => write!(f, "back {port} . {vip}"),
            Self::RemoteSource(port, vip, _) => write!(f, "via {port} . {vip}"),
            Self::Source { port, subnet, vip } => write!(f, "source {port} . {subnet} : {vip}"),
        }
    }
}
