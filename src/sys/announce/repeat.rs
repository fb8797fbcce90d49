//! Repeated announcements: a frame of the first one may be lost, or a client or a switch may have been busy. The agent
//! that started the VIP has ended by then, so the keeper sends them, or portwatch if it has moved the VIP.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::sys::announce::{Announcement, PacketSocket};
use crate::sys::netlink::Socket;
use crate::types::Family;

/// When announcements are repeated, counted from the first.
const AGAIN_AFTER: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// More VIPs than a vserver can have: further ones are not announced again.
const LIMIT: usize = 1024;

#[derive(Debug)]
struct Due {
    at: Instant,
    vip: IpAddr,
    port: String,
    /// The agent's socket, closed after the last announcement, when no agent waits for that any more.
    wire: Rc<PacketSocket>,
}

/// The announcements that are still to be sent.
#[derive(Debug, Default)]
pub(crate) struct Announcing(Vec<Due>);

impl Announcing {
    /// Begins to repeat the announcement of a VIP that was announced on a port at `now`, through `wire`.
    pub(crate) fn begin(&mut self, vip: IpAddr, port: &str, now: Instant, wire: &Rc<PacketSocket>) {
        self.0.retain(|due| due.vip != vip);
        if self.0.len() >= LIMIT {
            return;
        }
        self.0.extend(AGAIN_AFTER.map(|after| Due {
            at: now + after,
            vip,
            port: port.to_owned(),
            wire: Rc::clone(wire),
        }));
    }

    /// When the next announcement is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|due| due.at).min()
    }

    /// Sends the announcements that are due by `now` and still true: a VIP that was stopped or moved meanwhile may be
    /// on another node.
    ///
    /// # Errors
    /// If the kernel's state can't be read, or an interface can't send.
    pub(crate) fn send(&mut self, now: Instant) -> io::Result<()> {
        let (due, later) = self.0.drain(..).partition(|due| due.at <= now);
        self.0 = later;
        let due: Vec<Due> = due;
        if due.is_empty() {
            return Ok(());
        }
        let mut socket = Socket::new()?;
        let links = socket.links()?;
        let mut proxies = socket.proxies(Family::V4)?;
        proxies.extend(socket.proxies(Family::V6)?);
        let true_still = |due: &Due| {
            let link = links.iter().find(|l| l.name == *due.port)?;
            let mut here = proxies.iter().filter(|p| p.link == link.index);
            here.find(|p| p.address == due.vip)?;
            Some(Announcement {
                link: link.index,
                mac: link.mac?,
                address: due.vip,
            })
        };
        let mut result = Ok(());
        for due in &due {
            if let Some(announcement) = true_still(due) {
                result = result.and(due.wire.announce(&[announcement]));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not a packet socket, which takes rights that a test may not have: nothing is sent through it.
    fn wire() -> Rc<PacketSocket> {
        let (one, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
        Rc::new(PacketSocket::from(std::os::fd::OwnedFd::from(one)))
    }

    #[test]
    fn a_vip_is_announced_three_times_more_and_anew_when_it_moves() {
        let (mut announcing, now) = (Announcing::default(), Instant::now());
        let vip = IpAddr::from([10, 1, 0, 50]);
        announcing.begin(vip, "a0", now, &wire());
        assert_eq!(announcing.next(), Some(now + AGAIN_AFTER[0]));
        let moved = now + Duration::from_millis(100);
        announcing.begin(vip, "a1", moved, &wire());
        assert_eq!(announcing.0.len(), AGAIN_AFTER.len());
        assert_eq!(announcing.next(), Some(moved + AGAIN_AFTER[0]));
    }

    #[test]
    fn what_is_not_true_any_more_is_dropped() {
        let (mut announcing, now) = (Announcing::default(), Instant::now());
        announcing.begin([10, 1, 0, 50].into(), "no-such-port", now, &wire());
        announcing.send(now + Duration::from_millis(60)).unwrap();
        assert_eq!(announcing.next(), Some(now + AGAIN_AFTER[1]));
        announcing.send(now + Duration::from_secs(2)).unwrap();
        assert_eq!(announcing.next(), None);
    }
}
