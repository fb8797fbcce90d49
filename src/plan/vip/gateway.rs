//! Whether a gateway can serve a subnet: one rule for the agents and for berth.toml.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::place::is_reserved;
use crate::types::Family;

/// Why an address can't be the gateway out of a subnet. Its text completes "the gateway 10.1.0.254 … ".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayFault {
    /// No host has such an address: unspecified, loopback, multicast, or IPv4 written as IPv6.
    NoHost,
    /// It is not of this address family, which is the subnet's.
    Family(Family),
    /// It is outside of this subnet, and not link-local IPv6.
    Outside(IpNetwork),
    /// It is this subnet's network or broadcast address.
    Reserved(IpNetwork),
    /// It is the virtual IP address itself.
    Itself,
}

impl fmt::Display for GatewayFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str("is not the address of one host"),
            Self::Family(Family::V4) => f.write_str("is no IPv4 address"),
            Self::Family(Family::V6) => f.write_str("is no IPv6 address"),
            Self::Outside(subnet) => write!(f, "is not in subnet {subnet}"),
            Self::Reserved(subnet) => {
                write!(
                    f,
                    "is the first or last address of {subnet}, which no host may use"
                )
            }
            Self::Itself => f.write_str("is the virtual IP address itself"),
        }
    }
}

/// Checks that `gateway` can lead out of `subnet`, for the address `vip` if that is known. An IPv6 router has a
/// link-local address on each link, and advertises that one (RFC 4861, 6.1.2): it fits every subnet of its family.
///
/// # Errors
/// Why it can't.
pub(crate) fn gateway_fits(
    gateway: IpAddr,
    subnet: IpNetwork,
    vip: Option<IpAddr>,
) -> Result<(), GatewayFault> {
    let (mapped, local) = match gateway {
        IpAddr::V4(ip) => (ip.is_broadcast(), false),
        IpAddr::V6(ip) => (
            ip.to_ipv4_mapped().is_some(),
            ip.is_unicast_link_local() && ip.segments()[4..] != [0; 4],
        ),
    };
    if mapped || gateway.is_unspecified() || gateway.is_loopback() || gateway.is_multicast() {
        return Err(GatewayFault::NoHost);
    }
    let family = Family::of(&subnet.ip());
    if Family::of(&gateway) != family {
        return Err(GatewayFault::Family(family));
    }
    if vip == Some(gateway) {
        return Err(GatewayFault::Itself);
    }
    if !local && !subnet.contains(gateway) {
        return Err(GatewayFault::Outside(subnet));
    }
    match is_reserved(gateway, subnet) {
        true => Err(GatewayFault::Reserved(subnet)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(gateway: &str, subnet: &str, vip: Option<&str>) -> Result<(), GatewayFault> {
        let vip = vip.map(|ip| ip.parse().unwrap());
        gateway_fits(gateway.parse().unwrap(), subnet.parse().unwrap(), vip)
    }

    #[test]
    fn a_host_of_the_subnet_and_any_link_local_router_fit() {
        for (gateway, subnet) in [
            ("10.1.0.254", "10.1.0.0/24"),
            ("10.1.0.0", "10.1.0.0/31"),
            ("10.1.0.1", "10.1.0.0/31"),
            ("fd00:1::1", "fd00:1::/64"),
            ("fe80::1", "fd00:1::/64"),
            ("fd00:1::", "fd00:1::/127"),
        ] {
            assert_eq!(fits(gateway, subnet, None), Ok(()), "{gateway} {subnet}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_its_reason() {
        for (gateway, subnet, vip, why) in [
            (
                "10.2.0.254",
                "10.1.0.0/24",
                None,
                "is not in subnet 10.1.0.0/24",
            ),
            (
                "10.1.0.0",
                "10.1.0.0/24",
                None,
                "is the first or last address of 10.1.0.0/24, which no host may use",
            ),
            (
                "10.1.0.255",
                "10.1.0.0/24",
                None,
                "is the first or last address of 10.1.0.0/24, which no host may use",
            ),
            (
                "fd00:1::",
                "fd00:1::/64",
                None,
                "is the first or last address of fd00:1::/64, which no host may use",
            ),
            (
                "10.1.0.50",
                "10.1.0.0/24",
                Some("10.1.0.50"),
                "is the virtual IP address itself",
            ),
            ("fe80::1", "10.1.0.0/24", None, "is no IPv4 address"),
            ("10.1.0.254", "fd00:1::/64", None, "is no IPv6 address"),
            (
                "fe80::",
                "fd00:1::/64",
                None,
                "is not in subnet fd00:1::/64",
            ),
            (
                "ff02::2",
                "fd00:1::/64",
                None,
                "is not the address of one host",
            ),
            (
                "::ffff:10.1.0.1",
                "fd00:1::/64",
                None,
                "is not the address of one host",
            ),
            (
                "0.0.0.0",
                "10.1.0.0/24",
                None,
                "is not the address of one host",
            ),
        ] {
            let fault = fits(gateway, subnet, vip).unwrap_err();
            assert_eq!(fault.to_string(), why, "{gateway}");
        }
    }
}
