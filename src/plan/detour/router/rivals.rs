//! Two nodes that route for the same VIP: the cluster is asked which of them should.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Router, Step, routed};
use crate::plan::attribute::Values;
use crate::plan::detour::claim::parse;
use crate::plan::detour::overview::Rivalry;
use crate::plan::detour::step::{Change, Effect, Outcome};
use crate::plan::detour::view::NodeView;
use crate::plan::vip::record::{Record, Role};
use crate::types::NodeName;

/// How far a dispute with another router has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispute {
    /// Another node has claimed the VIP once: one router may just be taking over from the other.
    Suspected,
    /// The cluster is being asked which of the two should route.
    Asked,
    /// The cluster has said that this node should route. If the dispute lasts, the cluster is asked again: it may have
    /// moved the resource.
    Meant,
}

impl Router {
    /// Notes what other nodes claim to route to `node`. If one of them routes a VIP of this node's, the cluster is
    /// asked which of the two should.
    pub(crate) fn on_claims(
        &mut self,
        node: &NodeName,
        values: &Values,
        records: &BTreeMap<String, Record>,
        effects: &mut Vec<Effect>,
    ) {
        let others: BTreeSet<IpAddr> = values
            .values()
            .flat_map(|text| parse(text))
            .filter(|claim| !claim.ending)
            .map(|claim| claim.vip)
            .collect();
        for (name, record, _) in routed(records).filter(|(_, _, path)| path.node == *node) {
            let vip = record.spec.vip;
            if !others.contains(&vip) || !record.serving {
                if self.disputes.remove(name).is_some() {
                    // Clients whose packets went to the other router have to be told of this one.
                    effects.push(Effect::Announce(vip));
                }
                continue;
            }
            let dispute = self.disputes.get(name).copied();
            if dispute == Some(Dispute::Suspected) {
                let text = format!("{vip}: another node routes for it to {node} too");
                effects.push(Effect::warning(text));
            }
            let next = match dispute {
                None => Dispute::Suspected,
                Some(Dispute::Asked) => continue,
                Some(Dispute::Suspected | Dispute::Meant) => {
                    effects.push(Effect::Locate(name.clone()));
                    Dispute::Asked
                }
            };
            self.disputes.insert(name.clone(), next);
        }
    }

    /// The resources that another node routes for too, for an overview.
    pub(crate) fn rivalries(&self) -> BTreeMap<String, Rivalry> {
        let disputes = self.disputes.iter();
        let rivalry = |dispute: &Dispute| match dispute {
            Dispute::Suspected => Rivalry::Suspected,
            Dispute::Asked => Rivalry::Asked,
            Dispute::Meant => Rivalry::Meant,
        };
        disputes
            .map(|(name, dispute)| (name.clone(), rivalry(dispute)))
            .collect()
    }

    /// Notes on which nodes a disputed resource is started according to the cluster. If this node is none of them, its
    /// routing ends.
    pub(crate) fn on_located(
        &mut self,
        name: &str,
        nodes: &[NodeName],
        (records, view): (&BTreeMap<String, Record>, &NodeView),
        effects: &mut Vec<Effect>,
    ) {
        let meant = view.node.as_ref().is_some_and(|me| nodes.contains(me));
        let (Some(record), Some(dispute)) = (records.get(name), self.disputes.get_mut(name)) else {
            return;
        };
        if nodes.is_empty() || !matches!(record.role, Role::Router(_)) {
            // The resource is on its way to some node: the next answer may name it.
            *dispute = Dispute::Suspected;
            return;
        }
        if meant {
            *dispute = Dispute::Meant;
            effects.push(Effect::Announce(record.spec.vip));
            return;
        }
        if self.pending.contains_key(name) {
            // The cluster is asked again.
            *dispute = Dispute::Suspected;
            return;
        }
        let step = Step::Withdraw(record.spec.vip, nodes.join(", "));
        let change = Change::Clear {
            before: record.clone(),
            in_cell: false,
        };
        self.begin(name.to_owned(), step, change, effects);
    }

    /// Notes the outcome of a withdrawal.
    pub(crate) fn on_withdrawn(
        &mut self,
        name: &str,
        (vip, nodes): (IpAddr, &str),
        outcome: &Outcome,
        effects: &mut Vec<Effect>,
    ) {
        match outcome {
            Outcome::Busy => {
                // The cluster is asked again.
                if let Some(dispute) = self.disputes.get_mut(name) {
                    *dispute = Dispute::Suspected;
                }
                return;
            }
            Outcome::Done => {
                let text = format!("{vip}: withdrawn, as the cluster has it on {nodes}");
                effects.push(Effect::warning(text));
            }
            Outcome::Failed(why) => effects.push(Effect::error(format!("withdraw {vip}: {why}"))),
            Outcome::Stale => {}
        }
        self.disputes.remove(name);
    }
}
