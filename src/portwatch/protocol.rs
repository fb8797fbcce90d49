//! The protocol between agents and the daemon: each request on a connection has one reply.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use super::state::NodeState;
use crate::plan::vip::record::TransitPath;
use crate::types::VserverName;

/// The name of the daemon's process.
pub(crate) const DAEMON: &str = "berth-portwatch";

/// The socket that the daemon listens on.
pub(crate) fn socket(runtime: &Path) -> PathBuf {
    runtime.join("portwatch.sock")
}

/// A request of an agent. Agent and daemon may be of versions that follow each other: the daemon refuses a request that
/// it does not know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// What is wrong with the ports? Asked by a monitor, which reports the answer to the cluster.
    Status,
    /// What does the daemon know of the node? Asked for people and tests.
    State,
    /// Take other parameters.
    Configure(Settings),
    /// Something of a VIP is missing that no event told of: look for what is missing and make it again.
    Mend,
    /// What is the path to the node with this virtual server, by which one of its VIPs is to be routed?
    #[serde(rename = "Way")]
    FindPath {
        /// The virtual server.
        vserver: VserverName,
        /// The VIP.
        vip: IpAddr,
    },
    /// End: no other daemon follows.
    End,
    /// Another daemon takes over: end, and leave everything as it is.
    HandOver,
}

/// The daemon's reply to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The reply to [`Request::Status`].
    Status {
        /// What is wrong with the ports, in one line.
        trouble: Option<String>,
        /// Why the cluster does not know the ports' state; `None` if it does.
        unpublished: Option<String>,
    },
    /// The reply to [`Request::State`].
    State(Box<NodeState>),
    /// The path, or why there is none.
    #[serde(rename = "Way")]
    Path(Result<TransitPath, String>),
    /// The request is accepted, and will be carried out.
    Noted,
    /// The request is refused, for this reason.
    Refused(String),
}

impl Reply {
    /// What of a node's state a monitor is told.
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
