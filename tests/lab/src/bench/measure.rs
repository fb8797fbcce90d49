//! What one run of a program costs: processor time, wall time, processes and programs started.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::process;

/// The cost of one run, each figure the median of several.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// User and system time of the program and everything it waited for, in microseconds.
    pub cpu_us: u64,
    /// From before the fork to after the last wait, in microseconds.
    pub wall_us: u64,
    /// Processes and threads that it started, itself not counted.
    pub processes: u32,
    /// Programs executed by them, itself not counted.
    pub execs: u32,
    /// Its exit code; runs that end differently are an error.
    pub code: i32,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Its path and arguments.
    pub words: Vec<OsString>,
    /// Variables of its environment, beside the usual ones.
    pub environment: Vec<(String, String)>,
}

/// Runs `program` `runs` times for the times and once more, traced, for the counts.
///
/// # Errors
/// If it cannot be started, is killed by a signal, or does not end each time with the same code.
pub fn measure(program: &Program, runs: usize) -> io::Result<Cost> {
    let mut cpu = Vec::with_capacity(runs);
    let mut wall = Vec::with_capacity(runs);
    let (processes, execs, code) = trace(program)?;
    for _ in 0..runs.max(1) {
        let (used, took, ended) = time(program)?;
        if ended != code {
            return Err(io::Error::other(format!(
                "exit code {ended}, before that {code}"
            )));
        }
        cpu.push(used);
        wall.push(took);
    }
    Ok(Cost {
        cpu_us: median(&mut cpu),
        wall_us: median(&mut wall),
        processes,
        execs,
        code,
    })
}

fn command(program: &Program) -> io::Result<Command> {
    let [name, args @ ..] = &program.words[..] else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no program to measure",
        ));
    };
    let mut command = process::command(name);
    command
        .args(args)
        .envs(program.environment.iter().map(|(k, v)| (k, v)));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

fn time(program: &Program) -> io::Result<(u64, u64, i32)> {
    let begun = Instant::now();
    let child = command(program)?.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live local variables of the right type.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        return Err(io::Error::last_os_error());
    }
    let took = micros(begun.elapsed());
    if !libc::WIFEXITED(status) {
        return Err(io::Error::other(format!(
            "killed by signal {}",
            libc::WTERMSIG(status)
        )));
    }
    let used = |t: libc::timeval| {
        u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_usec).unwrap_or(0)
    };
    Ok((
        used(usage.ru_utime) + used(usage.ru_stime),
        took,
        libc::WEXITSTATUS(status),
    ))
}

/// Follows every descendant and counts forks and executions.
fn trace(program: &Program) -> io::Result<(u32, u32, i32)> {
    let mut command = command(program)?;
    // SAFETY: PTRACE_TRACEME is a single system call without memory effects.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let child = Pid::from_raw(i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?);
    waitpid(child, None)?;
    ptrace::setoptions(
        child,
        ptrace::Options::PTRACE_O_TRACEFORK
            | ptrace::Options::PTRACE_O_TRACEVFORK
            | ptrace::Options::PTRACE_O_TRACECLONE
            | ptrace::Options::PTRACE_O_TRACEEXEC
            | ptrace::Options::PTRACE_O_EXITKILL,
    )?;
    ptrace::cont(child, None)?;
    let (mut processes, mut execs) = (0, 0);
    loop {
        // Only this thread's: another thread's children are for that one to wait for.
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))? {
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == libc::PTRACE_EVENT_EXEC {
                    execs += 1;
                } else {
                    processes += 1;
                }
                ptrace::cont(pid, None)?;
            }
            // A new process starts with a stop that is the tracer's, not its own.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) => ptrace::cont(pid, None)?,
            WaitStatus::Stopped(pid, signal) => ptrace::cont(pid, signal)?,
            WaitStatus::Exited(pid, code) if pid == child => return Ok((processes, execs, code)),
            WaitStatus::Signaled(pid, signal, _) if pid == child => {
                return Err(io::Error::other(format!("killed by {signal}")));
            }
            _ => {}
        }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// The median, the lower one of two.
pub fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_programs_are_counted_without_the_program_itself() {
        let words = ["/bin/sh", "-c", "/bin/true; /bin/true; (:); exit 3"].map(OsString::from);
        let program = Program {
            words: words.into(),
            ..Program::default()
        };
        let cost = measure(&program, 3).unwrap();
        assert_eq!((cost.processes, cost.execs, cost.code), (3, 2, 3));
        assert!(cost.wall_us > 0);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_lower_one() {
        assert_eq!(median(&mut [4, 1, 3, 2]), 2);
    }
}
