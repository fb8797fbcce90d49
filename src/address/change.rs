//! What all actions share: reading the kernel's state of a VIP, and what goes with changing it.

use std::io;

use super::kernel::Kernel;
use crate::log;
use crate::ocf::{Error, State};
use crate::plan::vip::record::VipSpec;
use crate::plan::vip::{Behind, Desired, Observed, Problem, Request, Verdict};
use crate::sys::announce::PacketSocket;
use crate::types::Family;

/// How often a start tries again when somebody else removes what it makes, and a stop when somebody else makes it.
pub(crate) const ATTEMPTS: usize = 3;

impl VipSpec {
    /// Checks that the parameters agree with each other, on whatever node.
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

/// The error for a problem of the plan: a fault of the configuration or of this node.
pub(crate) fn error_of(problem: Problem) -> Error {
    match problem {
        Problem::Config(text) => Error::config(text),
        Problem::Host(text) => Error::host(text),
    }
}

/// The plan's verdict as the state that an action returns.
pub(crate) fn state_of(verdict: Verdict) -> State {
    match verdict {
        Verdict::Stopped => State::Stopped,
        Verdict::Running => State::Running,
        Verdict::Degraded(why) => State::Degraded(why),
        Verdict::Failed(why) => State::Failed(why),
    }
}

/// The kernel's state in these families, with the settings that `request` depends on.
///
/// # Errors
/// If the kernel's state can't be read.
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

/// Gives the cell's interface the MTU of the ports. A failure is only logged: it costs nothing but speed.
pub(crate) fn fit(kernel: &mut Kernel, request: &Request) {
    if let Behind::Cell(link) = &request.behind {
        kernel.fit(link).unwrap_or_else(log::warn);
    }
}

/// The family by which a VIP is judged. To find out what other VIPs need, both families have to be read.
pub(crate) fn own(request: &Request) -> [Family; 1] {
    [Family::of(&request.vip)]
}

/// Announces the VIP at its port at once. A failure to send is only logged: a monitor reports a port that is broken.
pub(crate) fn announce(kernel: &Kernel, desired: &Desired, wire: &PacketSocket) {
    let Some(port) = &desired.port else { return };
    let announced = kernel
        .announcement(port, desired.vip)
        .and_then(|a| wire.announce(&[a]));
    if let Err(e) = announced {
        log::warn(format_args!("announce {} on {port}: {e}", desired.vip));
    }
}
