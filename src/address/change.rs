//! Looking at a VIP in the kernel and changing it: what all actions share.

use std::io;

use super::kernel::Kernel;
use crate::log;
use crate::ocf::{Error, State};
use crate::plan::vip::record::VipSpec;
use crate::plan::vip::{Behind, Desired, Observed, Problem, Request, Verdict};
use crate::sys::announce::Wire;
use crate::types::Family;

/// How often a start repeats itself when others take away what it makes, and a stop when they make it.
pub(crate) const ATTEMPTS: usize = 3;

impl VipSpec {
    /// Whether the parameters agree with each other, whatever the node.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Error> {
        match self.request().check() {
            Ok(()) => Ok(()),
            Err(problem) => Err(error_of(problem)),
        }
    }
}

/// Whose fault a problem of the plan is.
pub(crate) fn error_of(problem: Problem) -> Error {
    match problem {
        Problem::Config(text) => Error::config(text),
        Problem::Host(text) => Error::host(text),
    }
}

/// What the plan found, in the terms of an action.
pub(crate) fn state_of(verdict: Verdict) -> State {
    match verdict {
        Verdict::Stopped => State::Stopped,
        Verdict::Running => State::Running,
        Verdict::Degraded(why) => State::Degraded(why),
        Verdict::Failed(why) => State::Failed(why),
    }
}

/// The kernel's state, as far as `request` is concerned, in these families.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn observe(
    kernel: &mut Kernel,
    request: &Request,
    families: &[Family],
) -> io::Result<Observed> {
    let mut seen = kernel.observe(Some(request.vip), families)?;
    let links = request.links(&seen);
    kernel.observe_settings(request.vip, &links, &mut seen)?;
    Ok(seen)
}

/// Has the cell's interface follow what the ports carry. That it can't costs speed only.
pub(crate) fn fit(kernel: &mut Kernel, request: &Request) {
    if let Behind::Cell(link) = &request.behind {
        kernel.fit(link).unwrap_or_else(log::warn);
    }
}

/// What a VIP is judged by. To see what others need, both families have to be looked at.
pub(crate) fn own(request: &Request) -> [Family; 1] {
    [Family::of(&request.vip)]
}

/// Tells the network at once. That the port can't send is for the next monitor to say.
pub(crate) fn announce(kernel: &Kernel, desired: &Desired, wire: &Wire) {
    let Some(port) = &desired.port else { return };
    let announced = kernel
        .announcement(port, desired.vip)
        .and_then(|a| wire.announce(&[a]));
    if let Err(e) = announced {
        log::warn(format_args!("announce {} on {port}: {e}", desired.vip));
    }
}
