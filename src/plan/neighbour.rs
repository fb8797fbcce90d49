//! Neighbour requests and replies (ARP, RFC 826; neighbour discovery, RFC 4861), by which a port proves that it forwards
//! and a node that another one is there.

use std::net::IpAddr;

use crate::types::Mac;

/// A neighbour request through one port: whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Index of the port.
    pub(crate) link: u32,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    /// The address that is asked for.
    pub(crate) target: IpAddr,
    /// The port's own address, if it has one: IPv4 does without, IPv6 does not.
    pub(crate) source: Option<IpAddr>,
    /// The target's Ethernet address, if it is known: then nobody else is bothered.
    pub(crate) to: Option<Mac>,
}

/// A reply to somebody's neighbour request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Index of the port it came in through.
    pub(crate) link: u32,
    /// Whose address it is about.
    pub(crate) ip: IpAddr,
    /// The Ethernet address it names for that.
    pub(crate) from: Mac,
    /// The Ethernet address that it is sent to.
    pub(crate) to: Mac,
}
