//! berth: highly available virtual file servers on Pacemaker.
//!
//! Five agents and a command, and the long-lived processes that the agents start. The modules are rooms that use each
//! other in one direction only. These are all the arrows that there are; a test holds them against the code.
//!
//! ```text
//! cli       → cell cluster config plan sys types
//! agent     → address cell cluster log ocf plan portwatch runtime spec sys types
//! portwatch → address cell cluster log ocf plan runtime spec sys types
//! address   → cell cluster log ocf plan runtime sys types
//! config    → cell cluster plan spec sys text types
//! cell      → cluster hash log plan runtime spec sys text types
//! cluster   → log runtime sys types
//! ocf       → log plan spec sys text types
//! runtime   → log sys
//! log       → sys text
//! sys       → hash plan types
//! plan      → hash types
//! ```
//!
//! - [`agent`]: one resource type each, thin: reads parameters, asks the rooms below, gives errors their OCF meaning.
//! - [`cli`]: the command for people; [`config`]: its file, and what the cluster is given for it.
//! - [`portwatch`]: the daemon of a node that watches its ports and moves addresses; [`address`]: a virtual IP address
//!   on a node, and how it is changed.
//! - [`cell`]: a virtual server's processes. In the host its keeper, within it PID 1, and what both speak.
//! - [`cluster`]: Pacemaker, by its own tools. [`runtime`]: what the long-lived processes have in common.
//! - [`ocf`]: the contract of agents. [`sys`]: the kernel. Neither knows of the other.
//! - [`plan`]: decides, and does no I/O. [`spec`]: what parameters are called and may be. [`types`], [`log`],
//!   [`text`] and [`hash`] may be used by all.
//!
//! The kernel is called through std where that can do it, else through rustix: files, mounts, sockets, pipes, pidfds,
//! capabilities, terminals. What these two have no safe call for is nix's, and what nix has none for is libc's, beside
//! the numbers, which are libc's in any case (linux-raw-sys' for system calls that libc does not know). Netlink's
//! messages are made by the netlink-packet crates, filters of system calls by seccompiler. A test holds this list,
//! too, against the code:
//!
//! ```text
//! nix  for errno Result poll sched sys::inotify sys::prctl sys::signal sys::signalfd sys::wait
//! nix  for fcntl::Flock fcntl::FlockArg fcntl::FcntlArg fcntl::fcntl sys::socket::LinkAddr sys::socket::MsgFlags
//! nix  for sys::socket::recvmsg sys::sysinfo ifaddrs net::if_ time unistd::fork unistd::ForkResult unistd::Pid
//! nix  for unistd::Uid unistd::User unistd::getpid unistd::getppid unistd::geteuid unistd::gethostname
//! nix  for unistd::sethostname
//! libc for _exit close_range getsockopt ioctl localtime_r malloc_trim setitimer setsockopt sigaction strftime
//! libc for syscall major minor makedev
//! ```
//!
//! A function whose callers have to uphold something is unsafe and says what under `# Safety`: what forks, what is done
//! between fork and exec, what closes descriptors of others. Each unsafe block says why that holds where it stands.

pub mod address;
pub mod agent;
#[cfg(test)]
mod arrows;
pub mod cell;
pub mod cli;
pub mod cluster;
pub mod config;
#[cfg(test)]
mod formats;
pub(crate) mod hash;
pub(crate) mod log;
pub mod ocf;
pub mod plan;
pub(crate) mod portwatch;
pub mod runtime;
pub mod spec;
pub mod sys;
pub mod text;
pub mod types;
