//! When an action may say that its resource is degraded.
//!
//! A probe only asks whether the resource is active. If it answered 190, the cluster would list that like a
//! monitor's, but nobody would have noted that there is something to clean up: the resource may leave before
//! its first monitor. A call by hand gets the truth.
//!
//! Pacemaker notes that a recurring monitor has begun, and its result in the place of that note, but a
//! result other than 0 elsewhere (`RESOURCE_last_failure_0`; `pcmk__create_history_xml` in 2.1 and 3.0).
//! After a first monitor that says 190 the note stays: the resource is shown as being monitored as long as it
//! is degraded, and since 2.1.7 whoever waits for the cluster to settle (`crm_resource --wait`, and with it
//! crm's and pcs's waiting and `berth apply --wait`) waits for ever. So the first monitor after a start or
//! a probe says 0, and the next one, an interval later, the truth. (After a maintenance without either, the
//! last result counts as one of this monitor if the note comes late.)

use crate::cluster::history;
use crate::log;
use crate::ocf::{Action, Context, State};

/// What this action may tell the cluster of `state`: all, unless the resource is degraded and this is a
/// probe or the first recurring monitor.
pub(crate) fn reported(cx: &Context<'_>, state: State) -> State {
    let State::Degraded(why) = &state else {
        return state;
    };
    let Some(node) = cx.env.on_node() else {
        return state;
    };
    match cx.action {
        Action::Probe => State::Running,
        Action::Monitor if is_first(cx, node) => {
            log::info(format_args!("degraded, told at the next monitor: {why}"));
            State::Running
        }
        _ => state,
    }
}

fn is_first(cx: &Context<'_>, node: &str) -> bool {
    let instance = cx.env.instance().as_str();
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ocf::Env;

    #[test]
    fn a_probe_of_the_cluster_says_active_and_nothing_more() {
        let degraded = || State::Degraded("routing".into());
        for (variables, state) in [
            (vec![("OCF_RESKEY_CRM_meta_on_node", "n1")], State::Running),
            (vec![], degraded()),
        ] {
            let env = Env::from_variables(variables);
            let cx = Context {
                env: &env,
                action: Action::Probe,
                begun: Instant::now(),
                deadline: Instant::now(),
            };
            assert_eq!(reported(&cx, degraded()), state);
            assert_eq!(reported(&cx, State::Stopped), State::Stopped);
        }
    }
}
