//! Waiting until everything is started.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::Failure;
use super::{PAUSE, say, soon};
use crate::cluster::status::{Progress, Prospect, Status, prospect};
use crate::config::build::FAILURE_TIMEOUT;
use crate::config::model::Model;

/// How long after the cluster has given up on a resource it has tried it once more, on all nodes.
const RETRIED: Duration = Duration::from_secs(FAILURE_TIMEOUT as u64 + 15);

/// Returns when all resources of `model` run and the cluster has nothing left to do. `touched` are those of
/// which something has just been changed.
pub(crate) fn until_started(
    model: &Model,
    touched: &[String],
    patience: Duration,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let ids: Vec<String> = model.ids().map(str::to_owned).collect();
    let look = || {
        let status = Status::read(soon())?;
        let progress = Progress::of(&ids, &status, |id, on| model.needs(id, on));
        Ok::<_, Failure>((progress, status.obstacles))
    };
    let mut reported = Vec::new();
    let mut given_up = GivenUp::default();
    loop {
        let (progress, obstacles) = look()?;
        let late = begin.elapsed() > patience;
        if let Some(why) = not_in_force(&progress, &obstacles, touched) {
            return Err(Failure::Failed(why));
        }
        let good = |progress: &Progress, obstacles: &[String]| {
            obstacles.is_empty()
                && (progress.waiting.is_empty() || (late && progress.is_only_monitored()))
        };
        let hopeless = given_up.is_overdue(&progress, Instant::now()) || progress.is_stuck();
        if good(&progress, &obstacles) || hopeless {
            let prospect = prospect(&ids, soon())?;
            // The state may have changed meanwhile: it counts only if it is the same before and after.
            let (again, still) = look()?;
            match prospect {
                Prospect::Act(actions) if late => {
                    let text = format!("to come: {}", actions.join(", "));
                    return Err(failure(&again, &[text], patience));
                }
                Prospect::Nothing | Prospect::Forget
                    if good(&progress, &obstacles) && good(&again, &still) =>
                {
                    succeed(&ids, &again, begin.elapsed());
                    return Ok(());
                }
                Prospect::Nothing if hopeless && again == progress => {
                    return Err(failure(&again, &obstacles, begin.elapsed()));
                }
                Prospect::Act(_) | Prospect::Nothing | Prospect::Forget => {}
            }
        }
        if late {
            return Err(failure(&progress, &obstacles, patience));
        }
        let waiting = waited_for(&progress, &obstacles);
        if waiting != reported && !waiting.is_empty() {
            say(format_args!("waiting for {}", waiting.join(", ")));
            reported = waiting;
        }
        std::thread::sleep(PAUSE);
    }
}

/// What is waited for, and why that may be of use.
fn waited_for(progress: &Progress, obstacles: &[String]) -> Vec<String> {
    let mut texts = progress.texts();
    let given_up: Vec<&str> = progress.given_up().collect();
    if !given_up.is_empty() {
        texts.push(format!(
            "the next attempt with {} (the cluster makes one {FAILURE_TIMEOUT} s after a failure)",
            given_up.join(" and ")
        ));
    }
    texts.extend(
        obstacles
            .iter()
            .map(|text| format!("the end of this: {text}")),
    );
    texts
}

/// Since when the cluster has been seen to have given up on resources that have not been started since.
#[derive(Default)]
struct GivenUp(BTreeMap<String, Instant>);

impl GivenUp {
    /// Whether the cluster has tried one of them once more, and has given it up again.
    fn is_overdue(&mut self, progress: &Progress, now: Instant) -> bool {
        self.0
            .retain(|id, _| progress.waiting.iter().any(|w| w.id == *id));
        let mut overdue = false;
        for id in progress.given_up() {
            let since = *self.0.entry(id.to_owned()).or_insert(now);
            overdue |= now.duration_since(since) > RETRIED;
        }
        overdue
    }
}

/// Why the file is not what runs although all of it is started, where only a person can change that.
fn not_in_force(progress: &Progress, obstacles: &[String], touched: &[String]) -> Option<String> {
    if !progress.waiting.is_empty() {
        return None;
    }
    let held =
        |(id, node): &(String, String)| touched.contains(id).then(|| format!("{id} on {node}"));
    let held: Vec<String> = progress.unmanaged.iter().filter_map(held).collect();
    let why = match (obstacles, progress.unmanaged.as_slice(), held.as_slice()) {
        ([_, ..], [_, ..], _) => obstacles.join(", "),
        (.., [_, ..]) => format!("not managed by the cluster: {}", held.join(", ")),
        _ => return None,
    };
    Some(format!(
        "wait for everything to start: all of it runs, but changes are not in force yet: {why}"
    ))
}

fn succeed(ids: &[String], progress: &Progress, took: Duration) {
    let seconds = took.as_secs_f32();
    match progress.kept_stopped.as_slice() {
        [] => say(format_args!(
            "all {} resources started, {seconds:.1} s",
            ids.len()
        )),
        kept => say(format_args!(
            "{} of {} resources started, {seconds:.1} s; set to stay stopped (target-role): {}",
            ids.len() - kept.len(),
            ids.len(),
            kept.join(", ")
        )),
    }
    progress.notes.iter().for_each(say);
    for text in progress.texts() {
        say(format_args!("{text}: no result of its monitor yet"));
    }
}

fn failure(progress: &Progress, obstacles: &[String], took: Duration) -> Failure {
    let mut text = format!(
        "wait for everything to start: after {} s not started: {}",
        took.as_secs(),
        progress.texts().join(", ")
    );
    if progress.waiting.is_empty() {
        text = format!(
            "wait for everything to start: after {} s the cluster has not settled",
            took.as_secs()
        );
    }
    for obstacle in obstacles {
        text.push_str(&format!("; {obstacle}"));
    }
    Failure::Failed(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::element::Element;

    /// A cluster in which `a` is in this state, with a failure on record.
    fn seen(state: &str) -> Progress {
        let answer = format!(
            r#"<r><resources><resource id="a" {state}><node name="n1"/></resource></resources>
            <failures><failure op_key="a_start_0" node="n1" exitcode="1" task="start"/></failures></r>"#
        );
        let status = Status::from_answer(&Element::parse(&answer).unwrap());
        Progress::of(&["a".to_owned()], &status, |_, _| false)
    }

    #[test]
    fn what_was_given_up_is_hopeless_when_it_was_tried_once_more_in_vain() {
        let failed = seen(r#"role="Stopped""#);
        let tried = seen(r#"role="Stopped" pending="Starting""#);
        let started = seen(r#"role="Started""#);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut given_up = GivenUp::default();
        assert!(!given_up.is_overdue(&failed, begin));
        assert!(!given_up.is_overdue(&failed, after(60)));
        assert!(!given_up.is_overdue(&tried, after(90)));
        assert!(given_up.is_overdue(&failed, after(90)));
        // One that has failed while it ran is not given up before its recovery has failed.
        let broken = seen(r#"role="Started" failed="true""#);
        let mut later = GivenUp::default();
        assert!(!later.is_overdue(&broken, begin));
        assert!(!later.is_overdue(&failed, after(90)));
        assert!(later.is_overdue(&failed, after(180)));
        // Started meanwhile, it has all the time again.
        assert!(!given_up.is_overdue(&started, after(91)));
        assert!(!given_up.is_overdue(&failed, after(92)));
    }

    #[test]
    fn what_is_changed_and_left_alone_is_not_in_force() {
        let unmanaged = seen(r#"role="Started" managed="false""#);
        let (touched, obstacle) = (["a".to_owned()], ["maintenance".to_owned()]);
        let why = |obstacles: &[String], touched: &[String]| {
            let why = not_in_force(&unmanaged, obstacles, touched)?;
            why.split_once("yet: ").map(|(_, why)| why.to_owned())
        };
        assert_eq!(
            why(&[], &touched).unwrap(),
            "not managed by the cluster: a on n1"
        );
        assert_eq!(why(&[], &[]), None);
        assert_eq!(why(&obstacle, &[]).unwrap(), "maintenance");
        // Without a quorum the cluster may have one in a moment.
        let managed = seen(r#"role="Started""#);
        assert_eq!(not_in_force(&managed, &obstacle, &touched), None);
    }
}
