//! Connections from ports that only root may send from, which is what NFS servers tell a client's kernel from its
//! users by.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as begin, getsockopt,
    setsockopt, socket, sockopt,
};

/// Those that bindresvport(3) takes: below are services of other kinds.
const PORTS: RangeInclusive<u16> = 600..=1023;

/// Connects from such a port; from any where there is none to be had, or this process has no right to any.
///
/// # Errors
/// As [`TcpStream::connect_timeout`].
pub fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Begun where others hardly begin, too, so that few are tried in vain.
    let count = PORTS.end() - PORTS.start() + 1;
    let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
    for at in 0..count {
        let port = PORTS.start() + (first + at) % count;
        match attempt(SocketAddr::new(any, port), address, deadline) {
            // In use; or lately used for a connection to the same place.
            Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) => {}
            Err(Errno::EACCES | Errno::EPERM) => break,
            Err(e) => return Err(e.into()),
            Ok(stream) => return Ok(stream),
        }
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    TcpStream::connect_timeout(&address, left)
}

fn attempt(own: SocketAddr, peer: SocketAddr, deadline: Instant) -> Result<TcpStream, Errno> {
    let family = match peer {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // A port is not lost for a minute because a connection from it has been closed.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
    match begin(socket.as_raw_fd(), &SockaddrStorage::from(peer)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => await_connection(&socket, deadline)?,
        Err(e) => return Err(e),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).map_err(|e| {
        e.raw_os_error()
            .map_or(Errno::UnknownErrno, Errno::from_raw)
    })?;
    Ok(stream)
}

fn await_connection(socket: &OwnedFd, deadline: Instant) -> Result<(), Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let timeout = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                return match getsockopt(socket, sockopt::SocketError)? {
                    0 => Ok(()),
                    error => Err(Errno::from_raw(error)),
                };
            }
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn connections_to_one_server_come_from_privileged_ports_again_and_again() {
        let limit = Duration::from_secs(20);
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..3 {
                let mut client = connect(address, limit).unwrap();
                let (mut server, peer) = listener.accept().unwrap();
                assert!(PORTS.contains(&peer.port()), "{peer}");
                server.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
                // Who closes first keeps the port for a while.
                drop(client);
                assert_eq!(server.read(&mut [0]).unwrap(), 0);
            }
        }
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(address, Duration::from_secs(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
