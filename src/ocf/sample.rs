//! A small agent that the tests of this module share. Its state is a file.

use std::fs;
use std::path::Path;

use super::param::{boolean, integer, text};
use super::{Action, ActionDecl, Agent, Content, Context, Error, Explain, Optional, Param, State};

static FILE: Param<String> = Param::required(
    "file",
    "State file",
    "The file whose existence means \"running\"; .never <two> & the same.",
    absolute,
)
.unique_group("file");
static MODE: Param<String> = Param::with_default(
    "mode",
    "fast",
    "How",
    "How it is done.\n\nSlowly is surer.",
    text,
)
.content(Content::Select(&["fast", "slow", "stuck", "panic"]))
.reloadable();
static COUNT: Param<u32> =
    Param::with_default("count", "3", "Times", "Times.", integer::<1, 9>).content(Content::Integer);
static LOUD: Param<bool> =
    Param::with_default("loud", "no", "Noise", "Noise.", boolean).content(Content::Boolean);
static NOTE: Optional<String> = Optional::new("note", "Note", "Any note.", text);

pub static SAMPLE: Agent = Agent {
    name: "sample",
    shortdesc: "A file that exists",
    longdesc: "Creates a file.\n\n.Removes it again \\ in stop.",
    example: &[],
    cloned: false,
    params: &[&FILE, &MODE, &COUNT, &LOUD, &NOTE],
    actions: &[
        ActionDecl::once(Action::Start, 20, start),
        ActionDecl::once(Action::Stop, 20, stop),
        ActionDecl::monitor(20, 10, 0, monitor),
        ActionDecl::monitor(30, 60, 10, deep_monitor),
        ActionDecl::once(Action::ValidateAll, 5, |_| Ok(State::Stopped)),
    ],
};

fn absolute(value: &str) -> Result<String, String> {
    if !value.starts_with('/') {
        return Err("is not an absolute path".into());
    }
    text(value)
}

fn start(cx: &Context<'_>) -> Result<State, Error> {
    let file = FILE.get(cx.env)?;
    match MODE.get(cx.env)?.as_str() {
        "stuck" => {
            super::step("waiting for nothing");
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        "panic" => panic!("no such mode"),
        _ => fs::write(&file, "").context(format_args!("create {file}"))?,
    }
    monitor(cx)
}

fn stop(cx: &Context<'_>) -> Result<State, Error> {
    let Some(file) = FILE.try_get(cx.env) else {
        return Ok(State::Stopped);
    };
    match fs::remove_file(&file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(e).context(format_args!("remove {file}")))
        }
        _ => Ok(State::Stopped),
    }
}

fn monitor(cx: &Context<'_>) -> Result<State, Error> {
    Ok(match Path::new(&FILE.get(cx.env)?).exists() {
        true if MODE.get(cx.env)? == "slow" => State::Degraded("slow, as configured".into()),
        true => State::Running,
        false => State::Stopped,
    })
}

fn deep_monitor(cx: &Context<'_>) -> Result<State, Error> {
    Ok(State::Failed(format!("looked deeper, at {}", cx.depth)))
}
