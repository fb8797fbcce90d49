//! Addresses of interfaces.

use std::fmt;
use std::io;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope,
};
use nix::errno::Errno;

use super::{Applied, NLM_F_CREATE, NLM_F_EXCL, Socket, decode};
use crate::types::Family;

/// How far an address is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Universe,
    /// On its link.
    Link,
    /// Inside the host: never chosen as a source for others.
    Host,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub link: u32,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// How far it is valid.
    pub scope: Scope,
    /// The number of its maker (`IFA_PROTO`; Linux 5.18 and later, 0 before).
    pub protocol: u8,
    /// Whether its check for a duplicate has failed or goes on (IPv6).
    pub unusable: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {} of link {}", self.address, self.link)
    }
}

impl Socket {
    /// The addresses of all interfaces, or of the one with index `link`.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub fn addresses(&mut self, link: Option<u32>) -> io::Result<Vec<Address>> {
        let mut query = AddressMessage::default();
        query.header.index = link.unwrap_or(0);
        self.dump(RouteNetlinkMessage::GetAddress(query), "list addresses")?
            .iter()
            .map(|m| Ok(read(decode(m)?)))
            .filter_map(Result::transpose)
            .collect()
    }

    /// Adds an address, without the kernel's own search for a duplicate: it can be used at once.
    ///
    /// # Errors
    /// If the kernel refuses. That it is there, with whatever scope, is [`Applied::Already`].
    pub fn add_address(&mut self, address: &Address) -> io::Result<Applied> {
        let mut content = write(address);
        content
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
        self.apply(
            RouteNetlinkMessage::NewAddress(content),
            NLM_F_CREATE | NLM_F_EXCL,
            &[Errno::EEXIST],
            format_args!("add {address}"),
        )
    }

    /// Deletes an address.
    ///
    /// # Errors
    /// If the kernel refuses. That it or its interface is not there is [`Applied::Already`].
    pub fn delete_address(&mut self, address: &Address) -> io::Result<Applied> {
        self.delete(
            RouteNetlinkMessage::DelAddress(write(address)),
            &[Errno::EADDRNOTAVAIL, Errno::ENODEV],
            format_args!("delete {address}"),
        )
    }
}

fn write(address: &Address) -> AddressMessage {
    let ip = address.address.ip();
    let mut content = AddressMessage::default();
    content.header.family = Family::of(&ip).into();
    content.header.prefix_len = address.address.prefix();
    content.header.index = address.link;
    content.header.scope = match address.scope {
        Scope::Universe => AddressScope::Universe,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
    };
    content.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    if address.protocol != 0 {
        content
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::from(
                address.protocol,
            )));
    }
    content
}

/// `None` for what is not an address of this host, such as an anycast address.
fn read(content: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(content) = content else {
        return None;
    };
    let (mut ip, mut protocol, mut flags) = (None, 0, AddressFlags::empty());
    for attribute in content.attributes {
        match attribute {
            // IFA_LOCAL is the address itself; IFA_ADDRESS is the other end's on point-to-point links.
            AddressAttribute::Local(local) => ip = Some(local),
            AddressAttribute::Address(address) => ip = ip.or(Some(address)),
            AddressAttribute::Protocol(by) => protocol = by.into(),
            AddressAttribute::Flags(set) => flags = set,
            _ => {}
        }
    }
    Some(Address {
        link: content.header.index,
        address: IpNetwork::new(ip?, content.header.prefix_len).ok()?,
        scope: match content.header.scope {
            AddressScope::Link => Scope::Link,
            AddressScope::Host => Scope::Host,
            _ => Scope::Universe,
        },
        protocol,
        unusable: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}
