//! A repair that the keeper runs beside its other work: programs on the device, one after the other as
//! [`plan::repair`](crate::plan::repair) decides, without ever waiting for them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cell::state::RepairProgress;
use crate::plan::repair::{
    Decision, Exit, FsKind, Policy, Program, Proof, Said, Stage, Subject, after_stage, kept,
    program, progress, undo, verdict,
};
use crate::sys::cgroup::{Entrance, Group};
use crate::sys::program::command;
use confined::{Confined, Given};
use lines::{Lines, pipe};
use record::Record;

mod confined;
mod lines;
mod record;

/// The most time for an image of the metadata: access is blocked meanwhile, and the image is only a precaution. If a
/// count in an XFS header is garbage, xfs_db can loop for ever over what xfs_repair repairs at once.
const IMAGE_TIME: Duration = Duration::from_secs(20);

/// A file system to be repaired.
#[derive(Debug, Clone)]
pub struct RepairTarget {
    /// The kind of the file system.
    pub kind: FsKind,
    /// How far the repair may go.
    pub policy: Policy,
    /// The proof that the file system is damaged.
    pub proof: Proof,
    /// The block device, which nobody else uses.
    pub device: PathBuf,
    /// Whether the file system has multiple-mount protection (ext4).
    pub mmp: bool,
    /// Where the records of its repairs are kept, one directory for each.
    pub records: PathBuf,
    /// The control group for the programs, if there are control groups.
    pub group: Option<Group>,
}

/// A repair under way.
#[derive(Debug)]
pub struct Repair {
    target: RepairTarget,
    record: Record,
    stage: Stage,
    percent: Option<u8>,
    running: Option<Running>,
    over: Option<Decision>,
}

/// The program of a stage, as it runs.
#[derive(Debug)]
struct Running {
    child: Confined,
    exit: OwnedFd,
    words: Lines,
    said: Said,
    progress: Lines,
    deadline: Option<Instant>,
}

impl Repair {
    /// Starts a repair with this stage.
    ///
    /// # Errors
    /// If the program can't be started: the repair is not under way then. `NotFound` if the program is not installed.
    pub fn start(target: RepairTarget, stage: Stage) -> io::Result<Self> {
        let mut record = Record::new(&target.records);
        if target.mmp {
            // e2fsck opens such a file system twice, and takes its own undo file for a broken one
            // (e2fsprogs 1.47.0: "Undo file corrupt").
            record.write("# e2fsck keeps nothing of a file system with multiple-mount protection");
            record.give_up_keeping();
        }
        let mut repair = Self {
            target,
            record,
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
        let open = pipes.into_iter().filter_map(|lines| lines.fd());
        open.chain([running.exit.as_fd()]).collect()
    }

    /// When [`Repair::advance`] is due at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().and_then(|r| r.deadline)
    }

    /// Does what can be done without waiting. Once the repair is over, returns what to do with the file system, which
    /// is never [`Decision::Run`].
    ///
    /// # Errors
    /// If a program can't be started, or can't be waited for. The repair is over then, too.
    pub fn advance(&mut self, now: Instant) -> io::Result<Option<Decision>> {
        let Some(running) = &mut self.running else {
            return Ok(self.over.clone());
        };
        for line in running.progress.read()? {
            self.percent = progress::e2fsck(&line).or(self.percent);
        }
        for line in running.words.read()? {
            self.percent = progress::phases(&line).or(self.percent);
            running.said.add(&line);
            self.record.write(&line);
        }
        if let Some(status) = running.child.try_wait()? {
            // The program may have written more before it ended.
            for line in running.words.read()? {
                running.said.add(&line);
                self.record.write(&line);
            }
            let said = std::mem::take(&mut running.said);
            self.running = None;
            self.end(status, &said)?;
            return Ok(self.over.clone());
        }
        if running.deadline.is_some_and(|d| d <= now) {
            running.deadline = None;
            self.record.write("not finished in time: ended by berth");
            running.child.kill()?;
        }
        Ok(None)
    }

    /// The progress of the repair.
    pub fn progress(&self) -> RepairProgress {
        RepairProgress::new(self.stage, self.percent)
    }

    /// The present stage of the repair, or its last.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// The directory with the log of the repair and what was kept of the damage.
    pub fn record(&self) -> &Path {
        self.record.directory()
    }

    /// Starts `stage`, or the next one if this kind of file system has no such stage.
    fn begin(&mut self, stage: Stage) -> io::Result<()> {
        let RepairTarget {
            kind,
            policy,
            proof,
            ..
        } = self.target;
        let mut next = Decision::Run(stage, proof);
        while let Decision::Run(stage, _) = next {
            (self.stage, self.percent) = (stage, None);
            let (progress, told) = pipe()?;
            let kept = self.keep(stage);
            let subject = Subject {
                device: &self.target.device,
                keep: self.record.directory(),
                room: kept.is_some(),
                progress: told.as_raw_fd(),
            };
            if let Some(program) = program(kind, stage, subject) {
                self.record
                    .write(&format!("$ {} {}", program.name, program.args.join(" ")));
                let given = Given {
                    device: &self.target.device,
                    kept: kept.as_ref().map(|(path, most)| (path.as_path(), *most)),
                    inherited: told.as_fd(),
                };
                let group = self.target.group.as_ref();
                let group = group.and_then(|group| group.entrance().ok());
                let running = Running::start(&program, stage, given, (progress, group))?;
                self.running = Some(running);
                return Ok(());
            }
            let nothing_done = verdict(kind, stage, Exit::Code(0), &Said::default());
            next = after_stage(kind, policy, proof, stage, &nothing_done);
        }
        self.record.write(&format!("# {next:?}"));
        self.over = Some(next);
        Ok(())
    }

    /// Makes the file in which a stage's program keeps what was on the device before. Returns its path and the limit of
    /// its size, in bytes.
    fn keep(&mut self, stage: Stage) -> Option<(PathBuf, u64)> {
        let name = kept(self.target.kind, stage)?;
        let room = self.record.room();
        match (room > 0).then(|| self.record.make_file(name))? {
            Ok(path) => Some((path, room)),
            Err(e) => {
                self.record
                    .write(&format!("# nothing is kept: {name}: {e}"));
                self.record.give_up_keeping();
                None
            }
        }
    }

    fn end(&mut self, status: ExitStatus, said: &Said) -> io::Result<()> {
        let exit = match status.signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(status.code().unwrap_or(-1)),
        };
        self.record.write(&format!("# {status}"));
        let RepairTarget {
            kind,
            policy,
            proof,
            ..
        } = self.target;
        if let Some(name) = kept(kind, self.stage) {
            // Half an image is of no use.
            let is_half = self.stage == Stage::Preserve && exit != Exit::Code(0);
            self.record.settle_file(name, is_half);
        }
        if let (Some(kept), Exit::Signal(libc::SIGXFSZ)) = (undo(kind, self.stage), exit) {
            // What the program overwrites has become more than there is room to keep. It repairs what it finds: begun
            // again without keeping anything, it finds the rest.
            self.record
                .write("# no room for what is overwritten: again, and it can't be taken back");
            self.record.drop_file(kept);
            self.record.give_up_keeping();
            return self.begin(self.stage);
        }
        if said.needs_backup() && undo(kind, self.stage).is_some() && self.record.room() > 0 {
            self.record
                .write("# e2fsck keeps nothing where it needs a backup of the superblock");
            self.record.give_up_keeping();
        }
        let verdict = verdict(kind, self.stage, exit, said);
        match after_stage(kind, policy, proof, self.stage, &verdict) {
            Decision::Run(stage, _) => self.begin(stage),
            over => {
                self.record.write(&format!("# {over:?}"));
                self.over = Some(over);
                Ok(())
            }
        }
    }
}

impl Repair {
    /// Kills the program, if one runs. Returns the child that is to be reaped. The device is free when
    /// [`crate::sys::device::Device::wait_free`] says so.
    pub(crate) fn cut_off(&mut self) -> Option<Pid> {
        let mut running = self.running.take()?;
        self.record.write("# ended by berth");
        // This fails only if the program has ended by itself.
        let _ = running.child.kill();
        running.child.pid()
    }
}

impl Drop for Repair {
    /// See [`Repair::cut_off`].
    fn drop(&mut self) {
        self.cut_off();
    }
}

impl Running {
    fn start(
        program: &Program,
        stage: Stage,
        given: Given<'_>,
        (progress, group): (OwnedFd, Option<Entrance>),
    ) -> io::Result<Self> {
        let (words, said) = pipe()?;
        let mut command = command(program.name)?;
        command.args(&program.args);
        command.stdout(said.try_clone()?).stderr(said);
        if let Some(group) = group {
            let enter = move || {
                // The group only protects others: without it the repair goes on all the same.
                let _ = group.enter();
                Ok(())
            };
            // SAFETY: as pre_exec wants it, the child makes one system call, on a descriptor that the closure owns.
            unsafe { command.pre_exec(enter) };
        }
        let child = Confined::start(command, given)
            .map_err(|e| io::Error::new(e.kind(), format!("start {}: {e}", program.name)))?;
        let exit = child.process()?;
        Ok(Self {
            child,
            exit,
            words: Lines::new(words),
            said: Said::default(),
            progress: Lines::new(progress),
            deadline: (stage == Stage::Preserve).then(|| Instant::now() + IMAGE_TIME),
        })
    }
}
