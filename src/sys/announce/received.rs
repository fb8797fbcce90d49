//! Reads received frames of ARP and neighbour discovery. Anybody may have sent them, so they are checked as their
//! standards demand before they count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frame::{
    ARP_REPLY, ARP_REQUEST, ETH_P_IP_ARP, ETH_P_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION, NOBODY, OPTION_SOURCE_ADDRESS, checksum_of, solicited_node,
};
use crate::plan::neighbour::Reply;
use crate::types::Mac;

/// The flag of an advertisement that answers a solicitation.
const NA_SOLICITED: u8 = 0x40;

/// The reply in this frame, which came in by `link`, if it is one to a request.
pub(crate) fn reply_in(frame: &[u8], link: u32) -> Option<Reply> {
    let (ip, from, to) = match protocol(frame)? {
        ETH_P_IP_ARP => {
            let arp = Arp::read(frame)?;
            let to = arp.target_mac;
            // A broadcast reply is an announcement, not an answer to a request.
            let answers = arp.operation == ARP_REPLY && mac(frame, 0)? == to;
            answers.then_some((arp.sender.into(), arp.sender_mac, to))?
        }
        ETH_P_IPV6 => {
            let discovery = Discovery::read(frame)?;
            let answers = discovery.kind == NEIGHBOUR_ADVERTISEMENT && discovery.solicited;
            answers.then_some((discovery.target.into(), mac(frame, 6)?, mac(frame, 0)?))?
        }
        _ => return None,
    };
    Some(Reply { link, ip, from, to })
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..)?.first_chunk().copied().map(Mac)
}

fn protocol(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(12..)?.first_chunk()?))
}

/// Whether an interface can have the address: it is neither a group address nor zero.
fn is_one(mac: Mac) -> bool {
    mac.0[0] & 1 == 0 && mac != NOBODY
}

/// An ARP message that is well-formed (RFC 826).
struct Arp {
    operation: u16,
    sender_mac: Mac,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
}

impl Arp {
    fn read(frame: &[u8]) -> Option<Self> {
        let ip = |at: usize| Some(Ipv4Addr::from(*frame.get(at..)?.first_chunk::<4>()?));
        // Ethernet and IPv4, with addresses of 6 and 4 bytes.
        let right = frame.get(14..20)? == [0, 1, 8, 0, 6, 4];
        let arp = Self {
            operation: u16::from_be_bytes(*frame.get(20..)?.first_chunk()?),
            sender_mac: mac(frame, 22)?,
            sender: ip(28)?,
            target_mac: mac(frame, 32)?,
            target: ip(38)?,
        };
        let known = [ARP_REQUEST, ARP_REPLY].contains(&arp.operation);
        (right && known && is_one(arp.sender_mac)).then_some(arp)
    }
}

/// A neighbour solicitation or advertisement that passes the checks of RFC 4861 (7.1.1 and 7.1.2). A message with a
/// smaller hop limit has passed a router, and may come from anywhere.
struct Discovery {
    kind: u8,
    source: Ipv6Addr,
    target: Ipv6Addr,
    solicited: bool,
}

impl Discovery {
    fn read(frame: &[u8]) -> Option<Self> {
        let ip = |at: usize| Some(Ipv6Addr::from(*frame.get(at..)?.first_chunk::<16>()?));
        let (version, next, hops) = (frame.get(14)? >> 4, *frame.get(20)?, *frame.get(21)?);
        if (version, next, hops) != (6, ICMPV6, 255) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes(*frame.get(18..)?.first_chunk()?));
        let (source, to) = (ip(22)?, ip(38)?);
        // The message may be followed by the padding of a short frame.
        let body = frame.get(54..54 + length)?;
        let (&kind, &code) = (body.first()?, body.get(1)?);
        let target = Ipv6Addr::from(*body.get(8..)?.first_chunk::<16>()?);
        let options = options(body.get(24..)?)?;
        let solicited = *body.get(4)? & NA_SOLICITED != 0;
        let right = match kind {
            NEIGHBOUR_SOLICITATION if source.is_unspecified() => {
                to == solicited_node(target) && !options.contains(&OPTION_SOURCE_ADDRESS)
            }
            NEIGHBOUR_SOLICITATION => true,
            NEIGHBOUR_ADVERTISEMENT => !(to.is_multicast() && solicited),
            _ => false,
        };
        let whole = checksum_of(source, to, body) == 0;
        let sane = code == 0 && !target.is_multicast() && is_one(mac(frame, 6)?);
        (right && whole && sane).then_some(Self {
            kind,
            source,
            target,
            solicited,
        })
    }
}

/// The types of the options; `None` if one of them is malformed.
fn options(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut kinds = Vec::new();
    while let [kind, eights, ..] = rest {
        // With a length of zero this would never end.
        let length = usize::from(*eights) * 8;
        rest = rest.get(length..).filter(|_| length > 0)?;
        kinds.push(*kind);
    }
    rest.is_empty().then_some(kinds)
}

/// The Ethernet address of whoever claims `address` in this frame, or probes whether it is free.
pub(crate) fn claimant(frame: &[u8], address: IpAddr) -> Option<Mac> {
    match (address, protocol(frame)?) {
        (IpAddr::V4(ip), ETH_P_IP_ARP) => {
            let arp = Arp::read(frame)?;
            let probes =
                arp.operation == ARP_REQUEST && arp.sender.is_unspecified() && arp.target == ip;
            (arp.sender == ip || probes).then_some(arp.sender_mac)
        }
        (IpAddr::V6(ip), ETH_P_IPV6) => {
            let discovery = Discovery::read(frame)?;
            let claims =
                discovery.kind == NEIGHBOUR_ADVERTISEMENT || discovery.source.is_unspecified();
            (claims && discovery.target == ip).then_some(mac(frame, 6)?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{BROADCAST, NA_OVERRIDE, arp, duplicate_probes, frames, request};
    use super::super::{Announcement, DuplicateProbe};
    use super::*;
    use crate::plan::neighbour::Probe;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn probe(address: &str) -> DuplicateProbe<'static> {
        DuplicateProbe {
            link: 1,
            mac: MAC,
            address: address.parse().unwrap(),
            sender: None,
            ignore: &[],
        }
    }

    fn announcement(address: &str) -> Announcement {
        Announcement {
            link: 1,
            mac: MAC,
            address: address.parse().unwrap(),
        }
    }

    /// Makes the checksum of a changed message of neighbour discovery right again.
    fn mend_checksum(frame: &mut [u8]) {
        frame[56..58].fill(0);
        let [from, to] = [22, 38].map(|at| Ipv6Addr::from(*frame[at..].first_chunk().unwrap()));
        let sum = checksum_of(from, to, &frame[54..]);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn an_announcement_is_a_claim_to_its_address_only() {
        for (address, other) in [("10.1.0.50", "10.1.0.51"), ("fd00::5", "fd00::6")] {
            for frame in frames(&announcement(address)) {
                assert_eq!(claimant(&frame, address.parse().unwrap()), Some(MAC));
                assert_eq!(claimant(&frame, other.parse().unwrap()), None);
            }
        }
    }

    #[test]
    fn another_probe_is_a_claim_but_an_ordinary_question_is_not() {
        let (v4, v6) = (probe("10.1.0.50"), probe("fd00::5"));
        let [bare, asked] = &duplicate_probes(&v4)[..] else {
            panic!("two frames")
        };
        assert_eq!(claimant(bare, v4.address), Some(MAC));
        assert_eq!(claimant(asked, v4.address), None);
        assert_eq!(asked[28..30], [169, 254]);
        let mut frame = duplicate_probes(&v6).remove(0);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 5]);
        assert_eq!(claimant(&frame, v6.address), Some(MAC));
        frame[22] = 0xfe;
        mend_checksum(&mut frame);
        assert!(Discovery::read(&frame).is_some());
        assert_eq!(claimant(&frame, v6.address), None);
    }

    #[test]
    fn only_an_answer_to_the_one_who_asked_counts() {
        let [asker, target] = [MAC, Mac([2, 0, 0, 0, 0, 9])];
        let ip: IpAddr = "10.1.0.254".parse().unwrap();
        let reply = |to: Mac| {
            let mut frame = arp(
                ARP_REPLY,
                (target, "10.1.0.254".parse().unwrap()),
                (asker, Ipv4Addr::UNSPECIFIED),
            );
            frame[..6].copy_from_slice(&to.0);
            frame
        };
        let heard = reply_in(&reply(asker), 3).unwrap();
        assert_eq!(
            (heard.link, heard.ip, heard.from, heard.to),
            (3, ip, target, asker)
        );
        assert!(reply_in(&reply(BROADCAST), 3).is_none());
        let q = Probe {
            link: 3,
            mac: asker,
            target: ip,
            source: None,
            to: Some(target),
        };
        let asked = request(&q).unwrap();
        assert_eq!(asked[..6], target.0);
        assert_eq!(asked[28..32], [0; 4]);
        assert!(reply_in(&asked, 3).is_none());
        let q = Probe {
            target: "fd00::5".parse().unwrap(),
            source: Some("fd00::1".parse().unwrap()),
            ..q
        };
        let asked = request(&q).unwrap();
        assert_eq!(asked[..6], target.0);
        assert_eq!(
            asked[38..54],
            "fd00::5".parse::<Ipv6Addr>().unwrap().octets()
        );
        let everybody = request(&Probe { to: None, ..q }).unwrap();
        assert_eq!(everybody[..6], [0x33, 0x33, 0xff, 0, 0, 5]);
        // Unsolicited advertisements are announcements.
        assert!(reply_in(&frames(&announcement("fd00::5"))[0], 3).is_none());
        for length in 0..42 {
            assert!(reply_in(&reply(asker)[..length], 3).is_none());
        }
    }

    #[test]
    fn what_a_router_may_have_passed_on_is_nobodys_claim() {
        let address = "fd00::5".parse().unwrap();
        let right = frames(&announcement("fd00::5")).remove(0);
        // Its hop limit is not covered by the checksum; the others have it made right again.
        let wrong = |at: usize, value: u8| {
            let mut frame = right.clone();
            frame[at] = value;
            if at >= 54 {
                mend_checksum(&mut frame);
            }
            frame
        };
        assert_eq!(claimant(&wrong(58, NA_OVERRIDE), address), Some(MAC));
        for (what, frame) in [
            ("hop limit", wrong(21, 63)),
            ("version", wrong(14, 0x45)),
            ("code", wrong(55, 1)),
            ("solicited by a group", wrong(58, NA_SOLICITED)),
            ("an option without length", wrong(79, 0)),
            ("a sender that is a group", wrong(6, 3)),
            ("length", wrong(19, 40)),
        ] {
            assert_eq!(claimant(&frame, address), None, "{what}");
        }
        let mut damaged = right.clone();
        damaged[85] ^= 1;
        assert_eq!(claimant(&damaged, address), None, "checksum");
        // A short frame is filled up on its way.
        let mut filled = right;
        filled.extend([0; 6]);
        assert_eq!(claimant(&filled, address), Some(MAC));
    }

    #[test]
    fn only_well_formed_arp_is_a_claim() {
        let address = "10.1.0.50".parse().unwrap();
        let right = frames(&announcement("10.1.0.50")).remove(0);
        for (what, at, value) in [
            ("hardware", 15, 6),
            ("protocol", 16, 0x86),
            ("hardware's length", 18, 8),
            ("operation", 21, 3),
            ("a group's address", 22, 3),
        ] {
            let mut frame = right.clone();
            frame[at] = value;
            assert_eq!(claimant(&frame, address), None, "{what}");
        }
        let mut nobodys = right;
        nobodys[22..28].fill(0);
        assert_eq!(claimant(&nobodys, address), None);
    }

    #[test]
    fn short_and_foreign_frames_are_nobodys_claim() {
        let frame = &frames(&announcement("fd00::5"))[0];
        for length in 0..78 {
            assert_eq!(claimant(&frame[..length], "fd00::5".parse().unwrap()), None);
        }
        assert_eq!(claimant(frame, "10.1.0.50".parse().unwrap()), None);
    }
}
