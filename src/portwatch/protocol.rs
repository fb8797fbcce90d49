//! What the agent and the daemon say to each other: one request on a connection, one reply.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use super::state::NodeState;
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
    /// How is it? A monitor asks, which tells the cluster what it is answered.
    Status,
    /// What is known of the node? Whoever wants to know asks.
    State,
    /// Go on with other parameters.
    Configure(Settings),
    /// Something is missing that no event told of: look for it.
    Mend,
    /// By which way is the node reached that has this virtual server, for one of its VIPs?
    #[serde(rename = "Way")]
    FindPath {
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
    /// What is known of the node.
    State(Box<NodeState>),
    /// The way, or why there is none.
    #[serde(rename = "Way")]
    Path(Result<TransitPath, String>),
    /// It is being done.
    Noted,
    /// It is not, for this reason.
    Refused(String),
}

impl Reply {
    /// What a monitor is told of a node.
    pub(crate) fn status(state: NodeState) -> Self {
        Self::Status {
            trouble: state.trouble,
            unpublished: state.unpublished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;
    use crate::portwatch::state::tests::{KINDS, kinds_of};

    #[test]
    fn daemons_and_agents_of_all_versions_understand_each_other() {
        let kinds = [
            "status",
            "state",
            "configure",
            "mend",
            "way",
            "end",
            "hand over",
        ];
        formats::check("portwatch-request.jsonl", &kinds, |request| match request {
            Request::Status => "status",
            Request::State => "state",
            Request::Configure(_) => "configure",
            Request::Mend => "mend",
            Request::FindPath { .. } => "way",
            Request::End => "end",
            Request::HandOver => "hand over",
        });
        let replies = ["status", "state", "way", "no way", "noted", "refused"];
        let kinds = [&replies[..], &KINDS].concat();
        formats::check_each("portwatch-reply.jsonl", &kinds, |reply| match reply {
            Reply::Status { .. } => vec!["status"],
            Reply::State(state) => [vec!["state"], kinds_of(state)].concat(),
            Reply::Path(Ok(_)) => vec!["way"],
            Reply::Path(Err(_)) => vec!["no way"],
            Reply::Noted => vec!["noted"],
            Reply::Refused(_) => vec!["refused"],
        });
    }
}
