//! Whether others' firewalls keep clients from a VIP that is served.

use super::kernel::Kernel;
use crate::log;
use crate::ocf::State;
use crate::plan::vip::{Desired, Request};
use crate::types::Family;

/// What a look at a VIP has found, but for what others do to its packets.
pub(crate) struct Found {
    pub(crate) state: State,
    /// What is said where all is well and this node only routes for the VIP.
    pub(crate) routing: Option<String>,
    /// What it was judged by, where it can be there.
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
    /// How the VIP is.
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

/// How a VIP is that is in this state, as clients have it: another program's firewall may be in their way. To look
/// for that takes a while where there are many rules, so that no lock is to be held.
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

/// Which other program's firewall keeps clients from the VIP, if one does. What can't be found out about others'
/// rules is no fault of the VIP.
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
