//! ARP and neighbour discovery on the wire: announcements, the search for duplicate addresses, and probes of targets,
//! whose replies prove that a port forwards.

mod frame;

mod prober;
mod received;
pub(crate) mod repeat;

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use self::frame::{
    ETH_P_IP_ARP, ETH_P_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION,
    duplicate_probes, frames,
};
pub(crate) use self::prober::NeighbourProber;
use self::received::claimant;
use crate::sys::message;
use crate::sys::poll::poll;
use crate::types::Mac;

/// When probes are sent, counted from the begin of the search. Replies on a local network take a fraction of a
/// millisecond.
const PROBES_AT: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(15),
    Duration::from_millis(30),
];
/// How long after the last probe the search ends without a reply: nobody has the address then.
const SILENCE: Duration = Duration::from_millis(20);
/// How many frames are looked at in one go: a flood of frames must not delay a start.
const FRAMES: usize = 1000;
/// The longest frame that is read as a whole, in bytes: neighbour discovery with all its options.
const FRAME: usize = 256;

/// An announcement that an address is now reached through an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Index of the interface.
    pub(crate) link: u32,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    /// The address.
    pub(crate) address: IpAddr,
}

/// A probe whether anybody on an interface's network has an address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DuplicateProbe<'a> {
    /// Index of the interface.
    pub(crate) link: u32,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    /// The address in question.
    pub(crate) address: IpAddr,
    /// The interface's IPv4 address to send from, since other nodes' proxies don't answer a probe without a sender. If
    /// it has none, a link-local address is made up.
    pub(crate) sender: Option<Ipv4Addr>,
    /// The Ethernet addresses whose claims don't count: those of the node's own interfaces.
    pub(crate) ignore: &'a [Mac],
}

/// A packet socket for announcements and searches.
///
/// When a packet socket is closed, the kernel waits for all processors, some 20 ms. So each one is used for as much as
/// possible, and closed where nobody waits for it.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket that receives nothing yet.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub(crate) fn open() -> io::Result<Self> {
        let (family, flags) = (AddressFamily::PACKET, SocketFlags::CLOEXEC);
        rustix::net::socket_with(family, SocketType::RAW, flags, None)
            .map(Self)
            .map_err(|e| message(e.into(), "open a packet socket"))
    }

    /// Announces addresses: all frames are built before the first one is sent.
    ///
    /// For IPv4 a request and then a reply, since some clients heed only one of the two. The reply names its own sender
    /// as target, because Linux ignores other replies for a second. For IPv6 an unsolicited advertisement.
    ///
    /// # Errors
    /// The first error of an interface; the other addresses are announced all the same.
    pub(crate) fn announce(&self, announcements: &[Announcement]) -> io::Result<()> {
        let frames: Vec<(u32, Vec<u8>)> = announcements
            .iter()
            .flat_map(|a| frames(a).into_iter().map(|frame| (a.link, frame)))
            .collect();
        let mut result = Ok(());
        for (link, frame) in frames {
            let sent = send(&self.0, link, &frame);
            result =
                result.and(sent.map_err(|e| message(e, format_args!("announce on link {link}"))));
        }
        result
    }
}

/// A packet socket that another process has opened.
impl From<OwnedFd> for PacketSocket {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The search for somebody else who has an address, or is about to take it: three probes within 30 ms, and 50 ms of
/// listening in all. Replies are collected while the caller does other things.
#[derive(Debug)]
pub(crate) struct DuplicateSearch<'a> {
    probe: DuplicateProbe<'a>,
    wire: &'a PacketSocket,
    duplicate_probes: Vec<Vec<u8>>,
    begun: Instant,
    sent: usize,
    last: Instant,
}

impl<'a> DuplicateSearch<'a> {
    /// Sends the first probe.
    ///
    /// # Errors
    /// If the interface can't be used.
    pub(crate) fn begin(wire: &'a PacketSocket, probe: DuplicateProbe<'a>) -> io::Result<Self> {
        listen(&wire.0, &probe)?;
        let begun = Instant::now();
        let mut search = Self {
            duplicate_probes: duplicate_probes(&probe),
            probe,
            wire,
            begun,
            sent: 0,
            last: begun,
        };
        search.ask()?;
        Ok(search)
    }

    /// Listens for `time`, or until somebody claims the address. Returns the claimant's Ethernet address.
    ///
    /// # Errors
    /// If the interface can't be used.
    pub(crate) fn listen(&mut self, time: Duration) -> io::Result<Option<Mac>> {
        let until = Instant::now() + time;
        for _ in 0..FRAMES {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(frame) = receive(&self.wire.0, left)? {
                if let Some(mac) = self.claimant(&frame) {
                    return Ok(Some(mac));
                }
            } else if left.is_zero() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Sends the remaining probes, and listens until the search is over. Returns the claimant's Ethernet address, if
    /// there is one.
    ///
    /// # Errors
    /// If the interface can't be used.
    pub(crate) fn finish(mut self) -> io::Result<Option<Mac>> {
        while let Some(at) = PROBES_AT.get(self.sent) {
            let wait = at.saturating_sub(self.begun.elapsed());
            if let Some(mac) = self.listen(wait)? {
                return Ok(Some(mac));
            }
            self.ask()?;
        }
        self.listen(SILENCE.saturating_sub(self.last.elapsed()))
    }

    fn ask(&mut self) -> io::Result<()> {
        for frame in &self.duplicate_probes {
            send(&self.wire.0, self.probe.link, frame)
                .map_err(|e| message(e, format_args!("probe for {}", self.probe.address)))?;
        }
        self.sent += 1;
        self.last = Instant::now();
        Ok(())
    }

    fn claimant(&self, frame: &[u8]) -> Option<Mac> {
        let mac = claimant(frame, self.probe.address)?;
        (mac != self.probe.mac && !self.probe.ignore.contains(&mac)).then_some(mac)
    }
}

/// The address of a packet socket: an interface (0: all), and a protocol (0: it receives nothing); packet(7).
struct LinkAddress {
    link: u32,
    protocol: u16,
}

// SAFETY: the closure is given a whole structure and its length, which live until it returns.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: self.protocol.to_be(),
            // Interface numbers are positive and fit.
            sll_ifindex: self.link as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as SocketAddrLen;
        f((&raw const address).cast(), length)
    }
}

fn send(socket: &OwnedFd, link: u32, frame: &[u8]) -> io::Result<()> {
    let to = LinkAddress { link, protocol: 0 };
    rustix::net::sendto(socket, frame, SendFlags::empty(), &to)?;
    Ok(())
}

/// Makes the socket receive frames that may be a reply to the probe.
fn listen(socket: &OwnedFd, probe: &DuplicateProbe<'_>) -> io::Result<()> {
    let (protocol, mut filter) = match probe.address {
        IpAddr::V4(_) => (ETH_P_IP_ARP, vec![op(END, 0, 0, u32::MAX)]),
        IpAddr::V6(_) => (
            ETH_P_IPV6,
            vec![
                op(LOAD_BYTE, 0, 0, 20),
                op(EQUAL, 0, 4, u32::from(ICMPV6)),
                op(LOAD_BYTE, 0, 0, 54),
                op(EQUAL, 1, 0, u32::from(NEIGHBOUR_ADVERTISEMENT)),
                op(EQUAL, 0, 1, u32::from(NEIGHBOUR_SOLICITATION)),
                op(END, 0, 0, u32::MAX),
                op(END, 0, 0, 0),
            ],
        ),
    };
    attach(socket, (probe.link, protocol), &mut filter)
}

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const END: u32 = libc::BPF_RET | libc::BPF_K;

/// An instruction of a packet filter.
fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        // All codes used here fit.
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Makes the socket receive, from an interface (0: from all), the frames of a protocol that the filter passes. The
/// filter is attached first, so that no other traffic of a busy port is ever copied.
fn attach(
    socket: &OwnedFd,
    (link, protocol): (u32, u16),
    filter: &mut [libc::sock_filter],
) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and the instructions that it points to live through the call, which copies them.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            mem::size_of_val(&program) as libc::socklen_t,
        )
    })?;
    rustix::net::bind(socket, &LinkAddress { link, protocol })?;
    Ok(())
}

/// The next frame within `wait`. A frame longer than [`FRAME`] is cut off, and not believed then.
fn receive(socket: &OwnedFd, wait: Duration) -> io::Result<Option<Vec<u8>>> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, Some(Instant::now() + wait))? == 0 {
        return Ok(None);
    }
    let mut frame = vec![0; FRAME];
    match rustix::net::recv(socket, &mut frame[..], RecvFlags::DONTWAIT) {
        Ok((length, _)) => {
            frame.truncate(length);
            Ok(Some(frame))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
