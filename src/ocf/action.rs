//! The actions of an agent.

use std::fmt;

/// An action of the OCF resource agent API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Bring the resource into service; ends when it serves.
    Start,
    /// Take it out of service, forcefully if need be.
    Stop,
    /// Tell its state, regularly, where it should be running.
    Monitor,
    /// Tell its state once, where it may well not be running: a `monitor` with interval 0.
    Probe,
    /// Print the meta-data.
    MetaData,
    /// Check the parameters, at check level 10 also against this node.
    ValidateAll,
    /// Take over changed reloadable parameters.
    ReloadAgent,
    /// Print how the agent is called.
    Usage,
}

impl Action {
    /// Every action there is.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Start,
        Self::Stop,
        Self::Monitor,
        Self::Probe,
        Self::MetaData,
        Self::ValidateAll,
        Self::ReloadAgent,
        Self::Usage,
    ];

    /// The action called `word` on the command line. `monitor` is [`Action::Monitor`] here: only the
    /// interval makes it a probe.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "start" => Self::Start,
            "stop" => Self::Stop,
            "monitor" | "status" => Self::Monitor,
            "meta-data" => Self::MetaData,
            "validate-all" => Self::ValidateAll,
            "reload-agent" => Self::ReloadAgent,
            "usage" | "help" | "--help" | "-h" => Self::Usage,
            _ => return None,
        })
    }

    /// Its name on the command line and in the meta-data.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Monitor | Self::Probe => "monitor",
            Self::MetaData => "meta-data",
            Self::ValidateAll => "validate-all",
            Self::ReloadAgent => "reload-agent",
            Self::Usage => "usage",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood() {
        for action in Action::ALL {
            let expected = match action {
                Action::Probe => Action::Monitor,
                other => other,
            };
            assert_eq!(Action::parse(action.name()), Some(expected));
        }
    }

    #[test]
    fn actions_that_no_agent_has_are_unknown() {
        for word in [
            "promote",
            "demote",
            "notify",
            "migrate_to",
            "reload",
            "",
            "START",
        ] {
            assert_eq!(Action::parse(word), None, "{word}");
        }
    }
}
