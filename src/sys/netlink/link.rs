//! Network interfaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::transport::{Attributes, Message, malformed, text_of};
use super::{Applied, NLM_F_CREATE, NLM_F_EXCL, Socket, encode};
use crate::sys::message;
use crate::types::{IfName, Mac};

/// `struct ifinfomsg`.
const HEADER: usize = 16;

/// An interface as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: IfName,
    /// Its Ethernet address; `None` if it is no Ethernet interface.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub(crate) mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and has carrier.
    pub carrier: bool,
    /// Whether it is a loopback interface.
    pub(crate) loopback: bool,
    /// Whether it resolves neighbours.
    pub arp: bool,
    /// Its driver family: `veth`, `bond`…; physical ones have none.
    pub kind: Option<String>,
    /// The index of the interface that it is part of.
    pub(crate) master: Option<u32>,
}

impl Link {
    /// The interface of `all` that takes all packets that come in by this one: a bond, a bridge, a team. A VRF only has
    /// routing tables of its own, and an interface in it is a port like any other.
    pub fn taken_by<'l>(&self, all: &'l [Link]) -> Option<&'l Link> {
        let master = all.iter().find(|link| Some(link.index) == self.master)?;
        (master.kind.as_deref() != Some("vrf")).then_some(master)
    }
}

/// A pair of interfaces to create, both ends with the same Ethernet address.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of the end in the socket's namespace.
    pub name: &'a str,
    /// Name of the other end.
    pub peer: &'a str,
    /// The other end's network namespace; the socket's own if `None`.
    pub peer_namespace: Option<BorrowedFd<'a>>,
    /// The address of both.
    pub mac: Mac,
    /// The MTU of both in bytes; the driver's default if `None`.
    pub mtu: Option<u32>,
}

/// Changes to an interface; a field that is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange {
    /// Up or down.
    pub up: Option<bool>,
    /// Whether it resolves neighbours.
    pub arp: Option<bool>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether the kernel gives it a link-local IPv6 address (`false`: `addrgenmode none`).
    pub generated_address: Option<bool>,
}

impl Socket {
    /// All interfaces of the namespace.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut query = LinkMessage::default();
        query.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
        self.dump(RouteNetlinkMessage::GetLink(query), "list links")?
            .iter()
            .map(read)
            .collect()
    }

    /// The interface called `name`, if there is one.
    ///
    /// # Errors
    /// As [`Socket::links`].
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let what = || format!("look up link {name}");
        let mut query = LinkMessage::default();
        query.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        ];
        let request = encode(&RouteNetlinkMessage::GetLink(query), 0);
        match self
            .transport
            .query(&request)
            .map_err(|e| message(e, what()))?
        {
            Ok(Some(answer)) => read(&answer).map(Some),
            Ok(None) => Ok(None),
            // A name longer than the kernel allows is out of range, and nothing can have it.
            Err(no) if matches!(no.errno, Errno::ENODEV | Errno::ERANGE) => Ok(None),
            Err(no) => Err(no.of(what())),
        }
    }

    /// Creates a pair, both ends down. An interface of the same name counts as [`Applied::Already`],
    /// whatever it is.
    ///
    /// # Errors
    /// If the kernel refuses, such as for a name of the other end that is taken there.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> io::Result<Applied> {
        if self.link(veth.name)?.is_some() {
            return Ok(Applied::Already);
        }
        let own = |name: &str| {
            let mut attributes = vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Address(veth.mac.0.to_vec()),
            ];
            attributes.extend(veth.mtu.map(LinkAttribute::Mtu));
            attributes
        };
        let mut peer = LinkMessage::default();
        peer.attributes = own(veth.peer);
        peer.attributes.extend(
            veth.peer_namespace
                .map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())),
        );
        let mut link = LinkMessage::default();
        link.attributes = own(veth.name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.apply(
            RouteNetlinkMessage::NewLink(link),
            NLM_F_CREATE | NLM_F_EXCL,
            &[],
            format_args!("create link {} with peer {}", veth.name, veth.peer),
        )
    }

    /// Changes the interface called `name`.
    ///
    /// # Errors
    /// If it does not exist or the kernel refuses.
    pub fn change_link(&mut self, name: &str, change: &LinkChange) -> io::Result<()> {
        if let Some(generated) = change.generated_address {
            // In a message of its own: in a common one the kernel would set the link up first, and make the address
            // then.
            let mode = match generated {
                true => In6AddrGenMode::Eui64,
                false => In6AddrGenMode::None,
            };
            let mode = vec![AfSpecInet6::AddrGenMode(mode)];
            let attribute = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(mode)]);
            // A kernel without IPv6 generates none.
            let without = &[Errno::EAFNOSUPPORT];
            self.set_link(name, LinkMessage::default(), [attribute], without)?;
        }
        let mut link = LinkMessage::default();
        for (flag, wanted) in [
            (LinkFlags::Up, change.up),
            (LinkFlags::Noarp, change.arp.map(|arp| !arp)),
        ] {
            let Some(on) = wanted else { continue };
            link.header.change_mask |= flag;
            link.header.flags.set(flag, on);
        }
        self.set_link(name, link, change.mtu.map(LinkAttribute::Mtu), &[])
    }

    fn set_link(
        &mut self,
        name: &str,
        mut link: LinkMessage,
        attributes: impl IntoIterator<Item = LinkAttribute>,
        already: &[Errno],
    ) -> io::Result<()> {
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        link.attributes.extend(attributes);
        self.apply(
            RouteNetlinkMessage::SetLink(link),
            0,
            already,
            format_args!("change link {name}"),
        )
        .map(|_| ())
    }

    /// Deletes the interface called `name`; a veth's other end goes with it.
    ///
    /// # Errors
    /// If the kernel refuses; that it does not exist is [`Applied::Already`].
    pub fn delete_link(&mut self, name: &str) -> io::Result<Applied> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.apply(
            RouteNetlinkMessage::DelLink(link),
            0,
            &[Errno::ENODEV],
            format_args!("delete link {name}"),
        )
    }
}

/// Reads the few attributes that matter here. The others differ between drivers and kernels, and an oddity of some
/// other interface must not make the node's ports unreadable.
fn read(received: &Message) -> io::Result<Link> {
    let bytes = &received.payload;
    let word = |at: usize| {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|b| u32::from_ne_bytes(*b)).ok_or_else(malformed)
    };
    let index = word(4)?;
    let flags = LinkFlags::from_bits_retain(word(8)?);
    let mut link = Link {
        index,
        name: IfName::of_kernel(&[]),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        arp: !flags.contains(LinkFlags::Noarp),
        kind: None,
        master: None,
    };
    for (kind, value) in Attributes(bytes.get(HEADER..).ok_or_else(malformed)?) {
        match kind {
            IFLA_IFNAME => link.name = IfName::of_kernel(value),
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_MTU => {
                link.mtu = u32::from_ne_bytes(value.try_into().map_err(|_| malformed())?);
            }
            IFLA_MASTER => {
                link.master = value.try_into().ok().map(u32::from_ne_bytes);
            }
            IFLA_LINKINFO => {
                link.kind = Attributes(value)
                    .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                    .map(|(_, text)| text_of(text));
            }
            _ => {}
        }
    }
    Ok(link)
}
