//! Waiting until everything is started.

use std::time::{Duration, Instant};

use super::super::Failure;
use super::{PAUSE, say, soon};
use crate::cluster::status::{Progress, Prospect, Status, prospect};
use crate::config::model::Model;

/// Returns when all resources of `model` run and the cluster has nothing left to do.
pub fn until_started(model: &Model, patience: Duration) -> Result<(), Failure> {
    let begin = Instant::now();
    let ids: Vec<String> = model.ids().map(str::to_owned).collect();
    let look = || {
        let status = Status::read(soon())?;
        let progress = Progress::of(&ids, &status, |id, on| model.needs(id, on));
        Ok::<_, Failure>((progress, status.obstacles))
    };
    let mut told = Vec::new();
    loop {
        let (progress, obstacles) = look()?;
        let late = begin.elapsed() > patience;
        let good = |progress: &Progress| {
            progress.waiting.is_empty() || (late && progress.is_only_monitored())
        };
        if good(&progress) || progress.is_stuck() {
            let prospect = prospect(&ids, soon())?;
            // What was seen may be over: only what is the same before and after that is believed.
            let (again, _) = look()?;
            match prospect {
                Prospect::Act(actions) if late => {
                    let text = format!("to come: {}", actions.join(", "));
                    return Err(failure(&again, &[text], patience));
                }
                Prospect::Nothing | Prospect::Forget if good(&progress) && good(&again) => {
                    succeed(&ids, &again, begin.elapsed());
                    return Ok(());
                }
                Prospect::Nothing if again.is_stuck() && again == progress => {
                    return Err(failure(&again, &obstacles, begin.elapsed()));
                }
                Prospect::Act(_) | Prospect::Nothing | Prospect::Forget => {}
            }
        }
        if late {
            return Err(failure(&progress, &obstacles, patience));
        }
        let waiting = progress.texts();
        if waiting != told && !waiting.is_empty() {
            say(format_args!("waiting for {}", waiting.join(", ")));
            told = waiting;
        }
        std::thread::sleep(PAUSE);
    }
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
