//! The whole life of an agent's process.

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic;
use std::time::{Duration, Instant};

use super::action::Action;
use super::agent::{ActionDecl, Agent, Context};
use super::env::Env;
use super::error::Error;
use super::exit::{ExitCode, exit_code};
use super::state::State;
use super::{meta, reason, usage, watchdog};
use crate::log;
use crate::plan::budget::Budget;
use crate::sys::stderr;

/// What may be told of the state that an action found.
pub(crate) type Told = fn(&Context<'_>, State) -> State;

/// Serves the action on the command line and ends the process with its exit code; `told` has the last
/// word on what that says. Further arguments are ignored, as the API asks.
pub(crate) fn run(agent: &'static Agent, told: Told) -> ! {
    let env = Env::from_process();
    let word = std::env::args_os().nth(1);
    end(serve(agent, told, env, word))
}

#[allow(clippy::disallowed_methods)] // an agent ends here
fn end(code: ExitCode) -> ! {
    std::process::exit(code as i32)
}

fn serve(agent: &'static Agent, told: Told, env: Env, word: Option<OsString>) -> ExitCode {
    let word = word.unwrap_or_default();
    match word.to_str().and_then(Action::parse) {
        Some(Action::MetaData) => print(&meta::xml(agent)),
        Some(Action::Usage) => print(&usage::text(agent)),
        Some(action) => {
            let prefix = env.reason_prefix();
            log::init(agent.name, |name| env.variable(name));
            report_panics(prefix.clone());
            let (action, outcome) = act(agent, told, env, action);
            report(&prefix, action, &outcome);
            exit_code(action, &outcome)
        }
        None => {
            let error = unknown(agent, &word.to_string_lossy());
            tell(&env.reason_prefix(), &error.to_string());
            exit_code(Action::Usage, &Err(error))
        }
    }
}

fn unknown(agent: &Agent, word: &str) -> Error {
    let word: String = word.chars().take(32).collect();
    let known = agent.action_names().join(", ");
    Error::unimplemented(format!("action \"{word}\" is none of {known}"))
}

/// Carries out `action` and tells what it turned out to be: a monitor may be a probe.
fn act(agent: &Agent, told: Told, env: Env, action: Action) -> (Action, Result<State, Error>) {
    let action = match action {
        Action::Monitor if env.interval().is_zero() => Action::Probe,
        other => other,
    };
    let Some(declaration) = agent.declaration(action, env.check_level()) else {
        return (action, Err(unknown(agent, action.name())));
    };
    let timeout = Duration::from_secs(u64::from(declaration.timeout));
    let env = env.with_default_timeout(timeout);
    (action, attempt(agent, told, &env, action, declaration))
}

fn attempt(
    agent: &Agent,
    told: Told,
    env: &Env,
    action: Action,
    declaration: &ActionDecl,
) -> Result<State, Error> {
    let begun = Instant::now();
    env.check_version()?;
    env.check_instance()?;
    let subject = format!("{action} of {}", env.instance());
    let budget = Budget::new(env.timeout());
    watchdog::arm(&env.reason_prefix(), &subject, budget.watchdog())
        .map_err(|e| Error::from(e).context("start the watchdog"))?;
    if matches!(
        action,
        Action::Start | Action::ValidateAll | Action::ReloadAgent
    ) {
        agent.check_parameters(env)?;
    }
    let context = Context {
        env,
        action,
        begun,
        deadline: begun + budget.end(),
    };
    let state = (declaration.handler)(&context)?;
    Ok(told(&context, state))
}

/// Logs a bad outcome, and leaves the exit reason as the last line of standard error.
fn report(prefix: &str, action: Action, outcome: &Result<State, Error>) {
    match outcome {
        Err(error) => {
            let text = error.to_string();
            log::error(format_args!("{action}: {text}"));
            tell(prefix, &text);
        }
        Ok(State::Failed(text)) => {
            log::error(format_args!("{action}: {text}"));
            tell(prefix, text);
        }
        Ok(State::Degraded(text)) => {
            log::warn(format_args!("{action}: degraded: {text}"));
            tell(prefix, text);
        }
        Ok(state) => {
            let code = exit_code(action, outcome);
            if code == ExitCode::Generic {
                tell(prefix, &contradiction(action, state));
            }
        }
    }
}

/// A reason where an action ended well but in a state that it should not have left.
fn contradiction(action: Action, state: &State) -> String {
    match (action, state) {
        (Action::Stop, _) => "still running after stop".to_owned(),
        (_, _) => format!("not running after {action}"),
    }
}

fn tell(prefix: &str, text: &str) {
    stderr::line(&format!("{prefix}{}", reason::line(text)));
}

fn report_panics(prefix: String) {
    panic::set_hook(Box::new(move |info| {
        let text = format!("{}: {info}", log::MISTAKE);
        log::error(&text);
        tell(&prefix, &text);
        end(ExitCode::Generic);
    }));
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::Success,
        Err(_) => ExitCode::Generic,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::SAMPLE;
    use super::*;
    use crate::sys::command::{Output, command, run};

    /// The variable that makes [`process`] an agent's process instead of a test.
    const ACTION: &str = "SAMPLE_ACTION";

    fn all_is_told(_: &Context<'_>, state: State) -> State {
        state
    }

    /// Not a test by itself: the other tests start it as a process of its own, because an agent ends
    /// its process and owns its signals.
    #[test]
    fn process() {
        if let Some(word) = std::env::var_os(ACTION) {
            end(serve(&SAMPLE, all_is_told, Env::from_process(), Some(word)));
        }
    }

    fn sample(action: &str, variables: &[(&str, &str)]) -> Output {
        let mut c = command(std::env::current_exe().unwrap());
        c.args(["--exact", "ocf::run::tests::process", "--nocapture"])
            .env(ACTION, action)
            .envs(variables.iter().copied());
        run(c, Instant::now() + Duration::from_secs(60)).unwrap()
    }

    /// Exit code and last line of standard error.
    fn end_of(action: &str, variables: &[(&str, &str)]) -> (i32, String) {
        let output = sample(action, variables);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let last = stderr.lines().last().unwrap_or_default().to_owned();
        (output.status.code().unwrap(), last)
    }

    #[test]
    fn a_life_from_start_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let file = [("OCF_RESKEY_file", file.to_str().unwrap())];
        for (action, code) in [
            ("validate-all", 0),
            ("monitor", 7),
            ("stop", 0),
            ("start", 0),
            ("start", 0),
            ("monitor", 0),
            ("status", 0),
            ("stop", 0),
            ("monitor", 7),
        ] {
            assert_eq!(end_of(action, &file), (code, String::new()), "{action}");
        }
    }

    #[test]
    fn a_degraded_monitor_says_why() {
        let variables = [("OCF_RESKEY_file", "/"), ("OCF_RESKEY_mode", "slow")];
        let reason = "ocf-exit-reason:slow, as configured";
        assert_eq!(end_of("monitor", &variables), (190, reason.into()));
    }

    #[test]
    fn the_check_level_chooses_the_deepest_monitor_within_it() {
        for (level, code, reason) in [
            ("0", 0, ""),
            ("9", 0, ""),
            ("10", 1, "ocf-exit-reason:looked deeper, at 10"),
            ("20", 1, "ocf-exit-reason:looked deeper, at 10"),
        ] {
            let variables = [("OCF_RESKEY_file", "/"), ("OCF_CHECK_LEVEL", level)];
            assert_eq!(
                end_of("monitor", &variables),
                (code, reason.into()),
                "{level}"
            );
        }
    }

    #[test]
    fn a_probe_says_fatal_where_a_recurring_monitor_does_not() {
        let wrong = ("OCF_RESKEY_file", "x");
        let reason = "ocf-exit-reason:parameter file: 'x' is not an absolute path";
        assert_eq!(end_of("monitor", &[wrong]), (6, reason.into()));
        let interval = ("OCF_RESKEY_CRM_meta_interval", "10000");
        assert_eq!(end_of("monitor", &[wrong, interval]), (1, reason.into()));
    }

    #[test]
    fn parameters_are_checked_before_the_agent_acts() {
        for action in ["start", "validate-all"] {
            let variables = [
                ("OCF_RESKEY_file", "/nonexistent/x"),
                ("OCF_RESKEY_count", "10"),
            ];
            let reason = "ocf-exit-reason:parameter count: '10' is not a whole number from 1 to 9";
            assert_eq!(end_of(action, &variables), (6, reason.into()), "{action}");
        }
        let variables = [("OCF_RESKEY_file", "no path"), ("OCF_RESKEY_count", "10")];
        assert_eq!(end_of("stop", &variables), (0, String::new()));
    }

    #[test]
    fn an_unknown_action_comes_before_any_validation() {
        for action in ["promote", "notify", "reload", "reload-agent", "migrate_to"] {
            let (code, last) = end_of(action, &[("OCF_RESKEY_count", "10")]);
            assert_eq!(code, 3, "{action}");
            assert!(last.starts_with(&format!("ocf-exit-reason:action '{action}' is none of")));
        }
    }

    #[test]
    fn meta_data_and_usage_need_nothing() {
        for action in ["meta-data", "usage", "help", "--help"] {
            let output = sample(action, &[("OCF_RA_VERSION_MAJOR", "9")]);
            assert_eq!(output.status.code(), Some(0), "{action}");
            assert!(output.stderr.is_empty());
        }
    }

    #[test]
    fn another_version_of_the_api_is_refused() {
        let (code, last) = end_of("monitor", &[("OCF_RA_VERSION_MAJOR", "2")]);
        assert_eq!(code, 1);
        assert!(last.contains("OCF_RA_VERSION_MAJOR=2"), "{last}");
    }

    #[test]
    fn the_prefix_of_the_reason_is_the_callers() {
        let (_, last) = end_of("start", &[("OCF_EXIT_REASON_PREFIX", "because: ")]);
        assert_eq!(
            last,
            "because: required parameter file is not set (State file)"
        );
    }

    #[test]
    fn an_action_that_hangs_ends_itself_and_says_where() {
        let variables = [
            ("OCF_RESKEY_file", "/nonexistent/x"),
            ("OCF_RESKEY_mode", "stuck"),
            ("OCF_RESKEY_CRM_meta_timeout", "1200"),
            ("OCF_RESOURCE_INSTANCE", "alpha-file"),
        ];
        let begun = Instant::now();
        let reason =
            "ocf-exit-reason:start of alpha-file not finished after 1 s while waiting for nothing";
        assert_eq!(end_of("start", &variables), (1, reason.into()));
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn a_mistake_in_the_agent_is_a_reason_too() {
        let variables = [("OCF_RESKEY_file", "/x"), ("OCF_RESKEY_mode", "panic")];
        let (code, last) = end_of("start", &variables);
        assert_eq!(code, 1);
        assert!(
            last.starts_with("ocf-exit-reason:mistake in berth"),
            "{last}"
        );
        assert!(last.ends_with("no such mode"), "{last}");
    }

    #[test]
    fn an_action_that_left_the_wrong_state_failed() {
        assert_eq!(
            contradiction(Action::Stop, &State::Running),
            "still running after stop"
        );
        assert_eq!(
            contradiction(Action::Start, &State::Stopped),
            "not running after start"
        );
    }
}
