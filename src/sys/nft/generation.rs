//! The kernel's count of changes: as long as it is the same, nothing of any table of this network namespace has
//! changed, and what was found once still holds.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use super::Socket;
use super::elements::{message_type, payload};
use super::protocol::attribute;
use super::table::own_mark;
use crate::sys::message;
use crate::sys::netlink::wire::Request;

const GETGEN: u16 = libc::NFT_MSG_GETGEN as u16;
const NFTA_GEN_ID: u16 = 1;
const NFPROTO_UNSPEC: u8 = libc::NFPROTO_UNSPEC as u8;

impl Socket {
    /// A text that stays the same for as long as nothing has changed in nftables: what was found of the tables
    /// after it was asked for is so while it is. It tells namespaces apart, and versions of berth by their rules.
    /// `None` where the kernel doesn't tell namespaces apart (`SO_NETNS_COOKIE`, since 5.14).
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn generation(&mut self) -> io::Result<Option<String>> {
        let what = "ask for the generation of nftables";
        let Some(namespace) = self.namespace() else {
            return Ok(None);
        };
        let request = Request {
            kind: message_type(GETGEN),
            flags: 0,
            payload: payload(NFPROTO_UNSPEC, &[]),
        };
        let answer = self.wire.query(&request).map_err(|e| message(e, what))?;
        let answer = answer.map_err(|no| no.of(what))?;
        let number = answer.and_then(|answer| {
            let id = attribute(answer.payload.get(4..)?, NFTA_GEN_ID)?;
            Some(u32::from_be_bytes(id.try_into().ok()?))
        });
        Ok(number.map(|number| format!("{namespace} {number} {}", own_mark())))
    }

    /// The number of the socket's network namespace, which no other one gets until the node boots anew.
    fn namespace(&self) -> Option<u64> {
        let mut cookie = 0u64;
        let mut length = mem::size_of_val(&cookie) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has as many and may have any value.
        let done = unsafe {
            libc::getsockopt(
                self.wire.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        (done == 0).then_some(cookie)
    }
}
