//! Asks a file server, in its own protocol, whether it serves at all (an NFS NULL call, an SMB negotiation), and
//! whether it serves what it is to (a walk to an export, a connection to a share).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sys::reserved_port;

mod nfs;
mod smb;

/// The most bytes of an answer to a probe, which has some hundred.
const ANSWER_LIMIT: usize = 64 << 10;

/// A protocol that can be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// NFS version 4.
    Nfs,
    /// SMB version 2 or 3.
    Smb,
}

impl Protocol {
    /// The TCP port it is served on.
    pub const fn port(self) -> u16 {
        match self {
            Self::Nfs => 2049,
            Self::Smb => 445,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Nfs => "NFS",
            Self::Smb => "SMB",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Asks the server at the other end of `stream` whether it serves.
///
/// # Errors
/// `TimedOut` if no answer came before `deadline`; `InvalidData`, with what is wrong, if it is not the answer
/// of a working server; or any error of the connection. All name the protocol.
pub fn ask(protocol: Protocol, stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let mut peer = Peer { stream, deadline };
    let answered = match protocol {
        Protocol::Nfs => nfs::ask(&mut peer),
        Protocol::Smb => smb::ask(&mut peer),
    };
    answered.map_err(|e| named(protocol, e))
}

/// Connects to the server at `address` and asks it whether it serves.
///
/// # Errors
/// As [`ask`]; that of the connection.
pub fn ask_at(protocol: Protocol, address: SocketAddr, deadline: Instant) -> io::Result<()> {
    ask(protocol, &connect(protocol, address, deadline)?, deadline)
}

/// A connection on which a server is asked for one export or share after the other: each new connection costs Samba a
/// process.
#[derive(Debug)]
pub(crate) struct Inquiry {
    stream: TcpStream,
    progress: Progress,
}

/// How far an inquiry has come.
#[derive(Debug)]
enum Progress {
    /// The number of the last RPC call.
    Nfs(u32),
    /// The SMB session; `None` if the server can't be asked for shares.
    Smb(Option<smb::Session>),
}

impl Inquiry {
    /// Connects to the server at `address`. The asker must be in the server's cell: see [`super::service`].
    ///
    /// # Errors
    /// As [`ask_at`].
    pub(crate) fn begin(
        protocol: Protocol,
        address: SocketAddr,
        deadline: Instant,
    ) -> io::Result<Self> {
        // An export may require privileged ports, even from within the cell.
        let stream = match protocol {
            Protocol::Nfs => connected(
                protocol,
                address,
                reserved_port::connect(address, left(deadline)?),
            )?,
            Protocol::Smb => connect(protocol, address, deadline)?,
        };
        let mut peer = Peer {
            stream: &stream,
            deadline,
        };
        let progress = match protocol {
            Protocol::Nfs => Progress::Nfs(nfs::first_number()),
            Protocol::Smb => Progress::Smb(smb::open(&mut peer).map_err(|e| named(protocol, e))?),
        };
        Ok(Self { stream, progress })
    }

    /// Asks for `what` the server is to serve: the directory of an export, the name of a share. A server that lets
    /// nobody ask counts as one that serves it.
    ///
    /// # Errors
    /// `NotFound` if the server says that it does not serve `what`. Any other error says nothing of that, and
    /// the server is to be asked again: `ResourceBusy` if it is too busy, else as [`ask`].
    pub(crate) fn find(&mut self, what: &str, deadline: Instant) -> io::Result<()> {
        let peer = &mut Peer {
            stream: &self.stream,
            deadline,
        };
        match &mut self.progress {
            Progress::Nfs(number) => {
                *number = number.wrapping_add(1);
                nfs::find(peer, *number, what).map_err(|e| named(Protocol::Nfs, e))
            }
            Progress::Smb(Some(session)) => session
                .find(peer, what)
                .map_err(|e| named(Protocol::Smb, e)),
            Progress::Smb(None) => Ok(()),
        }
    }
}

fn connect(protocol: Protocol, address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let limit = left(deadline)?;
    let stream = TcpStream::connect_timeout(&address, limit);
    connected(protocol, address, stream)
}

fn connected(
    protocol: Protocol,
    address: SocketAddr,
    stream: io::Result<TcpStream>,
) -> io::Result<TcpStream> {
    stream.map_err(|e| io::Error::new(e.kind(), format!("{protocol}: connect to {address}: {e}")))
}

fn named(protocol: Protocol, e: io::Error) -> io::Error {
    let kind = match e.kind() {
        // A socket's time-out is reported as this error.
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut,
        kind => kind,
    };
    match kind {
        io::ErrorKind::TimedOut => io::Error::new(kind, format!("{protocol}: no answer")),
        _ => io::Error::new(kind, format!("{protocol}: {e}")),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// A connection on which each step waits only until the deadline.
struct Peer<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads exactly `len` bytes, if that is no more than an answer can have.
fn read_bounded(peer: &mut impl Read, len: usize) -> io::Result<Vec<u8>> {
    if len > ANSWER_LIMIT {
        return Err(wrong(format!("an answer of {len} bytes")));
    }
    let mut data = vec![0; len];
    peer.read_exact(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests;
