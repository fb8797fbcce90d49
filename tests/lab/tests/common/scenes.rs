//! Scenes that are played in order on one lab, each with a name and a result of its own: one that fails hides none of
//! the others, and a filter plays one alone.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

/// The scenes of these functions, by their names.
macro_rules! scenes {
    ($($play:ident),+ $(,)?) => {
        vec![$((stringify!($play), $play as fn(&_))),+]
    };
}
pub(crate) use scenes;

/// A scene: its name, and what is done on a stage.
pub type Scene<S> = (&'static str, fn(&S));

/// Plays those scenes that the program's arguments ask for, as a program of tests does. All of them need root. What
/// `build` makes, such as a lab with what runs in it, `clear` takes away at the end. Each scene prepares what it needs
/// beyond that, so that it can be played without those before it.
pub fn play<S: Send + 'static>(build: fn() -> S, clear: fn(S), scenes: Vec<Scene<S>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One after another, in their order.
    arguments.test_threads = Some(1);
    let stage = Arc::new(Mutex::new(None));
    let trials = scenes.into_iter().map(|(name, play)| {
        let stage = Arc::clone(&stage);
        let perform = move || {
            let mut place = stage.lock().unwrap_or_else(PoisonError::into_inner);
            // What a scene prints is not kept apart: it begins on a line of its own.
            println!();
            // One that panics takes the stage with it, in whatever state that is: the next scene has a new one.
            let built = place.take().unwrap_or_else(build);
            play(&built);
            *place = Some(built);
            Ok(())
        };
        Trial::test(name, perform).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let mut place = stage.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(built) = place.take() {
        clear(built);
    }
    conclusion.exit_code()
}
