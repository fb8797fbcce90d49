//! Hands over a filter's descriptor from the process that has put the filter on to the one that answers refused calls.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The end for the process with the filter.
#[derive(Debug)]
pub(crate) struct Sender(OwnedFd);

/// The end for who answers it.
#[derive(Debug)]
pub(crate) struct Receiver(OwnedFd);

/// Two connected ends.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn handover() -> io::Result<(Sender, Receiver)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)?;
    Ok((Sender(a), Receiver(b)))
}

impl Sender {
    /// Hands the descriptor over. Allocates nothing, so it may be called between fork and exec.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(
            self.0.as_fd(),
            &[IoSlice::new(b"f")],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

impl Receiver {
    /// What was handed over by now.
    pub(crate) fn receive(&self) -> Option<OwnedFd> {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(self.0.as_fd(), &mut slices, &mut control, flags).ok()?;
        let mut messages = control.drain();
        messages.find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
    }
}
