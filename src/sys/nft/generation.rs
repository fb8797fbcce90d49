//! The kernel's generation counter of nftables: as long as it is the same, nothing has changed in any table of this
//! network namespace, and what was found before still holds.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use super::Socket;
use super::elements::{message_type, payload};
use super::protocol::attribute;
use super::table::own_mark;
use crate::sys::message;
use crate::sys::netlink::transport::Request;

const GETGEN: u16 = libc::NFT_MSG_GETGEN as u16;
const NFTA_GEN_ID: u16 = 1;
const NFPROTO_UNSPEC: u8 = libc::NFPROTO_UNSPEC as u8;

impl Socket {
    /// A text that stays the same as long as nothing changes in nftables. What was found of the tables after this call
    /// holds while the text is the same. It differs between network namespaces, and between versions of berth with
    /// other rules. `None` if the kernel can't tell namespaces apart (`SO_NETNS_COOKIE`, since 5.14).
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
        let answer = self
            .transport
            .query(&request)
            .map_err(|e| message(e, what))?;
        let answer = answer.map_err(|no| no.of(what))?;
        let number = answer.and_then(|answer| {
            let id = attribute(answer.payload.get(4..)?, NFTA_GEN_ID)?;
            Some(u32::from_be_bytes(id.try_into().ok()?))
        });
        Ok(number.map(|number| format!("{namespace} {number} {}", own_mark())))
    }

    /// The cookie of the socket's network namespace, which no other namespace gets until the node reboots.
    fn namespace(&self) -> Option<u64> {
        let mut cookie = 0u64;
        let mut length = mem::size_of_val(&cookie) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has as many and may have any value.
        let done = unsafe {
            libc::getsockopt(
                self.transport.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        (done == 0).then_some(cookie)
    }
}
