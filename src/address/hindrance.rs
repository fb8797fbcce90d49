//! Whether another program's firewall keeps clients from a VIP that is served.

use super::kernel::Kernel;
use crate::log;
use crate::ocf::State;
use crate::plan::vip::{Desired, Request};
use crate::types::Family;

/// The state of a VIP by the kernel's objects alone, before others' firewalls are looked at.
pub(crate) struct Found {
    pub(crate) state: State,
    /// The text to report if the VIP is well and this node only routes for it.
    pub(crate) routing: Option<String>,
    /// What the VIP was judged by; `None` if it can't be on this node.
    pub(crate) plan: Option<(Request, Desired)>,
}

impl From<State> for Found {
    fn from(state: State) -> Self {
        Self {
            state,
            routing: None,
            plan: None,
        }
    }
}

impl Found {
    /// The state of the VIP, others' firewalls included.
    pub(crate) fn conclude(self, kernel: &Kernel) -> State {
        let state = match &self.plan {
            Some((request, desired)) => unhindered(kernel, request, desired, self.state),
            None => self.state,
        };
        match (state, self.routing) {
            (State::Running, Some(routing)) => State::Degraded(routing),
            (state, _) => state,
        }
    }
}

/// The state of a VIP as clients see it: degraded if another program's firewall drops its packets. Reading many rules
/// takes a while, so the caller must not hold the lock.
pub(crate) fn unhindered(
    kernel: &Kernel,
    request: &Request,
    desired: &Desired,
    state: State,
) -> State {
    match state {
        State::Running => barrier(kernel, request, desired).map_or(state, State::Degraded),
        other => other,
    }
}

/// What to report of another program's firewall that keeps clients from the VIP, if one does. A failure to read others'
/// rules is only logged: it is no fault of the VIP.
pub(crate) fn barrier(kernel: &Kernel, request: &Request, desired: &Desired) -> Option<String> {
    let port = desired.port.as_deref()?;
    let inward = request.behind.link();
    let chain = kernel
        .barrier(Family::of(&request.vip), (port, inward))
        .unwrap_or_else(|e| {
            log::warn(format_args!("look for others' firewalls: {e}"));
            None
        })?;
    Some(format!(
        "{chain} drops packets of {} between {port} and {inward}",
        request.vip
    ))
}
