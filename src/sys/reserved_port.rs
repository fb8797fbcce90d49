//! Connections from privileged ports, by which NFS servers tell a client's kernel from its users.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::poll;

/// The ports that bindresvport(3) uses: those below belong to other services.
const PORTS: RangeInclusive<u16> = 600..=1023;

/// Connects from such a port; from any other one if none is free, or this process has no right to use them.
///
/// # Errors
/// As [`TcpStream::connect_timeout`].
pub(crate) fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Begins at a port where other processes hardly begin, too, so that few ports are tried in vain.
    let count = PORTS.end() - PORTS.start() + 1;
    let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
    for at in 0..count {
        let port = PORTS.start() + (first + at) % count;
        match attempt(SocketAddr::new(any, port), address, deadline) {
            Ok(stream) => return Ok(stream),
            Err(e) => match e.raw_os_error() {
                // The port is in use, or was lately used for a connection to the same address.
                Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL) => {}
                Some(libc::EACCES | libc::EPERM) => break,
                _ => return Err(e),
            },
        }
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    TcpStream::connect_timeout(&address, left)
}

fn attempt(own: SocketAddr, peer: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let family = match peer {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Otherwise a port could not be used again for a minute after its connection was closed.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &own)?;
    match rustix::net::connect(&socket, &peer) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => await_connection(&socket, deadline)?,
        Err(e) => return Err(e.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn await_connection(socket: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let waited = poll::wait(
        &mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)],
        deadline,
    );
    waited.map_err(|e| match e.kind() {
        // The same error as the kernel's, when its own limit is shorter.
        io::ErrorKind::TimedOut => Errno::TIMEDOUT.into(),
        _ => e,
    })?;
    Ok(sockopt::socket_error(socket)??)
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
    fn a_connection_that_nobody_takes_is_waited_for_up_to_the_deadline() {
        let loopback = (AddressFamily::INET, SocketType::STREAM);
        let server = rustix::net::socket(loopback.0, loopback.1, None).unwrap();
        rustix::net::bind(&server, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&server).unwrap()).unwrap();
        // The queue has room for one: the kernel drops what comes after that.
        let _first = TcpStream::connect(address).unwrap();
        let (begun, limit) = (Instant::now(), Duration::from_millis(50));
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let error = attempt(any, address, begun + limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= limit);
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
