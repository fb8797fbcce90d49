//! The end of routing: the router forwards what still arrives until nothing has arrived for a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Router, Step};
use crate::plan::detour::step::{Change, Effect, Outcome};
use crate::plan::vip::record::{Record, Role};

/// How long nothing must have arrived for a VIP before its routing ends.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// After how long the routing ends even if packets still arrive.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// How often the traffic is measured meanwhile.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// A VIP whose routing ends.
#[derive(Debug)]
pub(crate) struct Ending {
    since: Instant,
    /// The VIP's byte counter as last read, and when it last differed from the reading before.
    bytes: u64,
    at: Instant,
}

impl Router {
    pub(crate) fn review_endings(&mut self, records: &BTreeMap<String, Record>, now: Instant) {
        let ends =
            |name: &String| matches!(records.get(name).map(|r| &r.role), Some(Role::Ending(_)));
        self.endings.retain(|name, _| ends(name));
        for name in records.keys().filter(|name| ends(name)) {
            self.endings.entry(name.clone()).or_insert(Ending {
                since: now,
                bytes: 0,
                at: now,
            });
        }
        self.measure_at = match self.endings.is_empty() {
            true => None,
            false => self.measure_at.or(Some(now + PAUSE)),
        };
    }

    /// Ends the routing of VIPs for which nothing arrives any more.
    pub(crate) fn on_traffic(
        &mut self,
        traffic: &BTreeMap<IpAddr, u64>,
        records: &BTreeMap<String, Record>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let mut over = Vec::new();
        for (name, end) in &mut self.endings {
            let Some(record) = records.get(name) else {
                continue;
            };
            let bytes = traffic.get(&record.spec.vip).copied().unwrap_or(0);
            if bytes != std::mem::replace(&mut end.bytes, bytes) {
                end.at = now;
            }
            let idle = now.saturating_duration_since(end.at) >= IDLE;
            if idle || now.saturating_duration_since(end.since) >= LIMIT {
                over.push((name.clone(), record.clone()));
            }
        }
        for (name, before) in over {
            let step = Step::End(before.spec.vip);
            let in_cell = false;
            self.begin(name, step, Change::Clear { before, in_cell }, effects);
        }
    }
}

/// The log line about the end of routing. There is none if the lock was not to be had: it is tried again after
/// [`PAUSE`].
pub(crate) fn ended(vip: IpAddr, outcome: &Outcome) -> Option<Effect> {
    match outcome {
        Outcome::Done => Some(Effect::info(format!("{vip}: no longer routed"))),
        Outcome::Failed(why) => {
            let text = format!("end the routing of {vip}: {why}");
            Some(Effect::warning(text))
        }
        Outcome::Stale | Outcome::Busy => None,
    }
}
