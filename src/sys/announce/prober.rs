//! Neighbour requests through ports, and the replies.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, MsgFlags, recvmsg};

use crate::plan::neighbour::{Probe, Reply};
use crate::sys::announce::frame::{
    ARP_REPLY, ETH_P_IP_ARP, ETH_P_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT, request,
};
use crate::sys::announce::received::reply_in;
use crate::sys::announce::{
    END, EQUAL, FRAME, LOAD_BYTE, LOAD_HALF, PacketSocket, attach, op, send,
};

/// How many frames are read in one go.
const FRAMES: usize = 256;

/// Sends neighbour requests, and receives the replies that come in by any port. A filter keeps all other traffic away.
#[derive(Debug)]
pub(crate) struct NeighbourProber {
    arp: PacketSocket,
    discovery: PacketSocket,
}

impl NeighbourProber {
    /// Opens the sockets.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub(crate) fn open() -> io::Result<Self> {
        let (arp, discovery) = (PacketSocket::open()?, PacketSocket::open()?);
        let mut replies = [
            op(LOAD_HALF, 0, 0, 20),
            op(EQUAL, 0, 1, u32::from(ARP_REPLY)),
            op(END, 0, 0, u32::MAX),
            op(END, 0, 0, 0),
        ];
        attach(&arp.0, (0, ETH_P_IP_ARP), &mut replies)?;
        let mut advertisements = [
            op(LOAD_BYTE, 0, 0, 20),
            op(EQUAL, 0, 3, u32::from(ICMPV6)),
            op(LOAD_BYTE, 0, 0, 54),
            op(EQUAL, 0, 1, u32::from(NEIGHBOUR_ADVERTISEMENT)),
            op(END, 0, 0, u32::MAX),
            op(END, 0, 0, 0),
        ];
        attach(&discovery.0, (0, ETH_P_IPV6), &mut advertisements)?;
        Ok(Self { arp, discovery })
    }

    /// The descriptors to poll for input: [`Self::replies`] has something to read then.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.arp.as_fd(), self.discovery.as_fd()]
    }

    /// Sends a request. Nothing is sent if the port has no address that neighbour discovery could use.
    ///
    /// # Errors
    /// If the port can't send.
    pub(crate) fn send(&self, probe: &Probe) -> io::Result<()> {
        match request(probe) {
            Some(frame) => send(&self.arp.0, probe.link, &frame),
            None => Ok(()),
        }
    }

    /// The replies that have come in.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn replies(&self) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        for wire in [&self.arp, &self.discovery] {
            for _ in 0..FRAMES {
                match receive_from(&wire.0) {
                    Ok((frame, length, link)) => replies.extend(reply_in(&frame[..length], link)),
                    Err(Errno::EAGAIN) => break,
                    // An interface went down; there may be more to read.
                    Err(Errno::EINTR | Errno::ENETDOWN) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(replies)
    }
}

/// The next frame, its length, and the index of the interface that it came in by. A frame longer than [`FRAME`] is cut
/// off, and not believed then.
fn receive_from(socket: &OwnedFd) -> Result<([u8; FRAME], usize, u32), Errno> {
    let mut frame = [0; FRAME];
    let mut into = [IoSliceMut::new(&mut frame)];
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let received = recvmsg::<LinkAddr>(fd, &mut into, None, flags)?;
    let (length, from) = (received.bytes, received.address);
    // The kernel gives an interface with every frame; no interface has the index 0.
    let link = from.map_or(0, |from| from.ifindex() as u32);
    Ok((frame, length, link))
}
