//! Two nodes that route for the same VIP: the cluster knows which of them should.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Router, routed};
use crate::address::record::{Record, Role};
use crate::log;
use crate::plan::attribute::Values;
use crate::plan::detour::parse;
use crate::portwatch::detour::turn::Turn;
use crate::portwatch::detour::{Surroundings, service};

impl Router {
    /// Takes note of what the others say that they route to `node`. Returns the resources of this node
    /// that another one routes for just as well: the cluster knows which of the two should.
    pub fn told_claims(
        &mut self,
        node: &str,
        values: &Values,
        records: &BTreeMap<String, Record>,
    ) -> Vec<String> {
        let others: BTreeSet<IpAddr> = values
            .values()
            .flat_map(|text| parse(text))
            .filter(|claim| !claim.ending)
            .map(|claim| claim.vip)
            .collect();
        let mut disputed = Vec::new();
        for (name, record, way) in routed(records).filter(|(_, _, way)| way.node == node) {
            if !others.contains(&record.wish.vip) || !record.serving {
                if self.disputed.remove(name).is_some() {
                    // Clients that went by the other one have to be told.
                    self.announce.insert(record.wish.vip);
                }
            } else if let Some(asked) = self.disputed.get_mut(name) {
                if std::mem::replace(asked, true) {
                    continue;
                }
                // Twice in a row: it is not just a change of routers.
                log::warn(format_args!(
                    "{}: another node routes for it to {} too",
                    record.wish.vip, way.node
                ));
                disputed.push(name.clone());
            } else {
                self.disputed.insert(name.clone(), false);
            }
        }
        disputed
    }

    /// Takes note of where the cluster takes a disputed resource to be: who is not meant withdraws.
    pub fn located(
        &mut self,
        name: &str,
        nodes: &[String],
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
    ) {
        let meant = around.node.as_ref().is_some_and(|me| nodes.contains(me));
        let (Some(record), Some(asked)) = (records.get(name), self.disputed.get_mut(name)) else {
            return;
        };
        if nodes.is_empty() || !matches!(record.role, Role::Router(_)) {
            // It is on its way somewhere: the next answer may tell.
            *asked = false;
            return;
        }
        if meant {
            self.announce.insert(record.wish.vip);
            return;
        }
        let mut turn = Turn::new(&self.runtime);
        let Some(lock) = turn.lock() else {
            // The cluster is asked again.
            *asked = false;
            return;
        };
        let (vip, nodes) = (record.wish.vip, nodes.join(", "));
        log::warn(format_args!(
            "{vip}: withdrawn, as the cluster has it on {nodes}"
        ));
        if let Err(e) = service(&self.runtime, name).clear_if(lock, record, None) {
            log::error(format_args!("withdraw {vip}: {e}"));
        }
        self.disputed.remove(name);
    }

    /// The VIPs to be announced again.
    pub fn announcements(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.announce)
    }
}
