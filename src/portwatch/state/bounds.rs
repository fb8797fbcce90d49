//! Cuts a node's state down to the size of a message.
//!
//! All that a node is likely to have fits. What does not fit comes from outside, such as other nodes' attributes, and
//! must not keep the daemon from answering.

use std::collections::BTreeMap;

use super::{NodeState, RoleState};
use crate::runtime::channel::MESSAGE_LIMIT;

/// The most bytes of a state; the rest of a message is for what is around it.
const ROOM: usize = MESSAGE_LIMIT / 2;
/// The most bytes of one text in a state.
const TEXT: usize = 1024;

/// Shortens a text to [`TEXT`] bytes and marks that something is missing.
fn shorten(text: &mut String) {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
}

/// Keeps the first `limit` entries of a list; returns how many were dropped.
fn cut_list<T>(list: &mut Vec<T>, limit: usize) -> usize {
    let others = list.len().saturating_sub(limit);
    list.truncate(limit);
    others
}

/// Keeps the first `limit` entries of a map; returns how many were dropped.
fn cut_map<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, limit: usize) -> usize {
    let first = map.keys().nth(limit).cloned();
    first.map_or(0, |first| map.split_off(&first).len())
}

impl NodeState {
    /// The state as far as it fits into a message: of lists that are too long only the first entries.
    pub(crate) fn bounded(mut self) -> Self {
        self.shorten_texts();
        let mut limit = self.longest();
        while limit > 0 && self.size() > ROOM {
            limit /= 2;
            self.omitted += self.cut(limit);
        }
        self
    }

    /// The size of the state in a message, in bytes.
    fn size(&self) -> usize {
        // A state that can't be serialised is not sent either, and the sender logs that.
        serde_json::to_vec(self).map_or(0, |text| text.len())
    }

    fn shorten_texts(&mut self) {
        for vip in self.vips.values_mut() {
            if let RoleState::Stranded { why } = &mut vip.role {
                shorten(why);
            }
        }
        let refusals = self.detours.claims.iter_mut();
        let values = self.attributes.values_mut();
        refusals
            .flat_map(|claim| &mut claim.refused)
            .chain(values.flat_map(|attribute| &mut attribute.value))
            .chain(&mut self.trouble)
            .chain(&mut self.unpublished)
            .for_each(shorten);
    }

    /// How many entries the longest list has.
    fn longest(&self) -> usize {
        let targets = self.ports.values().map(|port| port.targets.len());
        let nets = self.subnets.values().map(|subnet| subnet.nets.len());
        let ports = self.vips.values().map(|vip| match &vip.role {
            RoleState::Detour { router: Some(hop) } => hop.ports.len(),
            _ => 0,
        });
        let own = [
            self.ports.len(),
            self.subnets.len(),
            self.vips.len(),
            self.detours.searches.len(),
            self.detours.claims.len(),
            self.detours.unreached.len(),
            self.detours.rivalries.len(),
            self.attributes.len(),
        ];
        let all = own.into_iter().chain(targets).chain(nets).chain(ports);
        all.max().unwrap_or(0)
    }

    /// Keeps the first `limit` entries of each list; returns how many were dropped.
    fn cut(&mut self, limit: usize) -> usize {
        let detours = &mut self.detours;
        let mut others = cut_map(&mut self.ports, limit)
            + cut_map(&mut self.subnets, limit)
            + cut_map(&mut self.vips, limit)
            + cut_list(&mut detours.searches, limit)
            + cut_list(&mut detours.claims, limit)
            + cut_map(&mut detours.unreached, limit)
            + cut_map(&mut detours.rivalries, limit)
            + cut_map(&mut self.attributes, limit);
        for port in self.ports.values_mut() {
            others += cut_list(&mut port.targets, limit);
        }
        for subnet in self.subnets.values_mut() {
            others += cut_list(&mut subnet.nets, limit);
        }
        for vip in self.vips.values_mut() {
            if let RoleState::Detour { router: Some(hop) } = &mut vip.role {
                others += cut_list(&mut hop.ports, limit);
            }
        }
        others
    }
}
