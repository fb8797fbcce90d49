//! The netlink transport: requests with their acknowledgements, dumps and batches, for any netlink protocol. It does
//! not know what the messages mean.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::sys::message;

const HEADER: usize = 16;
// A header has these in 16 bits.
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
const NLM_F_DUMP_INTR: u16 = libc::NLM_F_DUMP_INTR as u16;
const NLM_F_ACK_TLVS: u16 = libc::NLM_F_ACK_TLVS as u16;
/// From linux/netlink.h: libc does not have it.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// How long an answer is waited for. The kernel answers while `send` runs, so this only guards against waiting for
/// ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a datagram: the kernel makes those of a dump 32 KiB at most, and others are answers about a single
/// object.
const DATAGRAM_LIMIT: usize = 64 << 10;
/// How often a dump is repeated if something has changed while it was read.
const DUMP_ATTEMPTS: usize = 16;
/// The most bytes that are kept of one dump: far more than berth asks for, since it filters in the kernel.
const DUMP_LIMIT: usize = 64 << 20;

/// The kernel's refusal of a request.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The error number.
    pub(crate) errno: Errno,
    /// The kernel's reason in words, if it gave one.
    reason: Option<String>,
}

impl Refusal {
    /// The refusal as an error that names what was tried.
    pub(crate) fn of(self, what: impl fmt::Display) -> io::Error {
        let error = io::Error::from(self.errno);
        let said = match self.reason {
            Some(reason) => format!("{} ({reason})", self.errno.desc()),
            None => self.errno.desc().to_owned(),
        };
        io::Error::new(error.kind(), format!("{what}: {said}"))
    }
}

/// A received message: its type and what follows its header.
#[derive(Debug)]
pub(crate) struct Message {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// The payload, without padding.
    pub(crate) payload: Vec<u8>,
}

/// A message to send.
#[derive(Debug)]
pub(crate) struct Request {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// `NLM_F_CREATE` and the like; `NLM_F_REQUEST` is added.
    pub(crate) flags: u16,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

/// A netlink socket.
pub(crate) struct Transport {
    socket: Socket,
    sequence: u32,
    /// The datagram that was last received.
    datagram: Vec<u8>,
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Transport {
    /// Opens a socket for `protocol` in the current network namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        Self::prepare(protocol).map_err(|e| message(e, "open a netlink socket"))
    }

    fn prepare(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            datagram: Vec::with_capacity(DATAGRAM_LIMIT),
        })
    }

    /// Makes the kernel check requests for dumps strictly, which also makes it filter what it dumps.
    pub(crate) fn set_strict(&self) -> io::Result<()> {
        self.socket
            .set_netlink_get_strict_chk(true)
            .map_err(|e| message(e, "ask netlink for strict checks"))
    }

    /// Sends one request and waits for the kernel's acknowledgement or refusal.
    pub(crate) fn request(&mut self, request: &Request) -> io::Result<Result<(), Refusal>> {
        let mut bytes = Vec::new();
        let sequence = self.append(&mut bytes, request, NLM_F_ACK);
        self.send(&bytes)?;
        self.answer(sequence, sequence)
    }

    /// Sends `requests` as one datagram between `begin` and `end`, which makes a transaction of them: if the kernel
    /// refuses one of them, it carries out none. The refusal comes with the position of the request.
    pub(crate) fn batch(
        &mut self,
        begin: &Request,
        requests: &[Request],
        end: &Request,
    ) -> io::Result<Result<(), (usize, Refusal)>> {
        let Some((last, others)) = requests.split_last() else {
            return Ok(Ok(()));
        };
        let mut bytes = Vec::new();
        let first = self.append(&mut bytes, begin, 0);
        for request in others {
            self.append(&mut bytes, request, 0);
        }
        // Refusals are always reported; the acknowledgement of `end` shows that all of them are here.
        let until = self.append(&mut bytes, last, NLM_F_ACK);
        self.append(&mut bytes, end, 0);
        self.send(&bytes)?;
        let mut refused = None;
        loop {
            let (sequence, result) = self.acknowledgement(first, until)?;
            let position = (sequence.wrapping_sub(first) as usize).saturating_sub(1);
            if let Err(refusal) = result {
                refused.get_or_insert((position, refusal));
            }
            // A refusal of `begin` or `end` itself: no request was looked at, or all failed together.
            if sequence == until || (sequence == first && refused.is_some()) {
                return Ok(refused.map_or(Ok(()), Err));
            }
        }
    }

    /// The messages of a dump, which is repeated if something has changed while it was read.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        payload: Vec<u8>,
    ) -> io::Result<Result<Vec<Message>, Refusal>> {
        let request = Request {
            kind,
            flags: 0,
            payload,
        };
        for _ in 0..DUMP_ATTEMPTS {
            let mut bytes = Vec::new();
            let sequence = self.append(&mut bytes, &request, NLM_F_DUMP);
            self.send(&bytes)?;
            match self.dumped(sequence)? {
                Ok(Some(messages)) => return Ok(Ok(messages)),
                Ok(None) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Err(io::Error::other(format!(
            "the kernel's state changed during each of {DUMP_ATTEMPTS} readings"
        )))
    }

    /// The messages of one dump; `None` if something has changed meanwhile or messages were lost.
    fn dumped(&mut self, sequence: u32) -> io::Result<Result<Option<Vec<Message>>, Refusal>> {
        let mut messages = Vec::new();
        let (mut size, mut whole) = (0, true);
        loop {
            match self.receive() {
                Ok(()) => {}
                // Part of the dump did not fit into the socket's buffer; the rest still has to be read.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    whole = false;
                    continue;
                }
                Err(e) => return Err(e),
            }
            for part in Parts(&self.datagram) {
                let part = part?;
                if part.sequence != sequence {
                    continue;
                }
                whole &= part.flags & NLM_F_DUMP_INTR == 0;
                match part.kind {
                    NLMSG_ERROR => {
                        return Ok(part.verdict()?.map(|()| Some(Vec::new())));
                    }
                    NLMSG_DONE => return Ok(part.verdict()?.map(|()| whole.then_some(messages))),
                    kind => {
                        size += part.payload.len();
                        if size > DUMP_LIMIT {
                            return Err(io::Error::other("the kernel's answer is too long"));
                        }
                        messages.push(Message {
                            kind,
                            payload: part.payload.to_vec(),
                        });
                    }
                }
            }
        }
    }

    /// Sends a request that is answered by at most one message rather than by an acknowledgement.
    pub(crate) fn query(
        &mut self,
        request: &Request,
    ) -> io::Result<Result<Option<Message>, Refusal>> {
        let mut bytes = Vec::new();
        let sequence = self.append(&mut bytes, request, NLM_F_ACK);
        self.send(&bytes)?;
        let mut found = None;
        loop {
            self.receive()?;
            for part in Parts(&self.datagram) {
                let part = part?;
                if part.sequence != sequence {
                    continue;
                }
                if part.kind == NLMSG_ERROR {
                    return Ok(part.verdict()?.map(|()| found));
                }
                found = Some(Message {
                    kind: part.kind,
                    payload: part.payload.to_vec(),
                });
            }
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, request: &Request, flags: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + request.payload.len();
        // Lengths are of messages made here, a few hundred bytes each.
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&request.kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | request.flags | flags).to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&request.payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(n) if n == bytes.len() => return Ok(()),
                Ok(n) => {
                    let error = format!("netlink took {n} of {} bytes", bytes.len());
                    return Err(io::Error::other(error));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(message(e, "send to netlink")),
            }
        }
    }

    fn answer(&mut self, first: u32, last: u32) -> io::Result<Result<(), Refusal>> {
        Ok(self.acknowledgement(first, last)?.1)
    }

    /// The next acknowledgement of a request numbered `first..=last`; older ones are skipped.
    fn acknowledgement(&mut self, first: u32, last: u32) -> io::Result<(u32, Result<(), Refusal>)> {
        loop {
            self.receive()?;
            // The kernel sends each acknowledgement as a datagram of its own.
            if let Some(part) = Parts(&self.datagram).next() {
                let part = part?;
                let ours = part.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                if part.kind == NLMSG_ERROR && ours {
                    return Ok((part.sequence, part.verdict()?));
                }
            }
        }
    }

    /// Reads one datagram from the kernel.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.datagram.clear();
            match self.socket.recv_from(&mut self.datagram, libc::MSG_TRUNC) {
                // Any process may send to a netlink socket; only the kernel is asked here.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                // The length is that of the whole datagram, even if it did not fit.
                Ok((length, _)) if length > self.datagram.len() => {
                    let error = format!("an answer of {length} bytes from netlink is too long");
                    return Err(io::Error::other(error));
                }
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let error = format!("no answer from netlink within {} s", PATIENCE.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, error));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// The messages of a datagram.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

/// One message of a datagram.
pub(crate) struct Part<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = io::Result<Part<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = Part::read(self.0);
        self.0 = match &part {
            Some(p) => {
                &self.0[(HEADER + p.payload.len())
                    .next_multiple_of(4)
                    .min(self.0.len())..]
            }
            None => &[],
        };
        Some(part.ok_or_else(malformed))
    }
}

impl<'a> Part<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            kind: half(4)?,
            flags: half(6)?,
            sequence: u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
            payload: bytes.get(HEADER..length)?,
        })
    }

    /// The verdict in a message `NLMSG_ERROR` or `NLMSG_DONE`.
    fn verdict(&self) -> io::Result<Result<(), Refusal>> {
        let Some(code) = self.payload.first_chunk() else {
            // NLMSG_DONE without a code is allowed.
            return Ok(Ok(()));
        };
        let code = i32::from_ne_bytes(*code);
        if code >= 0 {
            return Ok(Ok(()));
        }
        let attributes = match self.kind {
            NLMSG_ERROR => self.payload.get(4 + HEADER..),
            _ => self.payload.get(4..),
        };
        let reason = attributes
            .filter(|_| self.flags & NLM_F_ACK_TLVS != 0)
            .and_then(|bytes| Attributes(bytes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG))
            .map(|(_, text)| text_of(text));
        Ok(Err(Refusal {
            errno: Errno::from_raw(-code),
            reason,
        }))
    }
}

/// The attributes in a payload: their types, without the flags, and their values. Ends at the first malformed
/// attribute.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// A string attribute, with or without the zero at its end.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(crate) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer from netlink")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_is_split_into_its_messages() {
        let mut bytes = part(16, 0, b"abc");
        bytes.extend(part(17, 2, b""));
        let seen: Vec<_> = Parts(&bytes)
            .map(|p| p.map(|p| (p.kind, p.payload.to_vec())).unwrap())
            .collect();
        assert_eq!(seen, [(16, b"abc".to_vec()), (17, vec![])]);
    }

    #[test]
    fn a_message_longer_than_its_datagram_is_malformed() {
        let mut bytes = part(16, 0, b"abcd");
        bytes.truncate(18);
        assert!(Parts(&bytes).next().unwrap().is_err());
        assert!(Parts(&[1, 2]).next().unwrap().is_err());
    }

    #[test]
    fn the_kernels_own_words_are_part_of_the_error() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend(9u16.to_ne_bytes());
        payload.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        payload.extend(b"why?\0\0\0\0");
        let bytes = part(NLMSG_ERROR, NLM_F_ACK_TLVS, &payload);
        let verdict = Parts(&bytes).next().unwrap().unwrap().verdict().unwrap();
        let error = verdict.unwrap_err().of("add x");
        assert_eq!(error.to_string(), "add x: Invalid argument (why?)");
    }

    #[test]
    fn attributes_end_at_the_first_malformed_one() {
        let bytes = [5, 0, 1, 0, b'x', 0, 0, 0, 200, 0, 2, 0];
        assert_eq!(Attributes(&bytes).collect::<Vec<_>>(), [(1, &b"x"[..])]);
    }
}
