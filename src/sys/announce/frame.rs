//! Builds frames of ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Announcement, DuplicateProbe};
use crate::plan::neighbour::Probe;
use crate::types::Mac;

pub(crate) const ETH_P_IP_ARP: u16 = libc::ETH_P_ARP as u16;
pub(crate) const ETH_P_IPV6: u16 = libc::ETH_P_IPV6 as u16;
pub(crate) const ARP_REQUEST: u16 = 1;
pub(crate) const ARP_REPLY: u16 = 2;
pub(crate) const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The flags of an announcement: override what the receiver knows; not solicited, not a router (RFC 4861, 4.4).
pub(crate) const NA_OVERRIDE: u8 = 0x20;
pub(crate) const OPTION_SOURCE_ADDRESS: u8 = 1;
const OPTION_TARGET_ADDRESS: u8 = 2;
pub(crate) const BROADCAST: Mac = Mac([0xff; 6]);
pub(crate) const NOBODY: Mac = Mac([0; 6]);

/// The frames that announce an address.
pub(crate) fn frames(a: &Announcement) -> Vec<Vec<u8>> {
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

/// The frames that probe for an address: without a sender, as in RFC 5227 and RFC 4862, and for IPv4 also with one.
pub(crate) fn duplicate_probes(probe: &DuplicateProbe<'_>) -> Vec<Vec<u8>> {
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

/// The frame that probes a target: an ARP request, without a sender's address if the port has none (RFC 5227), or a
/// neighbour solicitation; `None` for IPv6 if the port has no address of that family.
pub(crate) fn request(q: &Probe) -> Option<Vec<u8>> {
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
                // Unicast, as the kernel itself checks whether a neighbour is still there.
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

fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend(target.octets());
    body
}

/// The solicited-node multicast group of an address (RFC 4291, 2.7.1).
pub(crate) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z])
}

fn ethernet(to: Mac, from: Mac, protocol: u16) -> Vec<u8> {
    [&to.0[..], &from.0, &protocol.to_be_bytes()].concat()
}

pub(crate) fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
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
    // Receivers believe neighbour discovery only with the highest hop limit: no router can have passed it on then.
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(target.octets());
    frame.extend(body);
    frame
}

/// The checksum of an ICMPv6 message (RFC 4443, 2.3); zero if the message already contains the right one.
pub(crate) fn checksum_of(source: Ipv6Addr, target: Ipv6Addr, body: &[u8]) -> u16 {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

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
}
