//! What passes on a machine's ports below IP: link events, frames received, and frames forged.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::control::Lab;
use crate::error::{Context, Result};

const ETH_P_ALL: u16 = 3;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ARP_REPLY: u16 = 2;
/// Everybody on a network.
pub const BROADCAST: Mac = [0xff; 6];
/// How often a listener looks whether it is to end.
static PATIENCE: libc::timeval = libc::timeval {
    tv_sec: 0,
    tv_usec: 50_000,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The Ethernet address that is written `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Option<Mac> {
    let bytes: Vec<u8> = text
        .trim()
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// Notes things with the time at which they were heard, until it is dropped.
#[derive(Debug)]
pub struct Listener<T> {
    heard: Arc<Mutex<Vec<(Instant, T)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Clone + Send + 'static> Listener<T> {
    fn start(socket: OwnedFd, parse: impl Fn(&[u8]) -> Vec<T> + Send + 'static) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (sink, end) = (Arc::clone(&heard), Arc::clone(&stop));
        let listen = move || {
            let mut buffer = vec![0; 1 << 15];
            while !end.load(Ordering::SeqCst) {
                // A time-out, or more than could be kept: whoever waits for it will miss it.
                let Ok(length) = receive(&socket, &mut buffer) else {
                    continue;
                };
                let now = Instant::now();
                let parsed = parse(&buffer[..length]).into_iter().map(|t| (now, t));
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                sink.extend(parsed);
            }
        };
        Self {
            heard,
            stop,
            thread: Some(thread::spawn(listen)),
        }
    }

    /// What was heard since `since`.
    pub fn since(&self, since: Instant) -> Vec<(Instant, T)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let late = heard.iter().filter(|(at, _)| *at >= since);
        late.cloned().collect()
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A change of an interface, as the kernel tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// Its name.
    pub name: String,
    /// Whether it has carrier.
    pub carrier: bool,
}

/// Listens to the link events of a machine.
///
/// # Errors
/// If the machine has no power.
pub fn link_events(lab: &Lab, machine: &str) -> Result<Listener<LinkEvent>> {
    let socket = lab.on_network_of(machine, || {
        let socket = open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: all zeros is a value of this plain structure of integers.
        let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        bind(&socket, &address)?;
        Ok::<_, io::Error>(socket)
    })?;
    let socket = socket.context(format_args!("{machine}: listen to link events"))?;
    Ok(Listener::start(socket, parse_links))
}

/// Listens to the ARP frames that a machine's port receives: the sender's address, as it names it.
///
/// # Errors
/// If there is no such port.
pub fn arp_senders(lab: &Lab, machine: &str, port: &str) -> Result<Listener<(Ipv4Addr, Mac)>> {
    let socket = lab.on_network_of(machine, || packet_socket(port, ETH_P_ARP))?;
    let (socket, _) = socket.context(format_args!("{machine}: listen at {port}"))?;
    Ok(Listener::start(socket, |frame| {
        sender(frame).into_iter().collect()
    }))
}

/// Sends an ARP reply out of a machine's port: that `ip` is at `from`, told to `to`.
///
/// # Errors
/// If it can't be sent.
pub fn send_arp_reply(
    lab: &Lab,
    (machine, port): (&str, &str),
    (ip, from): (Ipv4Addr, Mac),
    (to_ip, to): (Ipv4Addr, Mac),
) -> Result<()> {
    let frame = reply((ip, from), (to_ip, to));
    lab.on_network_of(machine, || {
        let (socket, address) = packet_socket(port, 0)?;
        send(&socket, &address, &frame)
    })?
    .context(format_args!("{machine}: send ARP through {port}"))
}

/// Listens to the datagrams that a machine's port receives and sends: their sources and destinations.
///
/// # Errors
/// If there is no such port.
pub fn datagrams(
    lab: &Lab,
    machine: &str,
    port: &str,
) -> Result<Listener<(SocketAddr, SocketAddr)>> {
    let socket = lab.on_network_of(machine, || packet_socket(port, ETH_P_ALL))?;
    let (socket, _) = socket.context(format_args!("{machine}: listen at {port}"))?;
    Ok(Listener::start(socket, |frame| {
        datagram_ends(frame).into_iter().collect()
    }))
}

/// Sends a datagram out of a machine's port in the name of anybody: between these Ethernet addresses, and
/// between these sockets.
///
/// # Errors
/// If it can't be sent.
pub fn send_datagram(
    lab: &Lab,
    (machine, port): (&str, &str),
    macs: (Mac, Mac),
    ends: (SocketAddr, SocketAddr),
    text: &[u8],
) -> Result<()> {
    let frame = datagram(macs, ends, text);
    lab.on_network_of(machine, || {
        let (socket, address) = packet_socket(port, 0)?;
        send(&socket, &address, &frame)
    })?
    .context(format_args!("{machine}: send a datagram through {port}"))
}

fn datagram(
    (from, to): (Mac, Mac),
    (source, target): (SocketAddr, SocketAddr),
    text: &[u8],
) -> Vec<u8> {
    let length = (8 + text.len()) as u16;
    let mut udp = [source.port(), target.port(), length, 0]
        .map(u16::to_be_bytes)
        .concat();
    udp.extend(text);
    let mut frame = [to, from].concat();
    match (source.ip(), target.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            frame.extend(ETH_P_IP.to_be_bytes());
            let mut head = vec![0x45, 0];
            head.extend((20 + length).to_be_bytes());
            // No fragments; 64 hops.
            head.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
            head.extend(source.octets());
            head.extend(target.octets());
            let sum = checksum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(head);
        }
        (source, target) => {
            frame.extend(ETH_P_IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([UDP, 64]);
            let [source, target] = [source, target].map(|ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            });
            let mut summed = [source, target].concat();
            summed.extend([0, 0]);
            summed.extend(length.to_be_bytes());
            summed.extend([0, 0, 0, UDP]);
            summed.extend(&udp);
            let sum = checksum(&summed);
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            frame.extend([source, target].concat());
        }
    }
    frame.extend(udp);
    frame
}

/// The checksum of IP and its neighbours.
fn checksum(bytes: &[u8]) -> u16 {
    let byte = |pair: &[u8], at: usize| u32::from(pair.get(at).copied().unwrap_or(0));
    let word = |pair: &[u8]| (byte(pair, 0) << 8) | byte(pair, 1);
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn datagram_ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let (source, target, protocol, udp): (IpAddr, IpAddr, u8, &[u8]) = match kind {
        ETH_P_IP => {
            let address =
                |at: usize| -> Option<[u8; 4]> { packet.get(at..at + 4)?.try_into().ok() };
            let length = usize::from(packet.first()? & 0xf) * 4;
            let (source, target) = (address(12)?.into(), address(16)?.into());
            (source, target, *packet.get(9)?, packet.get(length..)?)
        }
        ETH_P_IPV6 => {
            let address =
                |at: usize| -> Option<[u8; 16]> { packet.get(at..at + 16)?.try_into().ok() };
            let (source, target) = (address(8)?.into(), address(24)?.into());
            (source, target, *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?))
    };
    let ends = ((source, port(0)?).into(), (target, port(2)?).into());
    (protocol == UDP).then_some(ends)
}

fn reply((ip, from): (Ipv4Addr, Mac), (to_ip, to): (Ipv4Addr, Mac)) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.extend(ETH_P_ARP.to_be_bytes());
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(ARP_REPLY.to_be_bytes());
    frame.extend(from);
    frame.extend(ip.octets());
    frame.extend(to);
    frame.extend(to_ip.octets());
    frame
}

fn sender(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let mac: Mac = frame.get(22..28)?.try_into().ok()?;
    let ip: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    Some((ip.into(), mac))
}

/// The links in a datagram of `RTM_NEWLINK` messages.
fn parse_links(mut datagram: &[u8]) -> Vec<LinkEvent> {
    let mut events = Vec::new();
    while let Some((length, kind)) = head(datagram) {
        let end = length.min(datagram.len());
        let message = &datagram[..end];
        if kind == libc::RTM_NEWLINK {
            events.extend(parse_link(message));
        }
        datagram = &datagram[end.next_multiple_of(4).min(datagram.len())..];
    }
    events
}

fn parse_link(message: &[u8]) -> Option<LinkEvent> {
    // struct nlmsghdr, 16 bytes, and struct ifinfomsg, 16 bytes with the flags in the third four.
    let flags = word(message, 24)?;
    let name = attribute(message.get(32..)?, libc::IFLA_IFNAME)?;
    Some(LinkEvent {
        name: String::from_utf8_lossy(name)
            .trim_end_matches('\0')
            .to_owned(),
        carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn head(message: &[u8]) -> Option<(usize, u16)> {
    let length = usize::try_from(word(message, 0)?).ok()?;
    Some((length.max(16), half(message, 4)?))
}

fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(attributes, 0)?).max(4);
        if half(attributes, 2)? == kind {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn open(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket takes integers and returns a descriptor or -1.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the value is valid for the length given, and only read.
    check(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const PATIENCE).cast(),
            mem::size_of_val(&PATIENCE) as libc::socklen_t,
        )
    })?;
    Ok(socket)
}

/// A packet socket at a port, which receives one protocol, or nothing.
fn packet_socket(port: &str, protocol: u16) -> io::Result<(OwnedFd, libc::sockaddr_ll)> {
    let name = std::ffi::CString::new(port)?;
    // SAFETY: the name ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = open(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    // SAFETY: all zeros is a value of this plain structure of integers.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    if protocol != 0 {
        bind(&socket, &address)?;
    }
    Ok((socket, address))
}

fn bind<A>(socket: &OwnedFd, address: &A) -> io::Result<()> {
    let length = mem::size_of::<A>() as libc::socklen_t;
    // SAFETY: the address is valid for the length given, and only read.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const *address).cast(), length) })
}

fn send(socket: &OwnedFd, address: &libc::sockaddr_ll, frame: &[u8]) -> io::Result<()> {
    // SAFETY: buffer and address are valid for the lengths given, and only read.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const *address).cast(),
            mem::size_of_val(address) as libc::socklen_t,
        )
    };
    check(sent.min(0) as i32)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for the length given.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
        )
    };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

fn check(result: i32) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for `listener` to hear something that `wanted` knows; when that was.
///
/// # Errors
/// If it does not within `limit`.
pub fn wait_to_hear<T: Clone + Send + std::fmt::Debug + 'static>(
    listener: &Listener<T>,
    since: Instant,
    limit: Duration,
    wanted: impl Fn(&T) -> bool,
) -> Result<Instant> {
    crate::wait::wait_for("an event", limit, || {
        let heard = listener.since(since);
        let found = heard.iter().find(|(_, what)| wanted(what));
        found
            .map(|(at, _)| *at)
            .ok_or_else(|| format!("{:?}", heard.last().map(|(_, what)| what)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_its_sender() {
        let from = mac("02:00:00:00:00:01").unwrap();
        let ip = Ipv4Addr::new(10, 1, 0, 254);
        let frame = reply((ip, from), (Ipv4Addr::UNSPECIFIED, BROADCAST));
        assert_eq!((frame.len(), sender(&frame)), (42, Some((ip, from))));
        assert_eq!(sender(&frame[..30]), None);
        assert_eq!((mac("02:00"), mac("x")), (None, None));
    }

    #[test]
    fn a_datagram_names_its_ends() {
        for (source, target, length) in [
            ("10.1.0.50:7", "10.1.0.101:8", 44),
            ("[fd00:1::50]:7", "[fd00:1::101]:8", 64),
        ] {
            let ends = (source.parse().unwrap(), target.parse().unwrap());
            let frame = datagram((BROADCAST, BROADCAST), ends, b"x?");
            assert_eq!((frame.len(), datagram_ends(&frame)), (length, Some(ends)));
        }
        let head = datagram(
            (BROADCAST, BROADCAST),
            (([10, 1, 0, 50], 7).into(), ([10, 1, 0, 101], 8).into()),
            b"",
        );
        assert_eq!(checksum(&head[14..34]), 0, "of what has one");
    }

    #[test]
    fn link_events_are_read_from_the_kernels_messages() {
        let mut message = vec![0; 32];
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        message[24..28].copy_from_slice(&(libc::IFF_LOWER_UP as u32).to_ne_bytes());
        message.extend([9, 0, 3, 0]);
        message.extend(b"eth1\0\0\0\0");
        message[..4].copy_from_slice(&44_u32.to_ne_bytes());
        let down = [&message[..24], &[0; 4], &message[28..]].concat();
        let event = |carrier| LinkEvent {
            name: "eth1".to_owned(),
            carrier,
        };
        let both = [message, down].concat();
        assert_eq!(parse_links(&both), [event(true), event(false)]);
        assert_eq!(parse_links(&both[..20]), []);
    }
}
