//! One JSON message per packet over a UNIX sequenced-packet socket, each with at most one file
//! descriptor. Between agent and keeper, keeper and PID 1, keeper and its jobs.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use crate::sys::poll::wait_readable;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message, in bytes: a larger one is refused by the sender and by the receiver.
pub(crate) const MESSAGE_LIMIT: usize = 1 << 20;

/// One end of a connection. It never blocks except in [`Channel::wait`].
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The result of receiving.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A message, and the descriptor that came with it.
    Message(T, Option<OwnedFd>),
    /// Nothing for now.
    Nothing,
    /// The other end is closed and will never send again.
    Closed,
}

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?;
        Ok((Self::new(a)?, Self::new(b)?))
    }

    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// `NotFound` if there is no socket, `ConnectionRefused` if nobody listens on it.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::new(socket)
    }

    /// Wraps a connected, non-blocking socket.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        // Room for the largest message; all who use this are root.
        rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, 2 * MESSAGE_LIMIT)?;
        Ok(Self(socket))
    }

    /// Another descriptor of the same end.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Process and user at the other end, as they were when the connection was made.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn peer(&self) -> io::Result<(i32, u32)> {
        let peer = rustix::net::sockopt::socket_peercred(&self.0)?;
        Ok((peer.pid.as_raw_nonzero().get(), peer.uid.as_raw()))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `WouldBlock` if the receiver is not keeping up, `BrokenPipe` if it is gone, `InvalidInput` if
    /// the message is too large.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MESSAGE_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {} bytes is too large", text.len()),
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, flags)?;
        Ok(())
    }

    /// Receives one message if there is one.
    ///
    /// # Errors
    /// `InvalidData` for what is not a message; the connection is of no further use then.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Received<T>> {
        let Some(length) = self.pending()? else {
            return Ok(Received::Nothing);
        };
        if length == 0 {
            return Ok(Received::Closed);
        }
        if length > MESSAGE_LIMIT {
            return Err(invalid(format!("a message of {length} bytes is too large")));
        }
        let mut text = vec![0; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut text)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(&self.0, &mut slices, &mut control, flags)?.bytes;
        let fd = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .next();
        let message = serde_json::from_slice(&text[..got])
            .map_err(|e| invalid(format!("not a message of berth: {e}")))?;
        Ok(Received::Message(message, fd))
    }

    /// Length of the next message; zero if the other end is closed.
    fn pending(&self) -> io::Result<Option<usize>> {
        let mut none: [u8; 0] = [];
        loop {
            match rustix::net::recv(&self.0, &mut none[..], RecvFlags::PEEK | RecvFlags::TRUNC) {
                Ok((_, length)) => return Ok(Some(length)),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                // Closed by a peer that had not read everything sent to it.
                Err(rustix::io::Errno::CONNRESET) => return Ok(Some(0)),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// `TimedOut` at `deadline`, `UnexpectedEof` if the other end closes, otherwise as
    /// [`Channel::receive`].
    pub(crate) fn wait<T: DeserializeOwned>(
        &self,
        deadline: Instant,
    ) -> io::Result<(T, Option<OwnedFd>)> {
        loop {
            match self.receive()? {
                Received::Message(message, fd) => return Ok((message, fd)),
                Received::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Received::Nothing => wait_readable(self, deadline)?,
            }
        }
    }
}

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    #[ignore = "needs root"]
    fn a_message_and_its_descriptor_arrive_together() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/proc/self/status").unwrap();
        a.send(&"x".repeat(300_000), Some(file.as_fd())).unwrap();
        let (text, fd) = b.wait::<String>(soon()).unwrap();
        assert_eq!(text.len(), 300_000);
        assert!(fd.is_some());
        assert!(matches!(b.receive::<String>().unwrap(), Received::Nothing));
        drop(a);
        assert!(matches!(b.receive::<String>().unwrap(), Received::Closed));
    }

    #[test]
    #[ignore = "needs root"]
    fn too_large_a_message_is_refused_by_the_sender() {
        let (a, _b) = Channel::pair().unwrap();
        let error = a.send(&"x".repeat(MESSAGE_LIMIT), None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    #[ignore = "needs root"]
    fn what_is_no_message_is_invalid() {
        let (a, b) = Channel::pair().unwrap();
        rustix::net::send(&a, b"{\"half\":", SendFlags::empty()).unwrap();
        let error = b.receive::<u32>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
