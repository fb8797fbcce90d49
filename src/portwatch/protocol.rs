//! What the agent and the daemon say to each other: one request on a connection, one reply.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::plan::vip::record::TransitPath;

/// The name of the daemon's process.
pub(crate) const DAEMON: &str = "berth-portwatch";

/// The socket that the daemon listens on.
pub(crate) fn socket(runtime: &Path) -> PathBuf {
    runtime.join("portwatch.sock")
}

/// What the agent asks. Agent and daemon may be of versions that follow each other: what a daemon does not know
/// it refuses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
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
    /// Another daemon takes over: end, and leave all as it is.
    HandOver,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// How it is.
    Status {
        /// What is wrong with the ports, in one line.
        trouble: Option<String>,
        /// Why the cluster does not know of it.
        unpublished: Option<String>,
    },
    /// The way, or why there is none.
    Way(Result<TransitPath, String>),
    /// It is being done.
    Noted,
    /// It is not, for this reason.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

    #[test]
    fn daemons_and_agents_of_all_versions_understand_each_other() {
        let kinds = ["status", "configure", "mend", "way", "end", "hand over"];
        formats::check("portwatch-request.jsonl", &kinds, |request| match request {
            Request::Status => "status",
            Request::Configure(_) => "configure",
            Request::Mend => "mend",
            Request::Way { .. } => "way",
            Request::End => "end",
            Request::HandOver => "hand over",
        });
        let kinds = ["status", "way", "no way", "noted", "refused"];
        formats::check("portwatch-reply.jsonl", &kinds, |reply| match reply {
            Reply::Status { .. } => "status",
            Reply::Way(Ok(_)) => "way",
            Reply::Way(Err(_)) => "no way",
            Reply::Noted => "noted",
            Reply::Refused(_) => "refused",
        });
    }
}
