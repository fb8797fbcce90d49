//! The OCF agents: one file each, and in every one the same course: observe, plan, apply, observe again.

pub mod fscheck;
pub mod member;
pub mod vip;
pub mod vserver;

use crate::cell::{keeper, protocol};
use crate::ocf::{self, Agent};

/// The `main` of every agent. The same program is a cell's keeper when it is called `berth-keeper`.
pub fn main(agent: &'static Agent) -> ! {
    let mut arguments = std::env::args_os();
    if arguments
        .next()
        .is_some_and(|name| name == protocol::KEEPER)
    {
        let vserver = arguments.next().unwrap_or_default();
        #[allow(clippy::disallowed_methods)] // a keeper has no exit reason to leave
        std::process::exit(keeper::main(&vserver.to_string_lossy()));
    }
    ocf::run(agent)
}
