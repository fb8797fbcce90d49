//! Judges a VIP by the kernel's state.

use std::net::IpAddr;

use super::desired::Item;
use super::egress::present_port;
use super::{Desired, Incoming, Object, Observed, Rule};

/// The judgement on a VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel has nothing of it.
    Stopped,
    /// In service.
    Running,
    /// Nothing is missing, but this keeps clients from reaching it, and a restart would not help.
    Degraded(String),
    /// This is missing or surplus, and a restart would mend it.
    Failed(String),
}

/// Judges a VIP by what it needs.
pub(crate) fn judge(desired: &Desired, seen: &Observed) -> Verdict {
    if !is_there(desired.vip, seen) {
        return Verdict::Stopped;
    }
    let failed = present_port(desired.vip, seen).filter(|port| !is_usable(port, seen));
    let better = desired.port.as_ref().filter(|port| is_usable(port, seen));
    if let (Some(failed), Some(better)) = (failed, better) {
        return match seen.watched.is_empty() {
            true => Verdict::Failed(format!("port {failed} has no carrier, but {better} has")),
            // portwatch is about to move the VIP: a restart would only get in the way.
            false => Verdict::Degraded(format!("port {failed} has failed, {better} takes over")),
        };
    }
    let wrong: Vec<String> = missing(desired, seen)
        .chain(surplus(desired, seen))
        .collect();
    if let [first, others @ ..] = &wrong[..] {
        let more = match others.len() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        return Verdict::Failed(format!("{first}{more}"));
    }
    let ports = desired.candidates.join(", ");
    match &desired.port {
        None => Verdict::Degraded(format!("no port of {} is up: {ports}", desired.subnet)),
        Some(port) if !is_usable(port, seen) => Verdict::Degraded(format!(
            "no port of {} has carrier: {ports}",
            desired.subnet
        )),
        Some(port) if desired.elsewhere => Verdict::Degraded(format!(
            "no port of {} works ({ports}): reached through {port} by its announced route",
            desired.subnet
        )),
        Some(_) => match &desired.doubt {
            Some(doubt) => Verdict::Degraded(doubt.clone()),
            None => Verdict::Running,
        },
    }
}

/// Judges a VIP that could not be started here now, for this reason.
pub(crate) fn judge_without_plan(vip: IpAddr, reason: &str, seen: &Observed) -> Verdict {
    match is_there(vip, seen) {
        true => Verdict::Failed(reason.to_owned()),
        false => Verdict::Stopped,
    }
}

fn is_usable(port: &str, seen: &Observed) -> bool {
    seen.link(port).is_some_and(|l| seen.is_usable(l))
}

fn has_carrier(port: &str, seen: &Observed) -> bool {
    seen.link(port).is_some_and(|l| l.carrier)
}

fn is_there(vip: IpAddr, seen: &Observed) -> bool {
    seen.objects.iter().any(|o| o.vip() == Some(vip))
}

fn missing<'a>(desired: &'a Desired, seen: &'a Observed) -> impl Iterator<Item = String> + 'a {
    let essential = desired.items.iter().filter(|(_, essential)| *essential);
    essential.filter_map(|(item, _)| match item {
        Item::Object(Object::Tables) if seen.damaged => {
            Some("nftables table berth lacks rules".to_owned())
        }
        // Kernels before 6.15 drop proxy entries with the carrier: it is the carrier that is missing.
        Item::Object(Object::Proxy(port, _)) if !has_carrier(port, seen) => None,
        Item::Object(object) => (!is_met(object, seen)).then(|| format!("{object} is missing")),
        Item::Setting(key, value) => {
            let now = seen.settings.get(key)?;
            (now != value).then(|| format!("setting {key} is {now}, not {value}"))
        }
    })
}

/// Whether an object is there, or one that another version has made in its place.
fn is_met(object: &Object, seen: &Observed) -> bool {
    seen.objects.contains(object) || seen.objects.iter().any(|there| meets(there, object))
}

/// Whether `there` serves the VIP as well as `wanted`: another version makes the same rule, but for the VIP's packets
/// from any interface.
fn meets(there: &Object, wanted: &Object) -> bool {
    match (there, wanted) {
        (Object::Rule(there), Object::Rule(wanted)) => {
            let general = Rule {
                incoming: Incoming::Any,
                ..wanted.clone()
            };
            wanted.from.is_some() && *there == general
        }
        _ => false,
    }
}

/// The VIP's objects beyond the desired ones that would lead packets elsewhere.
fn surplus<'a>(desired: &'a Desired, seen: &'a Observed) -> impl Iterator<Item = String> + 'a {
    let own = seen.objects.iter().filter(|o| o.vip() == Some(desired.vip));
    own.filter(|o| matches!(o, Object::Proxy(..) | Object::Rule(_)))
        .filter(|o| {
            !desired
                .objects()
                .any(|wanted| wanted == *o || meets(o, wanted))
        })
        .map(|o| format!("{o} is too much"))
}
