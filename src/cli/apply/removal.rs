//! Removing what runs. It is stopped first, in the order of its constraints: as an orphan it would be
//! stopped without any.
//!
//! Until it is removed, an attempt that fails, is interrupted, or can't come to an end leaves nothing
//! behind: what was set to stop is set back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::Failure;
use super::super::signals::Signals;
use super::{Attempt, ELECTION_PATIENCE, PAUSE, attempt, change, say, soon};
use crate::cluster::cib::Cib;
use crate::cluster::merge;
use crate::cluster::status::{Instance, Status};
use crate::config::Config;
use crate::config::ids::OWNERSHIP;
use crate::config::problem::listing;

/// For the stop of what is removed; longer than any stop operation may take.
const PATIENCE: Duration = Duration::from_secs(700);

/// Changes the cluster as the file says, which takes `removed` away.
pub(crate) fn load(config: &Config, cib: &Cib, removed: &[String]) -> Result<Attempt, Failure> {
    let status = match removed {
        [] => Status::default(),
        _ => Status::read(soon())?,
    };
    let running = running(removed, &status);
    if running.is_empty() {
        return super::load(config, cib);
    }
    if let Some(why) = status.why_unstoppable(removed) {
        return Err(Failure::Refused(format!(
            "{why}: {} can't be stopped and removed now; nothing was changed",
            listing(&running)
        )));
    }
    let signals = Signals::hold()?;
    let done = stop(config, cib, (removed, running), &signals)
        .and_then(|()| {
            change(cib, |before| {
                check_interrupted(&signals)?;
                let attempt = attempt(config, before)?;
                Ok((attempt.merged.cib.clone(), attempt))
            })
        })
        .map_err(|failure| match signals.wait(Duration::ZERO) {
            // Whoever ends all of a session ends the tools too, so this is what the failure is.
            Ok(Some(name)) => undo(cib, removed, interrupted(name)),
            _ => undo(cib, removed, failure),
        });
    if done.is_err() {
        // The stop has ended already, as was asked, and its result says what is left.
        while let Ok(Some(_)) = signals.wait(Duration::ZERO) {}
    }
    done
}

/// An error if somebody asked for an end.
fn check_interrupted(signals: &Signals) -> Result<(), Failure> {
    match signals.wait(Duration::ZERO)? {
        Some(name) => Err(interrupted(name)),
        None => Ok(()),
    }
}

fn interrupted(signal: &str) -> Failure {
    Failure::Failed(format!("interrupted by {signal}"))
}

/// The resources of `ids` that run somewhere.
fn running(ids: &[String], status: &Status) -> Vec<String> {
    let active = |id: &&String| {
        let mut instances = status.instances.iter();
        instances.any(|i| i.id == **id && i.is_active())
    };
    ids.iter().filter(active).cloned().collect()
}

/// Stops `removed`, of which some run.
fn stop(
    config: &Config,
    cib: &Cib,
    (removed, mut left): (&[String], Vec<String>),
    signals: &Signals,
) -> Result<(), Failure> {
    change(cib, |before| {
        check_interrupted(signals)?;
        let attempt = attempt(config, before)?;
        let after = merge::stopping(&attempt.before, &attempt.merged.removed, OWNERSHIP);
        Ok((after, ()))
    })?;
    let deadline = Instant::now() + PATIENCE;
    let mut reported = Vec::new();
    let mut set = BTreeSet::new();
    while !left.is_empty() {
        if left != reported {
            say(format_args!("stopping {}", left.join(", ")));
            reported.clone_from(&left);
        }
        let status = Status::read(soon())?;
        left = running(removed, &status);
        if let Some(why) = status.why_unstoppable(removed) {
            return Err(Failure::Failed(why));
        }
        let own = status.instances.iter().filter(|i| left.contains(&i.id));
        if let Some(id) = set_to_run_again(own, &mut set) {
            return Err(Failure::Failed(format!(
                "somebody else has set {id} to run again"
            )));
        }
        if Instant::now() > deadline {
            return Err(Failure::Failed(format!(
                "{} not stopped in {} s",
                left.join(", "),
                PATIENCE.as_secs()
            )));
        }
        if let Some(name) = signals.wait(PAUSE)? {
            return Err(interrupted(name));
        }
    }
    Ok(())
}

/// One that was seen to be set to stop, and is not any more: another administrator has applied a file that
/// has it.
fn set_to_run_again<'s>(
    instances: impl Iterator<Item = &'s Instance>,
    set: &mut BTreeSet<String>,
) -> Option<String> {
    for instance in instances {
        if instance.is_kept_stopped() {
            set.insert(instance.id.clone());
        } else if set.contains(&instance.id) {
            return Some(instance.id.clone());
        }
    }
    None
}

/// Sets back what [`stop`] has set, and adds to the failure how that went. Whatever is in the way, it is tried for
/// a time: what stays set keeps a virtual server down.
fn undo(cib: &Cib, removed: &[String], failure: Failure) -> Failure {
    say(format_args!(
        "{}; setting back what was set to stop",
        failure.text()
    ));
    let begin = Instant::now();
    let undone = loop {
        let undone = change(cib, |before| {
            let own = OWNERSHIP.owned(&before);
            let are_there = removed.iter().any(|id| own.contains(id));
            Ok((merge::resuming(&before, removed, OWNERSHIP), are_there))
        });
        if undone.is_ok() || begin.elapsed() > ELECTION_PATIENCE {
            break undone;
        }
        std::thread::sleep(PAUSE);
    };
    let end = match undone {
        Ok(true) => "nothing was removed, and what was stopped may start again".to_owned(),
        // The answer to the last change was lost, and it was made.
        Ok(false) => "they were removed before that".to_owned(),
        Err(why) => format!(
            "nothing was removed, but target-role could not be set back ({}): apply again",
            why.text()
        ),
    };
    Failure::Failed(format!(
        "remove {}: {}; {end}",
        removed.join(", "),
        failure.text()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_seen_to_be_set_to_stop_can_be_set_to_run_again() {
        let instance = |target: Option<&str>| Instance {
            id: "alpha".into(),
            role: "Started".into(),
            target_role: target.map(str::to_owned),
            ..Instance::default()
        };
        let mut set = BTreeSet::new();
        let mut again = |target| set_to_run_again([instance(target)].iter(), &mut set);
        // The change has not come to this node yet.
        assert_eq!(again(None), None);
        assert_eq!(again(Some("Stopped")), None);
        assert_eq!(again(None), Some("alpha".to_owned()));
    }
}
