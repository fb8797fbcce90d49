//! From (action, outcome) to the exit code: the only mapping there is.

use super::action::Action;
use super::error::{Error, Fault};
use super::state::State;

/// An exit code of the OCF API. The codes of promotable agents (8, 9, 191) are not ours.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ExitCode {
    /// It worked; for a monitor: running.
    Success = 0,
    /// A soft error: Pacemaker may try again here.
    Generic = 1,
    /// This node can't: Pacemaker tries another one.
    Args = 2,
    /// No such action.
    Unimplemented = 3,
    /// Something is not installed on this node.
    Installed = 5,
    /// The configuration is wrong: Pacemaker tries no node.
    Configured = 6,
    /// Cleanly stopped.
    NotRunning = 7,
    /// Running, but not as well as it should.
    Degraded = 190,
}

/// The exit code of `action` with `outcome`.
///
/// Pacemaker reads 1 as soft, 2 to 5 as hard (not on this node again), 6 as fatal (on no node), and
/// any failed `stop` as a reason to fence. Hence:
/// - a fault of this node's is 2 where the resource is to be used, but 1 where its state is asked for,
///   because Pacemaker takes a probe's 2 for "not running": an agent that *knows* it is stopped says
///   [`State::Stopped`];
/// - a recurring monitor's wrong parameter is 1, because 6 would keep a server that ran until now from
///   every node; the restart that follows says 6 if it must;
/// - `start` says 0 when it left the resource degraded: 190 is a monitor's only.
pub(crate) fn exit_code(action: Action, outcome: &Result<State, Error>) -> ExitCode {
    match outcome {
        Ok(state) => of_state(action, state),
        Err(error) => of_fault(action, error.fault()),
    }
}

fn of_state(action: Action, state: &State) -> ExitCode {
    match (action, state) {
        (_, State::Failed(_)) => ExitCode::Generic,

        (Action::Start | Action::ReloadAgent, State::Running | State::Degraded(_)) => {
            ExitCode::Success
        }
        (Action::Start | Action::ReloadAgent, State::Stopped) => ExitCode::Generic,

        (Action::Stop, State::Stopped) => ExitCode::Success,
        (Action::Stop, State::Running | State::Degraded(_)) => ExitCode::Generic,

        (Action::Monitor | Action::Probe, State::Running) => ExitCode::Success,
        (Action::Monitor | Action::Probe, State::Stopped) => ExitCode::NotRunning,
        (Action::Monitor | Action::Probe, State::Degraded(_)) => ExitCode::Degraded,

        (Action::ValidateAll | Action::MetaData | Action::Usage, _) => ExitCode::Success,
    }
}

fn of_fault(action: Action, fault: Fault) -> ExitCode {
    match (fault, action) {
        (Fault::Config, Action::Stop | Action::Monitor) => ExitCode::Generic,
        (Fault::Config, _) => ExitCode::Configured,

        (Fault::Host, Action::Stop | Action::Monitor | Action::Probe) => ExitCode::Generic,
        (Fault::Host, _) => ExitCode::Args,

        (Fault::Missing, Action::Stop) => ExitCode::Generic,
        (Fault::Missing, _) => ExitCode::Installed,

        (Fault::Failed, _) => ExitCode::Generic,
        (Fault::Unimplemented, _) => ExitCode::Unimplemented,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: one row an action, first the four states (stopped, running, degraded,
    /// failed), then the five faults (config, host, missing, failed, unimplemented).
    #[rustfmt::skip]
    const TABLE: [(Action, [u8; 4], [u8; 5]); 8] = [
        (Action::Start,       [1, 0,   0, 1], [6, 2, 5, 1, 3]),
        (Action::Stop,        [0, 1,   1, 1], [1, 1, 1, 1, 3]),
        (Action::Monitor,     [7, 0, 190, 1], [1, 1, 5, 1, 3]),
        (Action::Probe,       [7, 0, 190, 1], [6, 1, 5, 1, 3]),
        (Action::MetaData,    [0, 0,   0, 1], [6, 2, 5, 1, 3]),
        (Action::ValidateAll, [0, 0,   0, 1], [6, 2, 5, 1, 3]),
        (Action::ReloadAgent, [1, 0,   0, 1], [6, 2, 5, 1, 3]),
        (Action::Usage,       [0, 0,   0, 1], [6, 2, 5, 1, 3]),
    ];

    #[test]
    fn the_table_names_every_action_once() {
        assert_eq!(TABLE.map(|(action, _, _)| action).len(), Action::ALL.len());
        for action in Action::ALL {
            assert!(TABLE.iter().any(|row| row.0 == action), "{action:?}");
        }
    }

    #[test]
    fn every_state_has_its_code() {
        for (action, codes, _) in TABLE {
            let states = [
                State::Stopped,
                State::Running,
                State::Degraded("slow".into()),
                State::Failed("half".into()),
            ];
            for (state, code) in states.into_iter().zip(codes) {
                let outcome = Ok(state);
                assert_eq!(
                    exit_code(action, &outcome) as u8,
                    code,
                    "{action:?} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn every_fault_has_its_code() {
        for (action, _, codes) in TABLE {
            for (fault, code) in Fault::ALL.into_iter().zip(codes) {
                let outcome = Err(Error::new(fault, "x"));
                assert_eq!(
                    exit_code(action, &outcome) as u8,
                    code,
                    "{action:?} {fault:?}"
                );
            }
        }
    }

    #[test]
    fn a_stop_is_never_fatal_and_never_says_not_running() {
        let (_, states, faults) = TABLE[1];
        assert!(
            states
                .iter()
                .chain(&faults)
                .all(|c| ![6, 7, 190].contains(c))
        );
    }
}
