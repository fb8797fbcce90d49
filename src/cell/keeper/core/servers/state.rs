//! The state of the servers, for agents and people.

use std::collections::BTreeSet;

use super::{Home, Phase, Servers};
use crate::cell::init::protocol::Order;
use crate::cell::protocol::Condition;
use crate::cell::service;
use crate::cell::state::{
    ExportState, Fault, HomeState, ServerPhase, ServerState, ServersPhase, ServersState, Unserved,
};

impl From<Home> for HomeState {
    fn from(home: Home) -> Self {
        match home {
            Home::At(directory) => Self::Attached { directory },
            Home::Later(why, lasts) => Self::Awaited { why, lasts },
            Home::None(cause, why) => Self::Missing((cause, why).into()),
        }
    }
}

impl From<Phase> for ServersPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Waiting => Self::Waiting,
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Halting => Self::Halting,
            Phase::Halted => Self::Halted,
        }
    }
}

impl Servers {
    /// The state of the servers. `home` is the present state of their home, `shut` why the rules for connections to the
    /// cell are not the wanted ones.
    pub(crate) fn state(&self, home: Home, shut: Option<&str>) -> ServersState {
        let offered: BTreeSet<(&str, &str, &str)> = self
            .exported()
            .flat_map(|export| {
                let served = export.served(&self.spec).into_iter();
                served.map(|(protocol, name)| {
                    (
                        export.directory.as_str(),
                        service::server_of(protocol),
                        name,
                    )
                })
            })
            .collect();
        let exports = offered
            .into_iter()
            .map(|(directory, server, name)| ExportState {
                server: server.to_owned(),
                directory: directory.to_owned(),
                name: name.to_owned(),
            });
        ServersState {
            servers: self.each(),
            exports: exports.collect(),
            ..self.outline(home, shut)
        }
    }

    /// How their resource is, as [`Servers::state`] would tell it.
    pub(crate) fn condition(&self, home: Home, shut: Option<&str>) -> Condition {
        self.outline(home, shut).condition()
    }

    /// How they stand together, without what there is of each.
    fn outline(&self, home: Home, shut: Option<&str>) -> ServersState {
        let unserved = self.notes.all().map(|(directory, why)| Unserved {
            directory: directory.to_owned(),
            why: why.to_owned(),
        });
        ServersState {
            resource: self.member.resource.to_string(),
            phase: self.phase.into(),
            leaves: self.leaving.is_some(),
            late: self.late,
            home: home.into(),
            servers: Vec::new(),
            exports: Vec::new(),
            unserved: unserved.collect(),
            fault: self.fault.clone().map(Fault::from),
            unchanged: self.trouble.clone(),
            shut: shut.map(str::to_owned),
        }
    }

    /// The state of each server.
    fn each(&self) -> Vec<ServerState> {
        let is_to_come = |name: &str| {
            let mut steps = self.steps.iter().flatten();
            steps.any(|order| matches!(order, Order::Launch { server, .. } if server == name))
        };
        let phase = |name: &str| match self.phase {
            _ if self.failed.contains_key(name) => ServerPhase::Failed {
                why: self.failed[name].clone(),
            },
            Phase::Waiting => ServerPhase::Waiting,
            _ if self.launching.values().any(|server| server == name) => ServerPhase::Starting,
            _ if is_to_come(name) => ServerPhase::Waiting,
            Phase::Starting | Phase::Running => ServerPhase::Running,
            Phase::Halting => ServerPhase::Ending,
            Phase::Halted => ServerPhase::Ended,
        };
        let launches = service::launches(&self.spec).into_iter();
        launches
            .map(|launch| ServerState {
                phase: phase(&launch.name),
                name: launch.name,
            })
            .collect()
    }
}
