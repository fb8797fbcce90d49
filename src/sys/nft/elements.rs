//! The elements of the tables' sets, and their encoding in nfnetlink.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::Ipv4Network;
use nix::errno::Errno;

use super::Socket;
use super::protocol::{GETSETELEM, NFTA_DATA_VALUE, NFTA_EXPR_DATA};
use crate::sys::message;
use crate::sys::netlink::transport::{Attributes, Request, malformed};
use crate::types::{Family, IfName, Mac};

/// The name of both tables, the one for IP and the one for ARP.
pub(crate) const TABLE: &str = "berth";
pub(crate) const NFPROTO_INET: u8 = libc::NFPROTO_INET as u8;
pub(crate) const NFPROTO_ARP: u8 = libc::NFPROTO_ARP as u8;
const NFNL_SUBSYS_NFTABLES: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const NFNL_MSG_BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const NFNL_MSG_BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const NEWSETELEM: u16 = libc::NFT_MSG_NEWSETELEM as u16;
const DELSETELEM: u16 = libc::NFT_MSG_DELSETELEM as u16;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(crate) const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_COUNTER_BYTES: u16 = 1;
pub(crate) const NLA_F_NESTED: u16 = libc::NLA_F_NESTED as u16;
pub(crate) const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
/// The bytes of an interface's name in a key.
const IFNAMSIZ: usize = libc::IFNAMSIZ;
/// The bytes of an Ethernet address in a key of several fields, padded to whole words of 32 bits.
const ETHER: usize = 8;

/// An element of one of the sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// A port that VIPs are served through.
    Port(IfName),
    /// The host end of a cell's veth.
    Cell(IfName),
    /// A port that forwarded nothing of this family before berth came.
    ClosedPort(Family, IfName),
    /// An address of the node itself.
    Host(IpAddr),
    /// A VIP.
    Vip(IpAddr),
    /// The cell's interface that a VIP's packets come from, and the VIP.
    CellSource(IfName, IpAddr),
    /// A VIP, and the interface that packets to it leave by.
    VipTarget(IpAddr, IfName),
    /// A port, and a VIP to which packets from that port are dropped.
    NotFrom(IfName, IpAddr),
    /// The port by which packets of a VIP come in from the node with its cell, the VIP, and that node's Ethernet
    /// address.
    RemoteSource(IfName, IpAddr, Mac),
    /// The VIP in whose name a port sends ARP requests in a subnet.
    Source {
        /// The port.
        port: IfName,
        /// The subnet.
        subnet: Ipv4Network,
        /// The VIP.
        vip: Ipv4Addr,
    },
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nft element {} ", self.set())?;
        match self {
            Self::Port(name) | Self::Cell(name) | Self::ClosedPort(_, name) => f.write_str(name),
            Self::Host(ip) | Self::Vip(ip) => ip.fmt(f),
            Self::CellSource(link, vip) => write!(f, "{link} . {vip}"),
            Self::VipTarget(vip, link) => write!(f, "{vip} . {link}"),
            Self::NotFrom(link, vip) => write!(f, "{link} . {vip}"),
            Self::RemoteSource(link, vip, mac) => write!(f, "{link} . {vip} . {mac}"),
            Self::Source { port, subnet, vip } => write!(f, "{port} . {subnet} : {vip}"),
        }
    }
}

/// A specimen element of each set of these families, and of each set that has no family.
fn specimens(families: &[Family]) -> Vec<Element> {
    let link = IfName::loopback;
    let mut all = vec![
        Element::Port(link()),
        Element::Cell(link()),
        Element::Source {
            port: link(),
            subnet: Ipv4Network::from(Ipv4Addr::UNSPECIFIED),
            vip: Ipv4Addr::UNSPECIFIED,
        },
    ];
    for family in families {
        let ip = match family {
            Family::V4 => IpAddr::from([0; 4]),
            Family::V6 => IpAddr::from([0; 16]),
        };
        all.extend([
            Element::ClosedPort(*family, link()),
            Element::Host(ip),
            Element::Vip(ip),
            Element::CellSource(link(), ip),
            Element::VipTarget(ip, link()),
            Element::NotFrom(link(), ip),
            Element::RemoteSource(link(), ip, Mac([0; 6])),
        ]);
    }
    all
}

impl Element {
    fn set(&self) -> &'static str {
        let by = |family, v4, v6| match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        match self {
            Self::Port(_) => "ports",
            Self::Cell(_) => "cells",
            Self::ClosedPort(family, _) => by(*family, "shut4", "shut6"),
            Self::Host(ip) => by(Family::of(ip), "host4", "host6"),
            Self::Vip(ip) => by(Family::of(ip), "vip4", "vip6"),
            Self::CellSource(_, ip) => by(Family::of(ip), "own4", "own6"),
            Self::VipTarget(ip, _) => by(Family::of(ip), "to4", "to6"),
            Self::NotFrom(_, ip) => by(Family::of(ip), "back4", "back6"),
            Self::RemoteSource(_, ip, _) => by(Family::of(ip), "via4", "via6"),
            Self::Source { .. } => "source",
        }
    }

    /// Whether the set's elements count the traffic that they match.
    fn is_counted(&self) -> bool {
        matches!(
            self,
            Self::CellSource(..) | Self::VipTarget(..) | Self::RemoteSource(..)
        )
    }

    fn table_family(&self) -> u8 {
        match self {
            Self::Source { .. } => NFPROTO_ARP,
            _ => NFPROTO_INET,
        }
    }

    /// The element's key: one field after the other, as the set's type names them.
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Port(name) | Self::Cell(name) | Self::ClosedPort(_, name) => name_bytes(name),
            Self::Host(ip) | Self::Vip(ip) => ip_bytes(ip),
            Self::CellSource(link, ip) | Self::NotFrom(link, ip) => {
                [name_bytes(link), ip_bytes(ip)].concat()
            }
            Self::RemoteSource(link, ip, mac) => {
                let mut key = [name_bytes(link), ip_bytes(ip), mac.0.to_vec()].concat();
                key.resize(key.len() - mac.0.len() + ETHER, 0);
                key
            }
            Self::VipTarget(ip, link) => [ip_bytes(ip), name_bytes(link)].concat(),
            Self::Source { port, subnet, .. } => {
                [name_bytes(port), ip_bytes(&subnet.network().into())].concat()
            }
        }
    }

    /// For a map of intervals, the end of the element's interval and the value; `None` for other sets.
    fn rest(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let Self::Source { port, subnet, vip } = self else {
            return None;
        };
        let end = [name_bytes(port), ip_bytes(&subnet.broadcast().into())].concat();
        Some((end, ip_bytes(&(*vip).into())))
    }

    /// The element with this key in the set of `self`.
    fn with(&self, key: &[u8], end: Option<&[u8]>, data: Option<&[u8]>) -> Option<Self> {
        Some(match self {
            Self::Port(_) => Self::Port(IfName::of_kernel(key)),
            Self::Cell(_) => Self::Cell(IfName::of_kernel(key)),
            Self::ClosedPort(family, _) => Self::ClosedPort(*family, IfName::of_kernel(key)),
            Self::Host(_) => Self::Host(ip_of(key)?),
            Self::Vip(_) => Self::Vip(ip_of(key)?),
            Self::CellSource(..) => {
                let (link, ip) = key.split_at_checked(IFNAMSIZ)?;
                Self::CellSource(IfName::of_kernel(link), ip_of(ip)?)
            }
            Self::NotFrom(..) => {
                let (link, ip) = key.split_at_checked(IFNAMSIZ)?;
                Self::NotFrom(IfName::of_kernel(link), ip_of(ip)?)
            }
            Self::RemoteSource(..) => {
                let (link, rest) = key.split_at_checked(IFNAMSIZ)?;
                let (ip, mac) = rest.split_at_checked(rest.len().checked_sub(ETHER)?)?;
                let mac = mac.first_chunk()?;
                Self::RemoteSource(IfName::of_kernel(link), ip_of(ip)?, Mac(*mac))
            }
            Self::VipTarget(..) => {
                let (ip, link) = key.split_at_checked(key.len().checked_sub(IFNAMSIZ)?)?;
                Self::VipTarget(ip_of(ip)?, IfName::of_kernel(link))
            }
            Self::Source { .. } => {
                let (port, first) = key.split_at_checked(IFNAMSIZ)?;
                let (_, last) = end?.split_at_checked(IFNAMSIZ)?;
                let first = u32::from_be_bytes(first.try_into().ok()?);
                let last = u32::from_be_bytes(last.try_into().ok()?);
                // At most 32 leading zeros.
                let prefix = (first ^ last).leading_zeros() as u8;
                Self::Source {
                    port: IfName::of_kernel(port),
                    subnet: Ipv4Network::new(first.into(), prefix).ok()?,
                    vip: u32::from_be_bytes(data?.try_into().ok()?).into(),
                }
            }
        })
    }

    fn request(&self, verb: u16, flags: u16) -> Request {
        let mut inner = nested(NFTA_SET_ELEM_KEY, &attribute(NFTA_DATA_VALUE, &self.key()));
        if let Some((end, data)) = self.rest() {
            if verb == NEWSETELEM {
                inner.extend(nested(
                    NFTA_SET_ELEM_DATA,
                    &attribute(NFTA_DATA_VALUE, &data),
                ));
            }
            inner.extend(nested(
                NFTA_SET_ELEM_KEY_END,
                &attribute(NFTA_DATA_VALUE, &end),
            ));
        }
        let list = nested(NFTA_LIST_ELEM, &inner);
        Request {
            kind: message_type(verb),
            flags,
            payload: payload(
                self.table_family(),
                &[
                    (NFTA_SET_ELEM_LIST_TABLE, &text(TABLE)),
                    (NFTA_SET_ELEM_LIST_SET, &text(self.set())),
                    (NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, &list),
                ],
            ),
        }
    }
}

impl Socket {
    /// All elements of the sets of these families and of those without a family; none if there is no table.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub fn elements(&mut self, families: &[Family]) -> io::Result<BTreeSet<Element>> {
        let mut found = BTreeSet::new();
        for specimen in specimens(families) {
            found.extend(self.list(&specimen, |element| read(&specimen, element))?);
        }
        Ok(found)
    }

    /// The bytes that each VIP has sent to and received from clients since its element was added;
    /// none if there is no table.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub(crate) fn traffic(&mut self) -> io::Result<BTreeMap<IpAddr, u64>> {
        let mut bytes = BTreeMap::new();
        let counted = specimens(&Family::BOTH)
            .into_iter()
            .filter(Element::is_counted);
        for specimen in counted {
            let counts = self.list(&specimen, |element| {
                let vip = match read(&specimen, element)? {
                    Element::CellSource(_, vip)
                    | Element::VipTarget(vip, _)
                    | Element::RemoteSource(_, vip, _) => vip,
                    _ => return None,
                };
                Some((vip, count(element).unwrap_or(0)))
            })?;
            for (vip, count) in counts {
                *bytes.entry(vip).or_default() += count;
            }
        }
        Ok(bytes)
    }

    /// Every element of the set of `specimen`, as `read` decodes it.
    fn list<T>(
        &mut self,
        specimen: &Element,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let what = format!("list nftables set berth {}", specimen.set());
        let query = payload(
            specimen.table_family(),
            &[
                (NFTA_SET_ELEM_LIST_TABLE, &text(TABLE)),
                (NFTA_SET_ELEM_LIST_SET, &text(specimen.set())),
            ],
        );
        let answer = self.transport.dump(message_type(GETSETELEM), query);
        let messages = match answer.map_err(|e| message(e, &what))? {
            Ok(messages) => messages,
            Err(no) if no.errno == Errno::ENOENT => return Ok(Vec::new()),
            Err(no) => return Err(no.of(what)),
        };
        let mut found = Vec::new();
        for part in &messages {
            for (kind, list) in Attributes(part.payload.get(4..).unwrap_or(&[])) {
                if kind == NFTA_SET_ELEM_LIST_ELEMENTS {
                    for (_, element) in Attributes(list) {
                        let element = read(element).ok_or_else(malformed);
                        found.push(element.map_err(|e| message(e, &what))?);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Deletes and adds elements, in this order, in one transaction. It is no error if an element to delete is not
    /// there, or one to add is.
    ///
    /// # Errors
    /// If the kernel refuses, such as for want of the table.
    pub fn change(&mut self, delete: &[Element], add: &[Element]) -> io::Result<()> {
        let mut requests: Vec<(Request, &Element)> = Vec::new();
        requests.extend(delete.iter().map(|e| (e.request(DELSETELEM, 0), e)));
        let deletions = &mut delete.len();
        requests.extend(add.iter().map(|e| (e.request(NEWSETELEM, NLM_F_CREATE), e)));
        loop {
            let (batch, elements): (Vec<Request>, Vec<&Element>) = requests.into_iter().unzip();
            let (at, no) = match self.transaction(&batch)? {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            if at >= *deletions || no.errno != Errno::ENOENT {
                let verb = if at < *deletions { "delete" } else { "add" };
                let Some(element) = elements.get(at) else {
                    return Err(no.of("change nftables table berth"));
                };
                return Err(no.of(format_args!("{verb} {element}")));
            }
            // This element is gone already, which has made the whole transaction fail: again without it.
            *deletions -= 1;
            requests = batch.into_iter().zip(elements).collect();
            requests.remove(at);
        }
    }
}

fn read(specimen: &Element, bytes: &[u8]) -> Option<Element> {
    let (mut key, mut end, mut data) = (None, None, None);
    for (kind, value) in Attributes(bytes) {
        let content = || {
            let mut inner = Attributes(value);
            inner.find(|(k, _)| *k == NFTA_DATA_VALUE).map(|(_, v)| v)
        };
        match kind {
            NFTA_SET_ELEM_KEY => key = content(),
            NFTA_SET_ELEM_KEY_END => end = content(),
            NFTA_SET_ELEM_DATA => data = content(),
            _ => {}
        }
    }
    specimen.with(key?, end, data)
}

/// The bytes that an element has counted. Each packet of a VIP is looked up in these sets once, where it is accepted.
fn count(bytes: &[u8]) -> Option<u64> {
    let find = |bytes, wanted| Attributes(bytes).find(|(kind, _)| *kind == wanted);
    let (_, expression) = find(bytes, NFTA_SET_ELEM_EXPR)?;
    let (_, counter) = find(expression, NFTA_EXPR_DATA)?;
    let (_, count) = find(counter, NFTA_COUNTER_BYTES)?;
    Some(u64::from_be_bytes(count.try_into().ok()?))
}

pub(crate) const fn message_type(verb: u16) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | verb
}

/// The messages around a transaction.
pub(crate) fn frame() -> (Request, Request) {
    let [begin, end] = [NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END].map(|kind| {
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        Request {
            kind,
            flags: 0,
            payload: vec![0, 0, high, low],
        }
    });
    (begin, end)
}

/// `struct nfgenmsg` and attributes.
pub(crate) fn payload(family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    for (kind, value) in attributes {
        bytes.extend(attribute(*kind, value));
    }
    bytes
}

/// An attribute, encoded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Values made here are far shorter than the 64 KiB that a length can express.
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, value)
}

/// A string attribute's value.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

pub(crate) fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAMSIZ, 0);
    bytes
}

fn ip_bytes(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_read_as_it_is_written() {
        let (v4, v6) = (
            "10.1.0.50".parse().unwrap(),
            "2001:db8::50".parse().unwrap(),
        );
        let link = || IfName::from("b-alpha");
        let elements = [
            Element::Port(link()),
            Element::ClosedPort(Family::V6, link()),
            Element::Host(v6),
            Element::Vip(v4),
            Element::CellSource(link(), v6),
            Element::VipTarget(v4, link()),
            Element::Source {
                port: link(),
                subnet: "10.1.0.0/22".parse().unwrap(),
                vip: "10.1.0.50".parse().unwrap(),
            },
        ];
        for element in elements {
            let rest = element.rest();
            let (end, data) = rest.as_ref().map_or((None, None), |(e, d)| {
                (Some(e.as_slice()), Some(d.as_slice()))
            });
            assert_eq!(element.with(&element.key(), end, data), Some(element));
        }
    }

    #[test]
    fn every_set_has_one_specimen() {
        let names: BTreeSet<_> = specimens(&Family::BOTH).iter().map(Element::set).collect();
        assert_eq!((names.len(), specimens(&Family::BOTH).len()), (17, 17));
    }

    #[test]
    fn a_key_too_short_is_no_element() {
        let own = Element::CellSource(IfName::loopback(), [0; 4].into());
        assert_eq!(own.with(b"short", None, None), None);
    }
}
