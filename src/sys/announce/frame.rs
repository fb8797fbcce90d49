//! Frames of ARP (RFC 826) and neighbour discovery (RFC 4861): built, and read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Announcement, Answer, Probe, Question};
use crate::sys::netlink::Mac;

pub(super) const ETH_P_IP_ARP: u16 = 0x0806;
pub(super) const ETH_P_IPV6: u16 = 0x86dd;
const ARP_REQUEST: u16 = 1;
pub(super) const ARP_REPLY: u16 = 2;
pub(super) const ICMPV6: u8 = 58;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Override what the receiver knows; not an answer, not a router (RFC 4861, 4.4).
const NA_OVERRIDE: u8 = 0x20;
/// The advertisement answers a solicitation.
const NA_SOLICITED: u8 = 0x40;
const OPTION_SOURCE_ADDRESS: u8 = 1;
const OPTION_TARGET_ADDRESS: u8 = 2;
const BROADCAST: Mac = Mac([0xff; 6]);
const NOBODY: Mac = Mac([0; 6]);

/// The frames that announce an address.
pub(super) fn frames(a: &Announcement) -> Vec<Vec<u8>> {
    match a.address {
        IpAddr::V4(ip) => vec![
            arp(ARP_REQUEST, (a.mac, ip), (NOBODY, ip)),
            arp(ARP_REPLY, (a.mac, ip), (a.mac, ip)),
        ],
        IpAddr::V6(ip) => {
            let mut body = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, NA_OVERRIDE, 0, 0, 0];
            body.extend(ip.octets());
            body.extend([OPTION_TARGET_ADDRESS, 1]);
            body.extend(a.mac.0);
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            vec![icmpv6((a.mac, multicast(all_nodes)), ip, all_nodes, body)]
        }
    }
}

/// The frames that ask for an address: as RFC 5227 and RFC 4862 have it, with no sender, and for IPv4
/// also with one.
pub(super) fn questions(probe: &Probe<'_>) -> Vec<Vec<u8>> {
    match probe.address {
        IpAddr::V4(ip) => {
            let [.., a, b] = probe.mac.0;
            // The first and the last 256 of 169.254/16 are reserved (RFC 3927).
            let made_up = Ipv4Addr::new(169, 254, a.clamp(1, 254), b);
            let sender = probe.sender.unwrap_or(made_up);
            [Ipv4Addr::UNSPECIFIED, sender]
                .map(|from| arp(ARP_REQUEST, (probe.mac, from), (NOBODY, ip)))
                .to_vec()
        }
        IpAddr::V6(ip) => {
            let body = solicitation(ip);
            let group = solicited_node(ip);
            let ends = (probe.mac, multicast(group));
            vec![icmpv6(ends, Ipv6Addr::UNSPECIFIED, group, body)]
        }
    }
}

/// What asks `target` whether it is there: an ARP request, without a sender's address if the port has
/// none (RFC 5227), or a neighbour solicitation; `None` if no address of the port is of the family.
pub(super) fn question(q: &Question) -> Option<Vec<u8>> {
    Some(match (q.target, q.source) {
        (IpAddr::V4(target), source) => {
            let source = match source {
                Some(IpAddr::V4(ip)) => ip,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            let mut frame = arp(ARP_REQUEST, (q.mac, source), (NOBODY, target));
            if let Some(to) = q.to {
                frame[..6].copy_from_slice(&to.0);
            }
            frame
        }
        (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
            let mut body = solicitation(target);
            body.extend([OPTION_SOURCE_ADDRESS, 1]);
            body.extend(q.mac.0);
            match q.to {
                // As the kernel itself asks whether a neighbour is still there.
                Some(to) => icmpv6((q.mac, to), source, target, body),
                None => {
                    let group = solicited_node(target);
                    icmpv6((q.mac, multicast(group)), source, group, body)
                }
            }
        }
        (IpAddr::V6(_), _) => return None,
    })
}

/// Who answers a question in this frame, which came in on `link`.
pub(super) fn answer(frame: &[u8], link: u32) -> Option<Answer> {
    let (ip, from, to) = match protocol(frame)? {
        ETH_P_IP_ARP => {
            let arp = Arp::read(frame)?;
            let to = arp.target_mac;
            // One that is broadcast answers nobody.
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
    Some(Answer { link, ip, from, to })
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..)?.first_chunk().copied().map(Mac)
}

fn protocol(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(12..)?.first_chunk()?))
}

/// Whether one interface can have the address: it is no group's, and not nobody's.
fn is_one(mac: Mac) -> bool {
    mac.0[0] & 1 == 0 && mac != NOBODY
}

/// An ARP message that the receivers of one may believe (RFC 826).
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

/// A neighbour solicitation or advertisement that passes RFC 4861's tests (7.1.1 and 7.1.2): one with a
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
        // Behind it there may be what fills up a short frame.
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

/// The kinds of options there are; `None` if one has no length.
fn options(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut kinds = Vec::new();
    while let [kind, eights, ..] = rest {
        // A length of none would never end.
        let length = usize::from(*eights) * 8;
        rest = rest.get(length..).filter(|_| length > 0)?;
        kinds.push(*kind);
    }
    rest.is_empty().then_some(kinds)
}

fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend(target.octets());
    body
}

/// The group that the owner of an address listens to (RFC 4291, 2.7.1).
fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z])
}

fn ethernet(to: Mac, from: Mac, protocol: u16) -> Vec<u8> {
    [&to.0[..], &from.0, &protocol.to_be_bytes()].concat()
}

fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, sender.0, ETH_P_IP_ARP);
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    for (mac, ip) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(ip.octets());
    }
    frame
}

/// The Ethernet address of a multicast group (RFC 2464, 7).
fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// An ICMPv6 message; its checksum field is filled in.
fn icmpv6(
    (from, to): (Mac, Mac),
    source: Ipv6Addr,
    target: Ipv6Addr,
    mut body: Vec<u8>,
) -> Vec<u8> {
    let mut frame = ethernet(to, from, ETH_P_IPV6);
    // Messages made here have at most 32 bytes.
    let length = body.len() as u16;
    let sum = checksum_of(source, target, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Neighbour discovery is believed only with the hop limit that no router can have lowered.
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(target.octets());
    frame.extend(body);
    frame
}

/// The checksum of an ICMPv6 message (RFC 4443, 2.3): zero, if its own is in its place.
fn checksum_of(source: Ipv6Addr, target: Ipv6Addr, body: &[u8]) -> u16 {
    let mut pseudo = [source.octets(), target.octets()].concat();
    // No frame is longer than its length field can say.
    pseudo.extend((body.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(body);
    checksum(&pseudo)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| (u32::from(pair[0]) << 8) | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Who says in this frame that `address` is theirs, or asks whether it is free to take.
pub(super) fn claimant(frame: &[u8], address: IpAddr) -> Option<Mac> {
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
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn probe(address: &str) -> Probe<'static> {
        Probe {
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

    #[test]
    fn ipv4_is_announced_by_request_and_by_reply_to_oneself() {
        let [request, reply] = &frames(&announcement("10.1.0.50"))[..] else {
            panic!("two frames")
        };
        assert_eq!(request[..6], [0xff; 6]);
        assert_eq!(request[20..22], [0, 1]);
        assert_eq!(request[28..32], request[38..42]);
        assert_eq!(request[32..38], [0; 6]);
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!(reply[32..38], MAC.0);
        assert_eq!(reply.len(), 42);
    }

    #[test]
    fn ipv6_is_announced_by_an_overriding_advertisement() {
        let [frame] = &frames(&announcement("2001:db8::50"))[..] else {
            panic!("one frame")
        };
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!((frame[21], frame[54], frame[58]), (255, 136, 0x20));
        // The checksum over what includes it is all ones.
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend([0, 0, 0, 32, 0, 0, 0, ICMPV6]);
        pseudo.extend(&frame[54..]);
        assert_eq!(checksum(&pseudo), 0);
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
        let [bare, asked] = &questions(&v4)[..] else {
            panic!("two frames")
        };
        assert_eq!(claimant(bare, v4.address), Some(MAC));
        assert_eq!(claimant(asked, v4.address), None);
        assert_eq!(asked[28..30], [169, 254]);
        let mut frame = questions(&v6).remove(0);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 5]);
        assert_eq!(claimant(&frame, v6.address), Some(MAC));
        frame[22] = 0xfe;
        frame[56..58].fill(0);
        let sum = checksum_of(
            Ipv6Addr::from(*frame[22..].first_chunk().unwrap()),
            Ipv6Addr::from(*frame[38..].first_chunk().unwrap()),
            &frame[54..],
        );
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
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
        let heard = answer(&reply(asker), 3).unwrap();
        assert_eq!(
            (heard.link, heard.ip, heard.from, heard.to),
            (3, ip, target, asker)
        );
        assert!(answer(&reply(BROADCAST), 3).is_none());
        let q = Question {
            link: 3,
            mac: asker,
            target: ip,
            source: None,
            to: Some(target),
        };
        let asked = question(&q).unwrap();
        assert_eq!(asked[..6], target.0);
        assert_eq!(asked[28..32], [0; 4]);
        assert!(answer(&asked, 3).is_none());
        let q = Question {
            target: "fd00::5".parse().unwrap(),
            source: Some("fd00::1".parse().unwrap()),
            ..q
        };
        let asked = question(&q).unwrap();
        assert_eq!(asked[..6], target.0);
        assert_eq!(
            asked[38..54],
            "fd00::5".parse::<Ipv6Addr>().unwrap().octets()
        );
        let everybody = question(&Question { to: None, ..q }).unwrap();
        assert_eq!(everybody[..6], [0x33, 0x33, 0xff, 0, 0, 5]);
        // Unsolicited advertisements are announcements.
        assert!(answer(&frames(&announcement("fd00::5"))[0], 3).is_none());
        for length in 0..42 {
            assert!(answer(&reply(asker)[..length], 3).is_none());
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
                frame[56..58].fill(0);
                let [from, to] =
                    [22, 38].map(|at| Ipv6Addr::from(*frame[at..].first_chunk().unwrap()));
                let sum = checksum_of(from, to, &frame[54..]);
                frame[56..58].copy_from_slice(&sum.to_be_bytes());
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
