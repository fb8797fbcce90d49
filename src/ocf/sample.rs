//! A small agent that the tests of this module share. Its state is a file.

use std::fs;
use std::path::Path;

use super::param::text;
use super::{Action, ActionDecl, Agent, Context, Error, Explain, Optional, Param, State};
use crate::spec::Parameter;

static FILE: Param<String> = Param::new(
    Parameter::text(
        "file",
        "State file",
        "The file whose existence means \"running\"; .never <two> & the same.",
    )
    .required()
    .unique_group("file"),
    absolute,
);
static MODE: Param<String> = Param::select(
    Parameter::select(
        "mode",
        &["fast", "slow", "stuck", "panic"],
        "How",
        "How it is done.\n\nSlowly is surer.",
    )
    .with_default("fast")
    .reloadable(),
    text,
);
static COUNT: Param<u32> =
    Param::integer(Parameter::integer("count", (1..=9, "3"), "Times", "Times."));
static NOTE: Optional<String> = Optional::new(Parameter::text("note", "Note", "Any note."), text);

pub(crate) static SAMPLE: Agent = Agent {
    name: "sample",
    shortdesc: "A file that exists",
    longdesc: "Creates a file.\n\n.Removes it again \\ in stop.",
    example: &[],
    cloned: false,
    params: &[&FILE, &MODE, &COUNT, &NOTE],
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

fn deep_monitor(_: &Context<'_>) -> Result<State, Error> {
    Ok(State::Failed("looked deeper, at 10".into()))
}
