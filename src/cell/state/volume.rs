//! The state of a file system.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Condition, Fault, known};
use crate::plan::repair::{Finding, FsKind, Stage};

/// A file system and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeState {
    /// Its resource.
    pub(crate) resource: String,
    /// Its device as its parameter names it.
    pub(crate) device: String,
    /// Its block device, as it was found.
    #[serde(default)]
    pub(crate) found: Option<PathBuf>,
    /// Where it is attached in the cell, or is to be.
    pub directory: PathBuf,
    /// Its type, as it was found, or else as it is to be; `None` if that is not known, or a later version's word.
    #[serde(default, deserialize_with = "known")]
    pub(crate) fstype: Option<FsKind>,
    /// Where it stands.
    pub phase: VolumePhase,
    /// Whether its resource is being stopped.
    #[serde(default)]
    pub(crate) leaves: bool,
    /// What keeps it from full service where its phase alone does not say so: while a child works on it after its
    /// start was answered, or where the servers do not serve it as they should.
    #[serde(default)]
    pub(crate) degraded: Option<String>,
    /// What is, or was before its repair, wrong with it, until it is mounted; `None` also for a later version's word.
    #[serde(default, deserialize_with = "known")]
    pub defect: Option<Defect>,
}

/// Where a file system stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum VolumePhase {
    /// It is being mounted.
    Mounting,
    /// The keeper finds out whether the check that its multiple-mount protection shows still runs.
    BeingChecked {
        /// The node on which the check was started.
        node: String,
    },
    /// Its repair has failed, and the keeper finds out whether its device can be read.
    Examining,
    /// A program repairs it.
    Repairing(RepairProgress),
    /// It is mounted, but attached nowhere yet.
    Unattached,
    /// It is being attached in the cell.
    Attaching,
    /// It is in the cell.
    Attached,
    /// It is being detached from the cell.
    Detaching,
    /// It is kept from service until a person does something about it.
    Blocked {
        /// Why.
        why: String,
    },
    /// It is kept from service until its storage is tried again.
    Waiting {
        /// Why.
        why: String,
    },
    /// It could not be attached, was lost with its cell, or is detached.
    Failed(Fault),
    /// A later version's word.
    #[serde(other)]
    Unknown,
}

/// The progress of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairProgress {
    /// The stage it is in; `None`: a later version's word.
    #[serde(default, deserialize_with = "known")]
    pub(crate) stage: Option<Stage>,
    /// What it is doing, in words.
    pub what: String,
    /// How much of the stage is done, in percent, if the program says so.
    #[serde(default)]
    pub(crate) percent: Option<u8>,
}

impl RepairProgress {
    /// The progress of a repair in this stage, with the program's percentage.
    pub(crate) fn new(stage: Stage, percent: Option<u8>) -> Self {
        let what = match (stage, percent) {
            (Stage::Preserve, _) => "saving its metadata before the repair".to_owned(),
            (Stage::Release | Stage::Note, _) => {
                "clearing the mark of a check that was cut off".to_owned()
            }
            (_, Some(percent)) => format!("repairing {percent} %"),
            (_, None) => "repairing".to_owned(),
        };
        Self {
            stage: Some(stage),
            what,
            percent,
        }
    }
}

/// What is wrong with a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Defect {
    /// Its superblock says that it is damaged.
    Noted,
    /// Its check was killed, on the node of this name.
    CutOff(String),
    /// It can't be mounted.
    Unmountable(Examined),
}

/// A failed mount, and what it proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// What it proves.
    pub finding: Finding,
    /// The kernel's reason.
    pub(crate) said: String,
}

impl VolumeState {
    /// The condition of its resource, as its monitor reports it.
    pub(crate) fn condition(&self) -> Condition {
        self.phase.condition(self.leaves, self.degraded.as_deref())
    }
}

impl VolumePhase {
    /// The condition of the resource of a file system in this phase, which is being stopped or not, and degraded for
    /// this reason or not.
    pub(crate) fn condition(&self, leaves: bool, degraded: Option<&str>) -> Condition {
        let degraded = degraded.map(|why| Condition::Degraded(why.to_owned()));
        match self {
            _ if leaves => Condition::Changing("being detached".to_owned()),
            Self::Detaching => Condition::Changing("being detached".to_owned()),
            Self::Mounting
            | Self::BeingChecked { .. }
            | Self::Examining
            | Self::Unattached
            | Self::Attaching => {
                degraded.unwrap_or_else(|| Condition::Changing("being attached".to_owned()))
            }
            Self::Repairing(progress) => {
                Condition::Degraded(format!("{}, access blocked", progress.what))
            }
            Self::Attached => degraded.unwrap_or(Condition::Running),
            Self::Blocked { why } => Condition::Degraded(format!("access blocked: {why}")),
            Self::Waiting { why } => {
                Condition::Degraded(format!("access blocked, to be tried again: {why}"))
            }
            Self::Failed(fault) => Condition::Failed(fault.why.clone()),
            Self::Unknown => {
                Condition::Changing("doing what only a later version of berth knows".to_owned())
            }
        }
    }
}
