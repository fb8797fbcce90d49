//! Routes.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};
use nix::errno::Errno;

use super::{Applied, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Socket, decode};
use crate::types::Family;

const RTAX_RTO_MIN: u32 = 13;

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Out of the interface with this index, to the destination itself.
    Link(u32),
    /// Out of an interface to a gateway.
    Gateway {
        /// The interface's index.
        link: u32,
        /// The gateway's address.
        gateway: IpAddr,
        /// Whether the gateway is on the link although no address there says so (IPv4 and IPv6).
        onlink: bool,
    },
    /// Nowhere: senders are told that the destination is unreachable.
    Unreachable,
}

/// A route. Two of the same destination, table and metric can't exist side by side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The destination; /0 is the default route.
    pub destination: IpNetwork,
    /// Where it leads.
    pub via: Via,
    /// Its table.
    pub table: u32,
    /// Its metric, lower first. The kernel turns 0 into 1024 for IPv6.
    pub metric: u32,
    /// The number of its maker: `rtm_protocol`.
    pub protocol: u8,
    /// The shortest retransmission time of TCP along it; the kernel's 200 ms if `None`.
    pub rto_min: Option<Duration>,
}

/// Which routes to list; what is `None` matches all.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteFilter {
    /// The table.
    pub table: Option<u32>,
    /// `rtm_protocol`.
    pub protocol: Option<u8>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} ", self.destination)?;
        match &self.via {
            Via::Link(link) => write!(f, "link {link}")?,
            Via::Gateway { link, gateway, .. } => write!(f, "via {gateway} link {link}")?,
            Via::Unreachable => f.write_str("unreachable")?,
        }
        write!(f, " table {} metric {}", self.table, self.metric)
    }
}

impl Socket {
    /// The routes of `family` that match `filter`. Those with several next hops, and of types berth
    /// never makes, are left out.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub fn routes(&mut self, family: Family, filter: RouteFilter) -> io::Result<Vec<Route>> {
        let mut query = RouteMessage::default();
        query.header.address_family = family.into();
        query.header.protocol = RouteProtocol::from(filter.protocol.unwrap_or(0));
        query
            .attributes
            .extend(filter.table.map(RouteAttribute::Table));
        let content = RouteNetlinkMessage::GetRoute(query);
        let found = match self.dump(content, format_args!("list {family} routes")) {
            Ok(found) => found,
            // A table that no route was ever put into does not exist.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        found
            .iter()
            .map(|m| Ok(read(family, decode(m)?)))
            .filter_map(Result::transpose)
            .collect()
    }

    /// Adds a route.
    ///
    /// # Errors
    /// If the kernel refuses. That one with its destination, table and metric exists is
    /// [`Applied::Already`], wherever that leads: see [`Socket::replace_route`].
    pub fn add_route(&mut self, route: &Route) -> io::Result<Applied> {
        self.apply(
            RouteNetlinkMessage::NewRoute(write(route)),
            NLM_F_CREATE | NLM_F_EXCL,
            &[Errno::EEXIST],
            format_args!("add {route}"),
        )
    }

    /// Adds a route, or replaces the one with its destination, table and metric. At any moment packets find one of the
    /// two.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn replace_route(&mut self, route: &Route) -> io::Result<()> {
        self.apply(
            RouteNetlinkMessage::NewRoute(write(route)),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
            format_args!("replace {route}"),
        )
        .map(|_| ())
    }

    /// Deletes the route with all of these properties.
    ///
    /// # Errors
    /// If the kernel refuses. That it is not there is [`Applied::Already`].
    pub fn delete_route(&mut self, route: &Route) -> io::Result<Applied> {
        self.delete(
            RouteNetlinkMessage::DelRoute(write(route)),
            &[Errno::ESRCH, Errno::ENOENT, Errno::ENODEV],
            format_args!("delete {route}"),
        )
    }
}

fn write(route: &Route) -> RouteMessage {
    let destination = route.destination.network();
    let family = Family::of(&destination);
    let mut content = RouteMessage::default();
    content.header.address_family = family.into();
    content.header.destination_prefix_length = route.destination.prefix();
    content.header.protocol = RouteProtocol::from(route.protocol);
    content.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    content.header.kind = RouteType::Unicast;
    content.attributes = vec![
        RouteAttribute::Table(route.table),
        RouteAttribute::Priority(route.metric),
    ];
    if route.destination.prefix() > 0 {
        content
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(destination)));
    }
    match &route.via {
        Via::Link(link) => {
            if family == Family::V4 {
                content.header.scope = RouteScope::Link;
            }
            content.attributes.push(RouteAttribute::Oif(*link));
        }
        Via::Gateway {
            link,
            gateway,
            onlink,
        } => {
            content.header.flags.set(RouteFlags::Onlink, *onlink);
            content.attributes.push(RouteAttribute::Oif(*link));
            content
                .attributes
                .push(RouteAttribute::Gateway(RouteAddress::from(*gateway)));
        }
        Via::Unreachable => content.header.kind = RouteType::Unreachable,
    }
    if let Some(rto_min) = route.rto_min {
        let milliseconds = u32::try_from(rto_min.as_millis()).unwrap_or(u32::MAX);
        // TCP heeds this metric only if it is locked.
        let metrics = vec![
            RouteMetric::Lock(1 << RTAX_RTO_MIN),
            RouteMetric::RtoMin(milliseconds),
        ];
        content.attributes.push(RouteAttribute::Metrics(metrics));
    }
    content
}

fn read(family: Family, content: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(content) = content else {
        return None;
    };
    let header = content.header;
    if header.flags.contains(RouteFlags::Cloned) || header.address_family != family.into() {
        return None;
    }
    let any = match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    let (mut ip, mut link, mut gateway) = (any, None, None);
    let (mut table, mut metric, mut rto_min) = (u32::from(header.table), 0, None);
    for attribute in content.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => ip = ip_of(destination)?,
            RouteAttribute::Gateway(address) => gateway = Some(ip_of(address)?),
            RouteAttribute::Oif(index) => link = Some(index),
            RouteAttribute::Table(number) => table = number,
            RouteAttribute::Priority(number) => metric = number,
            RouteAttribute::MultiPath(_) | RouteAttribute::NhId(_) => return None,
            RouteAttribute::Metrics(metrics) => {
                rto_min = metrics.iter().find_map(|m| match m {
                    RouteMetric::RtoMin(ms) => Some(Duration::from_millis(u64::from(*ms))),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let via = match (header.kind, link, gateway) {
        (RouteType::Unicast, Some(link), None) => Via::Link(link),
        (RouteType::Unicast, Some(link), Some(gateway)) => Via::Gateway {
            link,
            gateway,
            onlink: header.flags.contains(RouteFlags::Onlink),
        },
        (RouteType::Unreachable, ..) => Via::Unreachable,
        _ => return None,
    };
    Some(Route {
        destination: IpNetwork::new(ip, header.destination_prefix_length).ok()?,
        via,
        table,
        metric,
        protocol: header.protocol.into(),
        rto_min,
    })
}

fn ip_of(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(ip.into()),
        RouteAddress::Inet6(ip) => Some(ip.into()),
        _ => None,
    }
}
