//! The OCF agents, which bring the rooms below together. Each takes the same course: observe, plan, apply, observe
//! again.

mod degraded;
pub mod fscheck;
pub(crate) mod member;
pub mod portwatch;
pub mod vip;
pub mod vserver;

use crate::cell::{keeper, protocol};
use crate::log;
use crate::ocf::{self, Agent, Env};

/// The `main` of every agent. The same program is a cell's keeper when it is called `berth-keeper`,
/// and portwatch's daemon under the name of that.
pub fn main(agent: &'static Agent) -> ! {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let code = if name == protocol::KEEPER {
        let vserver = arguments.next().unwrap_or_default();
        let env = Env::from_process();
        log::init(protocol::KEEPER, |name| env.variable(name));
        keeper::main(&vserver.to_string_lossy())
    } else if name == crate::portwatch::protocol::DAEMON {
        crate::portwatch::daemon::main()
    } else {
        ocf::run(agent, degraded::reported)
    };
    #[allow(clippy::disallowed_methods)] // a daemon has no exit reason to leave
    std::process::exit(code)
}
