//! Test programs that play scenes on one lab, in order, each with a name and a result of its own: one that fails hides
//! none of the others, and a filter plays one alone: `cargo test -p lab --test ports -- --include-ignored NAME`.
//! [`crate::scenes!`] makes such a program.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

use crate::control::{Lab, Options};
use crate::error::Result;
use crate::lifetime::find_program;

/// What scenes are played on: a lab, and what runs in it. Whatever goes wrong is a panic, as in any test.
pub trait Stage: Sized + Send + 'static {
    /// Makes it.
    fn build() -> Self;

    /// Holds what is to be so after each scene, as a part of that: what the next one begins with.
    fn check(&self) {}

    /// Takes it away.
    fn clear(self);
}

/// What a scene returns that leaves its stage in a state that no other can begin with: the next one gets another.
#[derive(Debug)]
pub struct Spent;

/// What a scene may return.
pub trait Outcome {
    /// Whether the stage is spent.
    const SPENT: bool;
}

impl Outcome for () {
    const SPENT: bool = false;
}

impl Outcome for Spent {
    const SPENT: bool = true;
}

/// Whether the stage of the scene that has returned this is spent.
pub fn is_spent<O: Outcome>(_: &O) -> bool {
    O::SPENT
}

/// A scene: its name, and what is done on a stage, which returns whether that is spent.
pub type Scene<S> = (&'static str, fn(&S) -> bool);

/// The program that plays these scenes, which are functions of a reference to a [`Stage`]. Its
/// entry in Cargo.toml says `harness = false`.
///
/// ```ignore
/// lab::scenes! { Stage: a_cable_is_pulled, switches::one_is_dead }
/// ```
#[macro_export]
macro_rules! scenes {
    ($stage:ty: $($scene:path),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::stage::play::<$stage>(vec![$((
                stringify!($scene),
                |stage| $crate::stage::is_spent(&$scene(stage)),
            )),+])
        }

        // The other harness would know of no scene, and be content.
        #[test]
        fn scenes_are_played() {
            panic!("the entry of this program in Cargo.toml does not say harness = false");
        }
    };
}

/// Plays those scenes that the program's arguments ask for, as a program of tests does. All of them need root. Each
/// scene prepares what it needs beyond the stage, so that it can be played without those before it.
pub fn play<S: Stage>(scenes: Vec<Scene<S>>) -> ExitCode {
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
            let built = place.take().unwrap_or_else(S::build);
            if play(&built) {
                built.clear();
            } else {
                built.check();
                *place = Some(built);
            }
            Ok(())
        };
        Trial::test(name, perform).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let mut place = stage.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(built) = place.take() {
        built.clear();
    }
    conclusion.exit_code()
}

/// Of a lab whose nodes have nothing of berth, for a test. Its name is this process's own, and of each lab in it, so
/// that the logs of one do not take the place of another's.
pub fn options(suffix: &str) -> Options {
    static LABS: AtomicU32 = AtomicU32::new(1);
    let number = match LABS.fetch_add(1, Ordering::SeqCst) {
        1 => String::new(),
        number => number.to_string(),
    };
    Options {
        quiet: true,
        ..Options::new(&format!("t{}-{suffix}{number}", std::process::id()))
    }
}

/// A lab of so many nodes, which have the agents that were built beside this program.
///
/// # Errors
/// As [`Lab::up`], and if nothing was built there.
pub fn up(suffix: &str, nodes: u8) -> Result<Lab> {
    let mut options = options(suffix);
    options.plan.agents = find_program()?.parent().map(Path::to_owned);
    options.plan.nodes = nodes;
    Lab::up(&options)
}
