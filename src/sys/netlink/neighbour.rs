//! Proxy neighbour entries: addresses that an interface answers for although they are elsewhere.

use std::fmt;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;
use nix::errno::Errno;

use super::{Applied, NLM_F_CREATE, NLM_F_REPLACE, Socket, decode};
use crate::types::Family;

/// A proxy entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proxy {
    /// Index of the interface that answers.
    pub link: u32,
    /// The address it answers for.
    pub address: IpAddr,
    /// The number of its maker: `NDA_PROTOCOL`.
    pub protocol: u8,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy entry {} on link {}", self.address, self.link)
    }
}

impl Socket {
    /// All proxy entries of `family`.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub fn proxies(&mut self, family: Family) -> io::Result<Vec<Proxy>> {
        let mut query = NeighbourMessage::default();
        query.header.family = family.into();
        query.header.flags = NeighbourFlags::Proxy;
        let content = RouteNetlinkMessage::GetNeighbour(query);
        self.dump(content, format_args!("list {family} proxy entries"))?
            .iter()
            .map(|m| Ok(read(family, decode(m)?)))
            .filter_map(Result::transpose)
            .collect()
    }

    /// Adds a proxy entry. The kernel does not report whether it was there already.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn add_proxy(&mut self, proxy: &Proxy) -> io::Result<()> {
        self.apply(
            RouteNetlinkMessage::NewNeighbour(write(proxy)),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
            format_args!("add {proxy}"),
        )
        .map(|_| ())
    }

    /// Deletes a proxy entry.
    ///
    /// # Errors
    /// If the kernel refuses. That it or its interface is not there is [`Applied::Already`].
    pub fn delete_proxy(&mut self, proxy: &Proxy) -> io::Result<Applied> {
        self.delete(
            RouteNetlinkMessage::DelNeighbour(write(proxy)),
            &[Errno::ENOENT, Errno::ENODEV],
            format_args!("delete {proxy}"),
        )
    }
}

fn write(proxy: &Proxy) -> NeighbourMessage {
    let mut content = NeighbourMessage::default();
    content.header.family = Family::of(&proxy.address).into();
    content.header.ifindex = proxy.link;
    content.header.flags = NeighbourFlags::Proxy;
    // Linux 6.15 and later keep a permanent entry when the port loses its carrier; earlier kernels don't.
    content.header.state = NeighbourState::Permanent;
    content.attributes = vec![
        NeighbourAttribute::Destination(match proxy.address {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }),
        NeighbourAttribute::Protocol(RouteProtocol::from(proxy.protocol)),
    ];
    content
}

fn read(family: Family, content: RouteNetlinkMessage) -> Option<Proxy> {
    let RouteNetlinkMessage::NewNeighbour(content) = content else {
        return None;
    };
    if content.header.family != family.into() {
        return None;
    }
    let (mut address, mut protocol) = (None, 0);
    for attribute in content.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(ip.into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(ip.into());
            }
            NeighbourAttribute::Protocol(by) => protocol = by.into(),
            _ => {}
        }
    }
    Some(Proxy {
        link: content.header.ifindex,
        address: address?,
        protocol,
    })
}
