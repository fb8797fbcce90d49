//! Connections from ports that only root may send from, as the kernel's NFS client makes them: a server that believes
//! a client who its users are takes no others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect as begin, sockopt};

/// Those that bindresvport(3) takes.
const PORTS: RangeInclusive<u16> = 600..=1023;

/// Connects within `limit`, from the first of these ports that is free.
///
/// # Errors
/// If nobody is there, or none of these ports is free.
pub fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    for port in PORTS {
        match attempt(SocketAddr::new(any, port), address, limit) {
            Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => {}
            other => return Ok(other?),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn attempt(own: SocketAddr, peer: SocketAddr, limit: Duration) -> rustix::io::Result<TcpStream> {
    let family = match peer {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A port is not lost for a minute because a connection from it has been closed.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &own)?;
    match begin(&socket, &peer) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            let limit = Timespec::try_from(limit).map_err(|_| Errno::INVAL)?;
            let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
            match poll(&mut fds, Some(&limit)) {
                Ok(0) => return Err(Errno::TIMEDOUT),
                other => other?,
            };
            sockopt::socket_error(&socket)??;
        }
        Err(e) => return Err(e),
    }
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(TcpStream::from(socket))
}
