//! What the agent and the daemon say to each other: one request on a connection, one reply.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::agent::vip::Path as Way;

/// The name of the daemon's process.
pub(in crate::agent) const DAEMON: &str = "berth-portwatch";

/// The socket that the daemon listens on.
pub(super) fn socket(runtime: &Path) -> PathBuf {
    runtime.join("portwatch.sock")
}

/// What the agent asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Request {
    /// How is it?
    Status,
    /// Go on with other parameters.
    Configure(Settings),
    /// Something is missing that no event told of: look for it.
    Mend,
    /// By which way is the node reached that has this virtual server, for one of its VIPs?
    Way {
        /// The virtual server.
        vserver: String,
        /// The VIP.
        vip: IpAddr,
    },
    /// End.
    End,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// How it is.
    Status {
        /// What is wrong with the ports, in one line.
        trouble: Option<String>,
        /// Why the cluster does not know of it.
        unpublished: Option<String>,
    },
    /// The way, or why there is none.
    Way(Result<Way, String>),
    /// It is being done.
    Noted,
}
