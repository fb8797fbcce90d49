//! A repair that the keeper runs beside its other work: programs on the device, one after the other as
//! [`plan::repair`] decides, without ever waiting for them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit};

use crate::plan::repair::{
    Decision, Exit, FsKind, IMAGE, Policy, Program, Stage, Subject, after_stage, program, progress,
    verdict,
};
use crate::sys::program::command;

/// An image of the metadata may take no more room and time than this: access is blocked meanwhile, and
/// the image is only a precaution. Where a count in an XFS header is garbage, xfs_db can loop for ever
/// over what xfs_repair mends at once.
const IMAGE_SIZE: u64 = 1 << 30;
const IMAGE_TIME: Duration = Duration::from_secs(20);

/// What is kept of the programs' words.
const LOG_SIZE: usize = 16 << 20;

/// How many repairs' records are kept of a file system.
const RECORDS: usize = 4;

/// What is to be repaired.
#[derive(Debug, Clone)]
pub struct Patient {
    /// Its kind.
    pub kind: FsKind,
    /// How far the repair may go.
    pub policy: Policy,
    /// Its block device, which nothing else holds.
    pub device: PathBuf,
    /// Where the records of its repairs are kept, one directory each.
    pub records: PathBuf,
}

/// A repair under way.
#[derive(Debug)]
pub struct Repair {
    patient: Patient,
    record: PathBuf,
    log: Log,
    stage: Stage,
    percent: Option<u8>,
    running: Option<Running>,
    over: Option<Decision>,
}

/// A stage's program.
#[derive(Debug)]
struct Running {
    child: Child,
    exit: OwnedFd,
    words: Lines,
    progress: Lines,
    deadline: Option<Instant>,
}

impl Repair {
    /// Starts a repair with this stage.
    ///
    /// # Errors
    /// If its record can't be made or the program not be started: the repair is not under way then.
    pub fn start(patient: Patient, stage: Stage) -> io::Result<Self> {
        let record = make_record(&patient.records)?;
        let log = Log {
            file: File::create(record.join("log"))?,
            left: LOG_SIZE,
        };
        let mut repair = Self {
            patient,
            record,
            log,
            stage,
            percent: None,
            running: None,
            over: None,
        };
        repair.begin(stage)?;
        Ok(repair)
    }

    /// The descriptors to poll for input; [`Repair::advance`] is due when one has any, and at
    /// [`Repair::deadline`].
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let Some(running) = &self.running else {
            return vec![];
        };
        let pipes = [&running.words, &running.progress];
        let open = pipes.into_iter().filter_map(|l| l.pipe.as_ref());
        open.map(AsFd::as_fd)
            .chain([running.exit.as_fd()])
            .collect()
    }

    /// When [`Repair::advance`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().and_then(|r| r.deadline)
    }

    /// Does what can be done without waiting. Once it is over: what to do with the file system, which is
    /// never to run another stage.
    ///
    /// # Errors
    /// If a program can't be started or its end not be learned. The repair is over then too.
    pub fn advance(&mut self, now: Instant) -> io::Result<Option<Decision>> {
        let Some(running) = &mut self.running else {
            return Ok(self.over.clone());
        };
        for line in running.progress.read()? {
            self.percent = progress::e2fsck(&line).or(self.percent);
        }
        for line in running.words.read()? {
            self.percent = progress::phases(&line).or(self.percent);
            self.log.write(&line);
        }
        if let Some(status) = running.child.try_wait()? {
            // Its last words may have come since.
            for line in running.words.read()? {
                self.log.write(&line);
            }
            self.running = None;
            self.end(status)?;
            return Ok(self.over.clone());
        }
        if running.deadline.is_some_and(|d| d <= now) {
            running.deadline = None;
            self.log.write("not finished in time: ended by berth");
            running.child.kill()?;
        }
        Ok(None)
    }

    /// The repair in words, such as "repairing 43 %".
    pub fn describe(&self) -> String {
        match (self.stage, self.percent) {
            (Stage::Preserve, _) => "saving its metadata before the repair".to_owned(),
            (_, Some(percent)) => format!("repairing {percent} %"),
            (_, None) => "repairing".to_owned(),
        }
    }

    /// The stage it is in, or that was its last.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The directory with its log and what was kept of the damage.
    pub fn record(&self) -> &Path {
        &self.record
    }

    /// Starts `stage`, or goes on to the next if there is nothing to do in it.
    fn begin(&mut self, stage: Stage) -> io::Result<()> {
        let mut next = Decision::Run(stage);
        while let Decision::Run(stage) = next {
            (self.stage, self.percent) = (stage, None);
            let (progress, told) = pipe()?;
            let subject = Subject {
                device: &self.patient.device,
                keep: &self.record,
                progress: told.as_raw_fd(),
            };
            if let Some(program) = program(self.patient.kind, stage, subject) {
                self.log
                    .write(&format!("$ {} {}", program.name, program.args.join(" ")));
                self.running = Some(Running::start(&program, stage, progress, told)?);
                return Ok(());
            }
            let nothing_done = verdict(self.patient.kind, stage, Exit::Code(0));
            next = after_stage(self.patient.kind, self.patient.policy, stage, &nothing_done);
        }
        self.log.write(&format!("# {next:?}"));
        self.over = Some(next);
        Ok(())
    }

    fn end(&mut self, status: ExitStatus) -> io::Result<()> {
        let exit = match status.signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(status.code().unwrap_or(-1)),
        };
        self.log.write(&format!("# {status}"));
        if self.stage == Stage::Preserve && exit != Exit::Code(0) {
            // Half an image is none.
            let _ = fs::remove_file(self.record.join(IMAGE));
        }
        let verdict = verdict(self.patient.kind, self.stage, exit);
        let Patient { kind, policy, .. } = self.patient;
        match after_stage(kind, policy, self.stage, &verdict) {
            Decision::Run(stage) => self.begin(stage),
            over => {
                self.log.write(&format!("# {over:?}"));
                self.over = Some(over);
                Ok(())
            }
        }
    }
}

impl Drop for Repair {
    /// Ends the program. The device is free when [`crate::sys::device::Device::wait_free`] says so.
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            self.log.write("# ended by berth");
            // Both fail only if it has ended by itself.
            let _ = running.child.kill();
            let _ = running.child.try_wait();
        }
    }
}

impl Running {
    fn start(
        program: &Program,
        stage: Stage,
        progress: OwnedFd,
        told: OwnedFd,
    ) -> io::Result<Self> {
        let (words, said) = pipe()?;
        let mut command = command(program.name)?;
        command.args(&program.args);
        command.stdout(said.try_clone()?).stderr(said);
        let inherited = told.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made, on a descriptor that is open.
        unsafe {
            command.pre_exec(move || {
                rustix::io::fcntl_setfd(
                    BorrowedFd::borrow_raw(inherited),
                    rustix::io::FdFlags::empty(),
                )?;
                if stage == Stage::Preserve {
                    let size = Rlimit {
                        current: Some(IMAGE_SIZE),
                        maximum: Some(IMAGE_SIZE),
                    };
                    rustix::process::setrlimit(Resource::Fsize, size)?;
                }
                Ok(())
            });
        }
        let child = command
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("start {}: {e}", program.name)))?;
        let exit = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self {
            child,
            exit,
            words: Lines::new(words),
            progress: Lines::new(progress),
            deadline: (stage == Stage::Preserve).then(|| Instant::now() + IMAGE_TIME),
        })
    }
}

/// A pipe whose reading end never blocks; neither end is inherited.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&reader)?;
    rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// The lines that come through a pipe.
#[derive(Debug)]
struct Lines {
    pipe: Option<File>,
    rest: Vec<u8>,
}

impl Lines {
    /// What has no end after this is a line all the same.
    const LONGEST: usize = 4096;

    fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe: Some(pipe.into()),
            rest: vec![],
        }
    }

    /// The lines that came since; at most some 64 KiB at a time.
    fn read(&mut self) -> io::Result<Vec<String>> {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.rest.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let mut lines = vec![];
        while let Some(end) = self.rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if self.pipe.is_none() && !self.rest.is_empty() || self.rest.len() > Self::LONGEST {
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned());
        }
        Ok(lines)
    }
}

/// The log of a repair: what its programs said, up to a limit.
#[derive(Debug)]
struct Log {
    file: File,
    left: usize,
}

impl Log {
    /// A log that can't be written must not end a repair that can be done.
    fn write(&mut self, line: &str) {
        if let Some(left) = self.left.checked_sub(line.len() + 1) {
            self.left = left;
            let _ = writeln!(self.file, "{line}");
        }
    }
}

/// Makes the directory for this repair's record, named by the time, and drops the oldest ones.
fn make_record(records: &Path) -> io::Result<PathBuf> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", records.display()));
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder.recursive(true).create(records).map_err(named)?;
    let mut old: Vec<PathBuf> = fs::read_dir(records)
        .map_err(named)?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    old.sort();
    for path in old.iter().rev().skip(RECORDS - 1) {
        fs::remove_dir_all(path).map_err(named)?;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let record = records.join(format!("{:012}.{:09}", now.as_secs(), now.subsec_nanos()));
    builder.recursive(false).create(&record).map_err(named)?;
    Ok(record)
}
