//! A synchronous route netlink socket with one method for each thing that berth does with links, addresses,
//! routes, rules and proxy neighbour entries.
//!
//! Every method that changes something is idempotent, and returns whether it had anything to do. An error names the
//! verb, the object, and the kernel's reason.

mod address;
mod event;
mod link;
mod neighbour;
mod route;
mod rule;
pub(crate) mod transport;

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

pub use address::{Address, Scope};
pub(crate) use event::{Change, Events};
pub(crate) use link::Link;
pub use link::{LinkChange, Veth};
pub use neighbour::Proxy;
pub use route::{Route, RouteFilter, Via};
pub use rule::{Action, Incoming, OF_VRF, Rule};

use crate::sys::{message, namespace};
use crate::types::Family;
use transport::{Message, Refusal, Request, Transport};

/// Whether a change had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// It was so already.
    Already,
    /// The kernel made the change.
    Changed,
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}

const NLM_F_REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;

/// The kernel's answers about an address family that it does not have, such as IPv6 with `ipv6.disable=1`: the first
/// about rules and neighbours, the second about addresses and routes.
const NO_FAMILY: [Errno; 2] = [Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];

/// A route netlink socket; it belongs to one network namespace for good.
pub struct Socket {
    transport: Transport,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no route netlink, or no strict checks, which need Linux 4.20.
    pub(crate) fn new() -> io::Result<Self> {
        let transport = Transport::open(netlink_sys::protocols::NETLINK_ROUTE)?;
        transport.set_strict()?;
        Ok(Self { transport })
    }

    /// Opens a socket in the network namespace of `namespace`: a descriptor of it, or a pidfd.
    ///
    /// # Errors
    /// As [`Socket::new`], and `PermissionDenied` without CAP_SYS_ADMIN.
    pub fn in_netns(namespace: impl AsFd) -> io::Result<Self> {
        namespace::inside(namespace, Self::new)
    }

    /// Makes a change; `already` are the errors that mean that it was made before.
    fn apply(
        &mut self,
        content: RouteNetlinkMessage,
        flags: u16,
        already: &[Errno],
        what: impl fmt::Display,
    ) -> io::Result<Applied> {
        let request = encode(&content, flags);
        match self
            .transport
            .request(&request)
            .map_err(|e| message(e, &what))?
        {
            Ok(()) => Ok(Applied::Changed),
            Err(refusal) if already.contains(&refusal.errno) => Ok(Applied::Already),
            Err(refusal) => Err(refusal.of(what)),
        }
    }

    /// Deletes something. If the kernel does not have the address family, there is nothing to delete.
    fn delete(
        &mut self,
        content: RouteNetlinkMessage,
        gone: &[Errno],
        what: impl fmt::Display,
    ) -> io::Result<Applied> {
        self.apply(content, 0, &[gone, &NO_FAMILY].concat(), what)
    }

    /// The messages of a dump. If the kernel does not have the address family there are none; it may then answer with
    /// those of another family, which are left out.
    fn dump(
        &mut self,
        content: RouteNetlinkMessage,
        what: impl fmt::Display,
    ) -> io::Result<Vec<Message>> {
        let request = encode(&content, 0);
        self.transport
            .dump(request.kind, request.payload)
            .map_err(|e| message(e, &what))?
            .or_else(
                |refusal: Refusal| match NO_FAMILY.contains(&refusal.errno) {
                    true => Ok(Vec::new()),
                    false => Err(refusal.of(what)),
                },
            )
    }
}

fn encode(content: &RouteNetlinkMessage, flags: u16) -> Request {
    let mut payload = vec![0; NetlinkSerializable::buffer_len(content)];
    content.serialize(&mut payload);
    Request {
        kind: content.message_type(),
        flags,
        payload,
    }
}

fn decode(received: &Message) -> io::Result<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = received.kind;
    header.length = (header.buffer_len() + received.payload.len()) as u32;
    RouteNetlinkMessage::deserialize(&header, &received.payload)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::rule::RuleMessage;

    use super::*;

    #[test]
    fn of_a_family_that_the_kernel_lacks_there_is_nothing() {
        // No kernel has had this one since Linux 6.1; what it says of it, it says of any other.
        let mut query = RuleMessage::default();
        query.header.family = AddressFamily::Decnet;
        let content = RouteNetlinkMessage::GetRule(query);
        let rules = Socket::new().unwrap().dump(content, "list rules").unwrap();
        assert!(rules.is_empty());
    }
}
