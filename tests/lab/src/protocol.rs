//! What is said over a lab's socket: one JSON message per request and per reply, with a process
//! handle attached where a machine was asked for.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, listen, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// Longest message.
const MESSAGE_LIMIT: usize = 64 << 10;
/// Longest wait for an answer: longer than any request's own limits together.
const ANSWER_LIMIT: TimeVal = TimeVal::new(120, 0);

/// What can be asked of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// The lab ends when this connection does.
    Hold,
    /// The lab lives on when the holder is gone.
    Keep,
    /// Take everything down.
    Down,
    /// What is there, in which state.
    Status,
    /// A handle of a machine's PID 1.
    Enter {
        /// The machine.
        machine: String,
    },
    /// Power on a node.
    Boot {
        /// The node.
        node: String,
    },
    /// Power failure of a node.
    Crash {
        /// The node.
        node: String,
    },
    /// What a power switch does.
    Fence {
        /// The node.
        node: String,
        /// What to do.
        action: Power,
    },
    /// Change a cable.
    Cable {
        /// The machine.
        machine: String,
        /// The port.
        port: String,
        /// What becomes of it.
        state: Cable,
    },
    /// Put another card into a port.
    Replace {
        /// The machine.
        machine: String,
        /// The port.
        port: String,
    },
    /// Change a node's path to a disk.
    Path {
        /// The node.
        node: String,
        /// The disk.
        disk: String,
        /// Whether it works.
        good: bool,
    },
    /// Make a file system.
    Mkfs {
        /// The disk.
        disk: String,
        /// `ext4`, `xfs` or `btrfs`.
        kind: String,
    },
}

/// What a power switch can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Cut the power.
    Off,
    /// Give power.
    On,
    /// Cut the power; the node boots again only in a lab that says so.
    Reboot,
    /// Only look.
    Status,
}

/// State of the cable in a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cable {
    /// In order.
    Good,
    /// Pulled: the port loses its carrier.
    Pulled,
    /// In a dead switch: the carrier is there, nothing passes.
    Dead,
}

/// Answer to a [`Request`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Why it could not be done.
    pub error: Option<String>,
    /// Answer to [`Request::Status`] and to [`Request::Fence`].
    pub machines: BTreeMap<String, MachineState>,
}

/// State of a machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MachineState {
    /// Has power.
    pub on: bool,
    /// Loop device number of each disk path.
    pub disks: BTreeMap<String, u32>,
    /// What is wrong with its cables and paths.
    pub faults: Vec<String>,
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("connect to {}", path.display());
        let fd = seqpacket().context(what())?;
        let address = UnixAddr::new(path).context(what())?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &ANSWER_LIMIT).context(what())?;
        connect(fd.as_raw_fd(), &address).context(what())?;
        Ok(Self(fd))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// If the lab does not answer, or says that it could not do it.
    pub fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>)> {
        self.send(request, None)?;
        let (reply, fd): (Reply, _) = self
            .receive()?
            .ok_or_else(|| Error::new("the lab ended without an answer"))?;
        match reply.error {
            Some(line) => Err(Error::new(line)),
            None => Ok((reply, fd)),
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn send(&self, message: &impl Serialize, fd: Option<&OwnedFd>) -> Result<()> {
        let text = serde_json::to_vec(message).context("encode a message")?;
        let fds: Vec<RawFd> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let parts = [IoSlice::new(&text)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &parts, rights, flags, None).context("send")?;
        Ok(())
    }

    /// Receives one message; `None` when the other side has closed the connection.
    ///
    /// # Errors
    /// If nothing came in time, or nothing that can be understood.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MESSAGE_LIMIT];
        let mut space = nix::cmsg_space!(RawFd);
        let (length, fd) = loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Ok(got) => break (got.bytes, passed_fd(got.cmsgs().context("receive")?)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Error::new("no answer from the lab in time")),
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(e) => return Err(e).context("receive"),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&buffer[..length]).context("decode a message")?;
        Ok(Some((message, fd)))
    }
}

fn passed_fd(messages: impl Iterator<Item = ControlMessageOwned>) -> Option<OwnedFd> {
    let mut fds = messages
        .filter_map(|m| match m {
            ControlMessageOwned::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        // SAFETY: the kernel has just made these descriptors for this process; nobody else has them.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let first = fds.next();
    fds.for_each(drop);
    first
}

/// Where a lab listens.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at `path`, which only root can reach.
    ///
    /// # Errors
    /// If the path is taken.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("listen at {}", path.display());
        let fd = seqpacket().context(what())?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path).context(what())?).context(what())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).context(what())?;
        listen(&fd, Backlog::new(64).context(what())?).context(what())?;
        Ok(Self(fd))
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn accept(&self) -> Result<Connection> {
        loop {
            match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: the kernel has just made this descriptor; nobody else has it.
                Ok(fd) => return Ok(Connection(unsafe { OwnedFd::from_raw_fd(fd) })),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(e) => return Err(e).context("accept"),
            }
        }
    }
}

fn seqpacket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_they_were_written() {
        let request = Request::Fence {
            node: "n2".to_owned(),
            action: Power::Off,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"request":"fence","node":"n2","action":"off"}"#);
        assert!(serde_json::from_str::<Request>(&text).is_ok());
    }
}
