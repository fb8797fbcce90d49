//! The state of the servers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Condition, Fault};

/// The servers of a cell and their state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServersState {
    /// Their resource.
    pub(crate) resource: String,
    /// The phase that they are in together.
    pub(crate) phase: ServersPhase,
    /// Whether their resource is being stopped.
    #[serde(default)]
    pub(crate) leaves: bool,
    /// Whether the start of their resource was answered before they could be started, as their home was kept from
    /// service.
    #[serde(default)]
    pub(crate) late: bool,
    /// The file system that holds their state.
    pub(crate) home: HomeState,
    /// The single servers.
    #[serde(default)]
    pub(crate) servers: Vec<ServerState>,
    /// The exports and shares that clients are offered, or are going to be.
    #[serde(default)]
    pub(crate) exports: Vec<ExportState>,
    /// The file systems that they do not serve as they should.
    #[serde(default)]
    pub(crate) unserved: Vec<Unserved>,
    /// Why they have failed.
    #[serde(default)]
    pub(crate) fault: Option<Fault>,
    /// Why the last change of their exports was not made.
    #[serde(default)]
    pub(crate) unchanged: Option<String>,
    /// Why the rules for connections to the cell are not the wanted ones.
    #[serde(default)]
    pub(crate) shut: Option<String>,
}

/// The phase of the servers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServersPhase {
    /// They wait for their home.
    Waiting,
    /// They are being started.
    Starting,
    /// They all have answered.
    Running,
    /// They are being ended.
    Halting,
    /// Nothing of them is in the cell.
    Halted,
    /// A later version's word.
    #[serde(other)]
    Unknown,
}

/// The state of the file system that holds the servers' state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum HomeState {
    /// It is in service.
    Attached {
        /// Where.
        directory: PathBuf,
    },
    /// It is being mounted, or kept from service.
    Awaited {
        /// Why.
        why: String,
        /// Whether that may last.
        lasts: bool,
    },
    /// There is none.
    Missing(Fault),
    /// A later version's word.
    #[serde(other)]
    Unknown,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerState {
    /// Its name: `nfs`, `smb`, `command 1`.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) phase: ServerPhase,
}

/// The phase of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum ServerPhase {
    /// It is yet to be started.
    Waiting,
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It is being ended, as far as it was started.
    Ending,
    /// Nothing of it is left.
    Ended,
    /// It could not be started, or has ended by itself.
    Failed {
        /// Why.
        why: String,
    },
    /// A later version's word.
    #[serde(other)]
    Unknown,
}

/// Something that a server offers to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportState {
    /// The server's name.
    pub(crate) server: String,
    /// Where the file system is attached.
    pub(crate) directory: String,
    /// What clients ask for: the directory again, or a share.
    pub(crate) name: String,
}

/// A file system that is not served as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unserved {
    /// Where it is attached.
    pub(crate) directory: String,
    /// Why not.
    pub(crate) why: String,
}

impl ServersState {
    /// The condition of their resource, as its monitor reports it.
    pub(crate) fn condition(&self) -> Condition {
        if self.leaves {
            return match self.phase {
                ServersPhase::Halted => Condition::Absent,
                _ => Condition::Changing("being stopped".to_owned()),
            };
        }
        if let Some(fault) = &self.fault {
            return Condition::Failed(fault.why.clone());
        }
        match (self.phase, &self.home) {
            (ServersPhase::Waiting, HomeState::Awaited { why, lasts: true }) => {
                Condition::Degraded(format!("waiting for home: {why}"))
            }
            // The start of their resource is over, and succeeded: this is no failure of it.
            (ServersPhase::Waiting | ServersPhase::Starting, _) if self.late => {
                Condition::Degraded("being started, now that home is in service".to_owned())
            }
            (ServersPhase::Waiting | ServersPhase::Starting, _) => {
                Condition::Changing("being started".to_owned())
            }
            (ServersPhase::Running, _) => match self.restriction() {
                Some(why) => Condition::Degraded(why),
                None => Condition::Running,
            },
            (ServersPhase::Halting | ServersPhase::Halted, _) => {
                Condition::Failed("not running".to_owned())
            }
            (ServersPhase::Unknown, _) => {
                Condition::Changing("doing what only a later version of berth knows".to_owned())
            }
        }
    }

    /// The restriction of servers that run, if there is one.
    fn restriction(&self) -> Option<String> {
        if let Some(why) = &self.unchanged {
            return Some(format!("exports not changed: {why}"));
        }
        let whys: Vec<&str> = self.unserved.iter().map(|one| one.why.as_str()).collect();
        let unserved = (!whys.is_empty()).then(|| whys.join("; "));
        unserved.or_else(|| self.shut.clone())
    }
}
