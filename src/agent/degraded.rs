//! When a monitor may say that its resource is degraded.
//!
//! Pacemaker notes that a recurring monitor has begun, and its result in the place of that note, but a
//! result other than 0 elsewhere (`RESOURCE_last_failure_0`; `pcmk__create_history_xml` in 2.1 and 3.0).
//! After a first monitor that says 190 the note stays: the resource is shown as being monitored as long as it
//! is degraded, and since 2.1.7 whoever waits for the cluster to settle (`crm_resource --wait`, and with it
//! crm's and pcs's waiting and `berth apply --wait`) waits for ever. So the first monitor after a start or
//! a probe says 0, and the next one, an interval later, the truth. (After a maintenance without either, the
//! last result counts as one of this monitor if the note comes late.)

use crate::cluster::history;
use crate::ocf::{Action, Context, State, log};

/// What this action may tell the cluster of `state`: all, unless it is the first recurring monitor and
/// the resource is degraded.
pub fn told(cx: &Context<'_>, state: State) -> State {
    match &state {
        State::Degraded(why) if is_first(cx) => {
            log::info(format_args!("degraded, told at the next monitor: {why}"));
            State::Running
        }
        _ => state,
    }
}

fn is_first(cx: &Context<'_>) -> bool {
    let Some(node) = cx.env.on_node().filter(|_| cx.action == Action::Monitor) else {
        return false;
    };
    let instance = cx.env.instance();
    let monitor = history::Monitor {
        resource: instance.split(':').next().unwrap_or(instance),
        node,
        interval: cx.env.interval(),
    };
    match monitor.has_result(cx.deadline) {
        Ok(has) => !has,
        Err(e) => {
            log::warn(format_args!("{e}"));
            false
        }
    }
}
