//! How the servers stand.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Condition, Fault};

/// The servers of a cell and where they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServersState {
    /// Their resource.
    pub(crate) resource: String,
    /// Where they stand together.
    pub(crate) phase: ServersPhase,
    /// Their resource is being stopped.
    #[serde(default)]
    pub(crate) leaves: bool,
    /// Their resource counts as started since before they could be: their home was kept from service.
    #[serde(default)]
    pub(crate) late: bool,
    /// Where the file system is that holds their state.
    pub(crate) home: HomeState,
    /// Each of them.
    #[serde(default)]
    pub(crate) servers: Vec<ServerState>,
    /// What they offer to clients, or are being told to.
    #[serde(default)]
    pub(crate) exports: Vec<ExportState>,
    /// What they do not serve as they should.
    #[serde(default)]
    pub(crate) unserved: Vec<Unserved>,
    /// Why they have failed.
    #[serde(default)]
    pub(crate) fault: Option<Fault>,
    /// Why the last change of what they export was not made.
    #[serde(default)]
    pub(crate) unchanged: Option<String>,
    /// Why what the cell's network lets in is not what it should.
    #[serde(default)]
    pub(crate) shut: Option<String>,
}

/// Where the servers stand together.
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

/// Where the file system stands that holds the servers' state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum HomeState {
    /// It is in service.
    Attached {
        /// Where.
        directory: PathBuf,
    },
    /// It is on its way, or kept from service.
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

/// Where a server stands.
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
    /// How their resource is, in the words of its monitor.
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
            // Their start is over: what goes on now is no failure of it.
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

    /// What is not as it should be of servers that run.
    fn restriction(&self) -> Option<String> {
        if let Some(why) = &self.unchanged {
            return Some(format!("exports not changed: {why}"));
        }
        let whys: Vec<&str> = self.unserved.iter().map(|one| one.why.as_str()).collect();
        let unserved = (!whys.is_empty()).then(|| whys.join("; "));
        unserved.or_else(|| self.shut.clone())
    }
}
