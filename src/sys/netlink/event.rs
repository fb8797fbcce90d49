//! The kernel's notifications: changes of links, addresses, routes, rules, settings and nftables.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use super::transport::{Attributes, Parts, text_of};
use crate::sys::message;

/// Multicast groups (linux/rtnetlink.h): links, IPv4 and IPv6 addresses, routes, rules, settings.
const ROUTE_GROUPS: [u32; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_IPV4_NETCONF,
    libc::RTNLGRP_IPV6_NETCONF,
];
const NFTABLES_GROUPS: [u32; 1] = [libc::NFNLGRP_NFTABLES as u32];

const DELTABLE: u16 = nftables(libc::NFT_MSG_DELTABLE);
const NFTABLES_DELETIONS: [u16; 5] = [
    DELTABLE,
    nftables(libc::NFT_MSG_DELCHAIN),
    nftables(libc::NFT_MSG_DELRULE),
    nftables(libc::NFT_MSG_DELSET),
    nftables(libc::NFT_MSG_DELSETELEM),
];
/// `struct fib_rule_hdr` and `struct nfgenmsg`.
const RULE_HEADER: usize = 12;
const NFGENMSG: usize = 4;
const FRA_PROTOCOL: u16 = 21;
/// `struct netconfmsg`, padded.
const NETCONF_HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
/// The offset of the protocol in `struct rtmsg`.
const RTM_PROTOCOL: usize = 5;

/// How many datagrams are read in one go: a flood of them must not keep the caller from other work.
const DATAGRAMS: usize = 256;

/// Something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Some interface, in any respect.
    Link,
    /// An address of some interface.
    Address,
    /// A route or rule with one of the protocol numbers asked for, or something in the nftables table, is gone.
    Loss,
    /// The nftables table itself is gone.
    Table,
    /// A network setting of the interface with this index, or of all.
    Setting(Option<u32>),
}

/// Sockets that receive the notifications of the network namespace in which they were opened.
pub(crate) struct Events {
    route: Socket,
    nftables: Socket,
    protocols: Vec<u8>,
    table: &'static str,
}

impl Events {
    /// Begins to listen. Of routes and rules only the removal of those with one of `protocols` counts, of nftables only
    /// that of objects in tables called `table`.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn open(protocols: &[u8], table: &'static str) -> io::Result<Self> {
        let what = "listen to the kernel's events";
        Ok(Self {
            route: listen(NETLINK_ROUTE, &ROUTE_GROUPS).map_err(|e| message(e, what))?,
            nftables: listen(NETLINK_NETFILTER, &NFTABLES_GROUPS).map_err(|e| message(e, what))?,
            protocols: protocols.to_vec(),
            table,
        })
    }

    /// The descriptors to poll for input.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [&self.route, &self.nftables].map(AsFd::as_fd)
    }

    /// What has changed since the last call. If notifications were lost, everything counts as changed.
    ///
    /// # Errors
    /// If the sockets can't be read.
    pub(crate) fn read(&mut self) -> io::Result<BTreeSet<Change>> {
        let mut changes = BTreeSet::new();
        let mut buffer = Vec::with_capacity(1 << 15);
        for socket in [&self.route, &self.nftables] {
            for _ in 0..DATAGRAMS {
                buffer.clear();
                match socket.recv_from(&mut buffer, libc::MSG_DONTWAIT) {
                    Ok((_, sender)) if sender.port_number() == 0 => {
                        for part in Parts(&buffer).flatten() {
                            changes.extend(self.change(part.kind, part.payload));
                        }
                    }
                    // Any process may send to a netlink socket; only the kernel is believed.
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                        changes.extend([
                            Change::Link,
                            Change::Address,
                            Change::Loss,
                            Change::Table,
                            Change::Setting(None),
                        ]);
                    }
                    Err(e) => return Err(message(e, "read the kernel's events")),
                }
            }
        }
        Ok(changes)
    }

    fn change(&self, kind: u16, payload: &[u8]) -> Option<Change> {
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => Some(Change::Link),
            libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Change::Address),
            libc::RTM_DELROUTE => {
                let by = payload.get(RTM_PROTOCOL)?;
                self.protocols.contains(by).then_some(Change::Loss)
            }
            libc::RTM_DELRULE => {
                let mut attributes = Attributes(payload.get(RULE_HEADER..)?);
                let (_, by) = attributes.find(|(kind, _)| *kind == FRA_PROTOCOL)?;
                let ours = self.protocols.contains(by.first()?);
                ours.then_some(Change::Loss)
            }
            libc::RTM_NEWNETCONF => {
                let mut attributes = Attributes(payload.get(NETCONF_HEADER..)?);
                let (_, index) = attributes.find(|(kind, _)| *kind == NETCONFA_IFINDEX)?;
                // A negative index stands for all interfaces, or for those to come.
                let index = i32::from_ne_bytes(index.try_into().ok()?);
                Some(Change::Setting(u32::try_from(index).ok()))
            }
            kind if NFTABLES_DELETIONS.contains(&kind) => {
                // The first attribute of all these messages is the table's name.
                let (_, table) =
                    Attributes(payload.get(NFGENMSG..)?).find(|(kind, _)| *kind == 1)?;
                let change = match kind {
                    DELTABLE => Change::Table,
                    _ => Change::Loss,
                };
                (text_of(table) == self.table).then_some(change)
            }
            _ => None,
        }
    }
}

/// A message type of nf_tables.
const fn nftables(verb: libc::c_int) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES << 8) | verb) as u16
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loss_of_ones_own_counts() {
        let events = Events::open(&[190], "berth");
        // Without the right to hear of nftables there is nothing to test.
        let Ok(events) = events else { return };
        let route = |protocol: u8| {
            let mut payload = [0; 12];
            payload[RTM_PROTOCOL] = protocol;
            events.change(libc::RTM_DELROUTE, &payload)
        };
        assert_eq!((route(190), route(4)), (Some(Change::Loss), None));
        assert_eq!(events.change(libc::RTM_DELROUTE, &[]), None);
        assert_eq!(events.change(libc::RTM_NEWLINK, &[]), Some(Change::Link));
        let table = |kind: u16, name: &[u8; 8]| {
            let header = [2, 0, 0, 0, 12, 0, 1, 0];
            events.change(kind, &[&header[..], name].concat())
        };
        assert_eq!(table(0xa02, b"berth\0\0\0"), Some(Change::Table));
        assert_eq!(table(0xa0e, b"berth\0\0\0"), Some(Change::Loss));
        assert_eq!(table(0xa02, b"filter\0\0"), None);
        assert_eq!(table(0xa00, b"berth\0\0\0"), None);
        let rule = |by: u8| {
            let mut payload = [0; 12].to_vec();
            payload.extend([5, 0, 21, 0, by, 0, 0, 0]);
            events.change(libc::RTM_DELRULE, &payload)
        };
        assert_eq!((rule(190), rule(2)), (Some(Change::Loss), None));
        let setting = |index: i32| {
            let mut payload = vec![2, 0, 0, 0, 8, 0, 1, 0];
            payload.extend(index.to_ne_bytes());
            events.change(libc::RTM_NEWNETCONF, &payload)
        };
        assert_eq!(setting(7), Some(Change::Setting(Some(7))));
        assert_eq!(setting(-1), Some(Change::Setting(None)));
    }
}
