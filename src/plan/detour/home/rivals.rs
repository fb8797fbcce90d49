//! VIPs that are served here and that another node claims to route all the same, as one does where somebody has
//! started the resource by hand. That node is told by a claim of this one's own: it asks the cluster then which of the
//! two should answer, as it does where another router claims the VIP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Home, Now, own};
use crate::plan::detour::claim::{Claim, text};
use crate::plan::detour::step::Effect;
use crate::plan::detour::view::NodeView;

/// How long another node may claim a VIP that is served here before that is disputed: of a router from which the VIP
/// has just come home it is not known at once that its routing ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Another node's claim to a VIP that is served here.
#[derive(Debug)]
pub(crate) struct Rival {
    /// Since when the VIP is both served and claimed.
    since: Instant,
    /// This node's own claim, once it disputes the other one's.
    claim: Option<Claim>,
}

impl Home {
    /// Notes which VIPs that are served here other nodes claim, and since when. `chosen` are all claims, one for each
    /// VIP, and one that is not ending if there is any.
    pub(crate) fn review_rivals(
        &mut self,
        chosen: &BTreeMap<IpAddr, (String, Claim)>,
        (records, view, now): Now<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let served = |vip: IpAddr| {
            own(records, vip).is_some_and(|r| r.serving && view.cells.contains(&r.spec.vserver))
        };
        let mut before = std::mem::take(&mut self.rivals);
        for (vip, (node, claim)) in chosen {
            if claim.ending || !served(*vip) {
                continue;
            }
            let known = before.remove(vip);
            let since = known.as_ref().map_or(now, |rival| rival.since);
            let disputed = now.saturating_duration_since(since) >= PATIENCE;
            if disputed && known.is_none_or(|rival| rival.claim.is_none()) {
                let text = format!("{vip}: {node} routes for it, although it is served here");
                effects.push(Effect::warning(text));
            }
            let claim = disputed.then(|| own_claim(claim, view));
            self.rivals.insert(*vip, Rival { since, claim });
        }
        let over = before.into_iter().filter(|(_, r)| r.claim.is_some());
        for (vip, _) in over.filter(|(vip, _)| served(*vip)) {
            // Clients whose packets went to the router have to be told of this node.
            effects.push(Effect::Announce(vip));
        }
    }

    /// This node's own claims to VIPs that it serves, as the value of an attribute; `None` if it has none.
    pub(crate) fn claims(&self) -> Option<String> {
        let mut claims = self.rivals.values().filter_map(|r| r.claim.as_ref());
        let first = claims.next()?;
        Some(text(std::iter::once(first).chain(claims)))
    }
}

/// This node's claim to a VIP that another one claims. Nobody sends anything by it; of another subnet than this node's
/// the address is the other one's.
fn own_claim(claim: &Claim, view: &NodeView) -> Claim {
    let subnet = view.subnets.iter().find(|s| s.name == claim.subnet);
    let mut own = subnet.into_iter().flat_map(|s| &s.own);
    let own = own.find(|own| own.is_ipv4() == claim.vip.is_ipv4());
    Claim {
        router: own.copied().unwrap_or(claim.router),
        ..claim.clone()
    }
}
