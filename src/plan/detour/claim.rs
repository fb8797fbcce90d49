//! The claims by which a node tells others that it routes VIPs to another node's virtual server.
//!
//! A claim reads `alpha/10.1.0.50/lab/10.2.0.2`: the vserver, the VIP, and the subnet and the router's address there by
//! which replies reach the router. While a router's routing ends and it only forwards what still arrives, its claim
//! has `/ending` at the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use crate::types::{Label, NodeName, VserverName};

/// More VIPs than a node can have.
const CLAIMS: usize = 4096;

/// A node's statement that it routes for a VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The VIP's vserver.
    pub(crate) vserver: VserverName,
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// The subnet over which replies are to be sent to the router.
    pub(crate) subnet: Label,
    /// The router's address on that subnet.
    pub(crate) router: IpAddr,
    /// Whether the routing ends: the router forwards what still arrives, and answers for the VIP no more.
    pub(crate) ending: bool,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vserver,
            vip,
            subnet,
            router,
            ending,
        } = self;
        let ending = if *ending { "/ending" } else { "" };
        write!(f, "{vserver}/{vip}/{subnet}/{router}{ending}")
    }
}

impl Claim {
    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split('/');
        let claim = Self {
            vserver: parts.next()?.parse().ok()?,
            vip: parts.next()?.parse().ok()?,
            subnet: parts.next()?.parse().ok()?,
            router: parts.next()?.parse().ok()?,
            ending: match parts.next() {
                None => false,
                Some("ending") => true,
                Some(_) => return None,
            },
        };
        let fits = claim.vip.is_ipv4() == claim.router.is_ipv4() && claim.vip != claim.router;
        (fits && parts.next().is_none()).then_some(claim)
    }
}

/// The claims in one node's attribute value. A claim that can't be parsed, as a later version may write it, is left
/// out.
pub(crate) fn parse(text: &str) -> Vec<Claim> {
    let words = text.split_ascii_whitespace().take(CLAIMS);
    words.filter_map(Claim::parse).collect()
}

/// A node's claims as the value of its attribute.
pub(crate) fn text<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> String {
    let words: Vec<String> = claims.into_iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// Chooses each VIP's router from the claims of several nodes, which come by node and with the time when each claim
/// was first seen. A claim that is not ending comes before one that is; then the latest, as an older one may be left
/// over; then that of the `present` router; then that of the first node by name.
pub(crate) fn choose(
    claims: &BTreeMap<NodeName, Vec<(Claim, Instant)>>,
    present: &BTreeMap<IpAddr, NodeName>,
) -> BTreeMap<IpAddr, (NodeName, Claim)> {
    let mut chosen: BTreeMap<IpAddr, (&NodeName, &Claim, Instant)> = BTreeMap::new();
    for (node, claims) in claims {
        for (claim, since) in claims {
            let rank = |node: &NodeName, claim: &Claim, since: Instant| {
                let other = present.get(&claim.vip) != Some(node);
                (claim.ending, Reverse(since), other)
            };
            let better = chosen
                .get(&claim.vip)
                .is_none_or(|(n, c, s)| rank(node, claim, *since) < rank(n, c, *s));
            if better {
                chosen.insert(claim.vip, (node, claim, *since));
            }
        }
    }
    chosen
        .into_iter()
        .map(|(vip, (node, claim, _))| (vip, (node.clone(), claim.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claim(text: &str) -> Claim {
        Claim::parse(text).unwrap()
    }

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let all = "alpha/10.1.0.50/lab/10.2.0.2 beta/fd00:1::50/lab/fe80::2/ending";
        let claims = parse(all);
        assert_eq!((claims.len(), text(&claims)), (2, all.to_owned()));
        assert!(claims[1].ending && !claims[0].ending);
    }

    #[test]
    fn what_is_no_claim_is_left_out() {
        for bad in [
            "",
            "alpha",
            "alpha/10.1.0.50/lab",
            "alpha/10.1.0.50/lab/fd00::2",
            "alpha/10.1.0.50/lab/10.1.0.50",
            "alpha/10.1.0.50/lab/10.2.0.2/later",
            "alpha/10.1.0.50/lab/10.2.0.2/ending/x",
            "../x/10.1.0.50/lab/10.2.0.2",
            "alpha/10.1.0.50/../10.2.0.2",
            "alpha/10.1.0/lab/10.2.0.2",
        ] {
            assert_eq!(parse(bad), [], "{bad}");
        }
        let good = "alpha/10.1.0.50/lab/10.2.0.2";
        assert_eq!(parse(&format!("? {good} ?/?")), [claim(good)]);
    }

    #[test]
    fn of_two_routers_the_later_one_counts_and_one_that_ends_only_if_it_is_the_last() {
        let vip = IpAddr::from([10, 1, 0, 50]);
        let begun = Instant::now();
        let of = |claims: &[(&str, &str, u64)], present: Option<&str>| {
            let claims = claims
                .iter()
                .map(|(node, text, since)| {
                    let since = begun + Duration::from_secs(*since);
                    let dated = parse(text).into_iter().map(|claim| (claim, since));
                    ((*node).into(), dated.collect())
                })
                .collect();
            let present = present.map(|node| (vip, node.into())).into_iter().collect();
            choose(&claims, &present).remove(&vip).map(|(node, _)| node)
        };
        let (n2, n3) = (
            "alpha/10.1.0.50/lab/10.2.0.2",
            "alpha/10.1.0.50/lab/10.2.0.3",
        );
        let both = [("n2", n2, 1), ("n3", n3, 1)];
        assert_eq!(of(&both, None).as_deref(), Some("n2"));
        assert_eq!(of(&both, Some("n3")).as_deref(), Some("n3"));
        let one_is_left_over = [("n2", n2, 1), ("n3", n3, 2)];
        assert_eq!(of(&one_is_left_over, Some("n2")).as_deref(), Some("n3"));
        let ending = format!("{n2}/ending");
        let one_ends = [("n2", ending.as_str(), 2), ("n3", n3, 1)];
        assert_eq!(of(&one_ends, Some("n2")).as_deref(), Some("n3"));
        assert_eq!(of(&one_ends[..1], None).as_deref(), Some("n2"));
        assert_eq!(of(&[], Some("n2")), None);
    }
}
