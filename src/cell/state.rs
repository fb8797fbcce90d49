//! The state of a cell, from its keeper. The texts of monitors are made from it, and it is shown to people.
//!
//! An older version may read what a later one writes: what it does not know is left out or unknown then, and nothing
//! else is lost.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::cgroup::Limits;

mod servers;
mod volume;

pub(crate) use servers::{
    ExportState, HomeState, ServerPhase, ServerState, ServersPhase, ServersState, Unserved,
};
pub(crate) use volume::RepairProgress;
pub use volume::{Defect, Examined, VolumePhase, VolumeState};

/// The condition of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Not a member.
    Absent,
    /// Being started or stopped.
    Changing(String),
    /// In service.
    Running,
    /// A member, but with this restriction.
    Degraded(String),
    /// Not in service, for this reason, and nothing is being done about that.
    Failed(String),
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The parameters, on every node.
    Parameters,
    /// This node lacks something.
    Node,
    /// A program is not installed.
    Missing,
    /// It was tried, and has failed.
    Failed,
    /// The keeper does not know the request: it is of another version than the agent.
    Version,
}

/// Why something has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whose fault that is; `None`: a later version's word.
    #[serde(default, deserialize_with = "known")]
    pub(crate) cause: Option<Cause>,
    /// Why, in one line.
    pub(crate) why: String,
}

impl From<(Cause, String)> for Fault {
    fn from((cause, why): (Cause, String)) -> Self {
        Self {
            cause: Some(cause),
            why,
        }
    }
}

/// The state of a cell and of all its members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellState {
    /// The virtual server.
    pub(crate) vserver: String,
    /// The phase that the cell is in.
    #[serde(default)]
    pub(crate) phase: CellPhase,
    /// The cell's PID 1, as the host numbers it; `None` if there is none.
    #[serde(default)]
    pub(crate) init: Option<i32>,
    /// All members, each with the condition that its monitor reports.
    #[serde(default)]
    pub(crate) members: Vec<MemberState>,
    /// The file systems, by their resources.
    #[serde(default)]
    pub volumes: Vec<VolumeState>,
    /// The servers, if there are any.
    #[serde(default)]
    pub(crate) servers: Option<ServersState>,
    /// The limits of the cell, if it has or had servers that set them.
    #[serde(default)]
    pub limits: Option<LimitsState>,
    /// How many entries of these lists are left out because a message has no room for them.
    #[serde(default)]
    pub(crate) left_out: usize,
}

/// The phase of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CellPhase {
    /// There is none (yet).
    Absent,
    /// It is being built.
    Building,
    /// It can be used.
    Ready,
    /// It is being ended.
    Ending,
    /// Not told, or a later version's word.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A member of the cell: a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberState {
    /// Its id.
    pub(crate) resource: String,
    /// How it is; `None`: a later version's word.
    #[serde(default, deserialize_with = "known")]
    pub(crate) condition: Option<Condition>,
}

/// The limits of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsState {
    /// The wanted limits; `None`: a later version's word.
    #[serde(default, deserialize_with = "known")]
    pub(crate) wanted: Option<Limits>,
    /// Whether they are still being put in force.
    #[serde(default)]
    pub(crate) pending: bool,
    /// Why they are not in force, or not all of them.
    #[serde(default)]
    pub missing: Option<String>,
}

impl CellState {
    /// The file system of this resource.
    pub fn volume(&self, resource: &str) -> Option<&VolumeState> {
        self.volumes.iter().find(|v| v.resource == resource)
    }

    /// The condition of this resource, as its monitor reports it; `None` if it is not known: a later version has a word
    /// of its own for it, it was left out, or the keeper was asked for other resources only.
    pub fn condition(&self, resource: &str) -> Option<&Condition> {
        match self.members.iter().find(|m| m.resource == resource) {
            Some(member) => member.condition.as_ref(),
            None => {
                let is_whole = self.left_out == 0 && self.phase != CellPhase::Unknown;
                is_whole.then_some(&Condition::Absent)
            }
        }
    }

    /// The state as far as it fits into a text of this many bytes: lists are cut, and what is left out is counted.
    /// Members come first, then file systems, then servers. What is not in a list is short.
    #[must_use]
    pub(crate) fn within(mut self, limit: usize) -> Self {
        let mut room = Room(limit);
        let mut left_out = room.fill(&mut self.members) + room.fill(&mut self.volumes);
        if let Some(servers) = &mut self.servers {
            let exports = std::mem::take(&mut servers.exports);
            let unserved = std::mem::take(&mut servers.unserved);
            let list = std::mem::take(&mut servers.servers);
            if room.take(servers) {
                (servers.exports, servers.unserved, servers.servers) = (exports, unserved, list);
                left_out += room.fill(&mut servers.servers)
                    + room.fill(&mut servers.unserved)
                    + room.fill(&mut servers.exports);
            } else {
                left_out += 1;
                self.servers = None;
            }
        }
        self.left_out = left_out;
        self
    }
}

/// The room that is left in a message, in bytes.
struct Room(usize);

impl Room {
    /// Takes the room for this, if there is enough. Returns whether there was.
    fn take(&mut self, what: &impl Serialize) -> bool {
        let length = serde_json::to_vec(what).map_or(usize::MAX, |text| text.len());
        // The separator to the next entry takes room, too.
        let left = self.0.checked_sub(length.saturating_add(1));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Keeps as many entries as there is room for. Returns how many are left out.
    fn fill<T: Serialize>(&mut self, list: &mut Vec<T>) -> usize {
        let before = list.len();
        list.retain(|one| self.take(one));
        before - list.len()
    }
}

/// Reads a value; `None` if it is a word that only a later version knows.
fn known<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests;
