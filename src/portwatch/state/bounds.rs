//! How much of a node fits into a message.
//!
//! All that a node is likely to have does. What does not comes from elsewhere, such as other nodes' attributes, and
//! shall keep nobody from being answered.

use std::collections::BTreeMap;

use super::{NodeState, RoleState};
use crate::runtime::channel::MESSAGE_LIMIT;

/// Bytes of a state: what is around it in a message has room too.
const ROOM: usize = MESSAGE_LIMIT / 2;
/// Bytes of a text.
const TEXT: usize = 1024;

/// Shortens a text, which shows that it was.
fn shorten(text: &mut String) {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
}

/// Leaves `limit` entries of a list; returns how many others there were.
fn cut_list<T>(list: &mut Vec<T>, limit: usize) -> usize {
    let others = list.len().saturating_sub(limit);
    list.truncate(limit);
    others
}

/// The same of a map.
fn cut_map<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, limit: usize) -> usize {
    let first = map.keys().nth(limit).cloned();
    first.map_or(0, |first| map.split_off(&first).len())
}

impl NodeState {
    /// The same, as far as it fits into a message: of lists that are too long the first entries.
    pub(crate) fn bounded(mut self) -> Self {
        self.shorten_texts();
        let mut limit = self.longest();
        while limit > 0 && self.size() > ROOM {
            limit /= 2;
            self.omitted += self.cut(limit);
        }
        self
    }

    /// Its bytes in a message.
    fn size(&self) -> usize {
        // One that can't be written is not sent either, which is told then.
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

    /// The entries of its longest list.
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

    /// Leaves `limit` entries of each list; returns how many others there were.
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
