//! Neighbour requests and replies (ARP, RFC 826; neighbour discovery, RFC 4861). They prove that a port forwards, and
//! that another node can be reached.

use std::net::IpAddr;

use crate::types::Mac;

/// A neighbour request through one port: a probe whether its target is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Index of the port.
    pub(crate) link: u32,
    /// Ethernet address of the port.
    pub(crate) mac: Mac,
    /// The address that is probed.
    pub(crate) target: IpAddr,
    /// The port's own address, if it has one: ARP can do without, neighbour discovery can't.
    pub(crate) source: Option<IpAddr>,
    /// The target's Ethernet address, if it is known: then the probe is unicast, and nobody else is bothered.
    pub(crate) to: Option<Mac>,
}

/// A neighbour's reply to a request, whoever sent that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Index of the port that the reply came in through.
    pub(crate) link: u32,
    /// The address that was asked for.
    pub(crate) ip: IpAddr,
    /// The Ethernet address that the reply gives for it.
    pub(crate) from: Mac,
    /// The Ethernet address that the reply is sent to.
    pub(crate) to: Mac,
}
