//! The proof that nothing of a file system is left on this node, by what the kernel shows of its device.
//!
//! The device that the resource has attached is on record by its number. Without a record it is the one that the keeper
//! names, or else the one that the parameter names; if a UUID or label leads to several devices, each must be free.

use std::cell::Cell as Remembered;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{DEVICE, SEARCH_LIMIT};
use crate::cell::attachment::{self, Attachment, Whereabouts};
use crate::cell::owner::{self, Cell};
use crate::cell::protocol::{Condition, Reply};
use crate::log;
use crate::ocf::{Context, Error, State, step};
use crate::plan::holding::{self, Claim, Doubt, Use, Verdict};
use crate::plan::repair::FsKind;
use crate::sys::device::{Device, DeviceSpec, Pause, Search, describe};
use crate::sys::mounted::{self, Namespace};
use crate::types::VserverName;

/// How long the open of a device may take if the resource has not had it, or if nobody waits for the device.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// How long a cell that has ended mostly takes until its devices are free.
const DYING_LIMIT: Duration = Duration::from_millis(50);

/// How long a claim by an unknown holder may last in a stop before it counts as somebody else's.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(2);

/// What is known of a resource's file system without looking at its device.
pub(crate) struct Known {
    /// Its record.
    record: io::Result<Option<Attachment>>,
    /// The virtual servers in whose cell it may be.
    vservers: Vec<VserverName>,
    /// The device's path, according to the keeper.
    told: Option<PathBuf>,
    /// Whether the keeper, asked for the resource, knows nothing of it.
    disowned: bool,
    /// The directory in the cell.
    directory: Option<PathBuf>,
    /// Whether it was logged that a mount table can't be read.
    complained: Remembered<bool>,
}

/// The result of a look at a device.
struct Look {
    verdict: Verdict,
    /// How doubtful it is that the device is somebody else's, if that is the verdict.
    doubt: Doubt,
    /// Whether the device is mounted in a cell that the resource may be in, or in one that nobody knows.
    in_cell: bool,
}

/// A device that is to be proven free.
struct Target {
    device: Device,
    /// Whether no device node leads to it any more.
    vanished: bool,
    /// Whether the resource may have had it: then an unknown holder may be what is left of the resource.
    ours: bool,
    /// When it was last seen in a state in which the holder may well be what is left of the resource.
    graver: Option<Instant>,
}

impl Known {
    /// Reads the record of the resource. A record that can't be read proves nothing.
    pub(crate) fn new(cx: &Context<'_>, vserver: Option<VserverName>) -> Self {
        let record = Attachment::read(attachment::runtime(), cx.env.instance());
        if let Err(e) = &record {
            log::warn(e);
        }
        let recorded = record.iter().flatten().map(|r| r.vserver.clone());
        let mut vservers: Vec<VserverName> = recorded.chain(vserver).collect();
        vservers.dedup();
        Self {
            record,
            vservers,
            told: None,
            disowned: false,
            directory: super::DIRECTORY.try_get(cx.env),
            complained: Remembered::new(false),
        }
    }

    /// The virtual servers in whose cell it may be, the likeliest first.
    pub(crate) fn vservers(&self) -> &[VserverName] {
        &self.vservers
    }

    /// Adds what a keeper says of the resource.
    pub(crate) fn consider(&mut self, vserver: &VserverName, reply: &Reply) {
        match reply {
            Reply::Member {
                condition: Condition::Absent,
                ..
            }
            | Reply::NoCell => self.disowned = true,
            Reply::Member { device, .. } => {
                self.told = device.clone();
                if !self.vservers.iter().any(|v| v == vserver) {
                    self.vservers.push(vserver.clone());
                }
            }
            _ => {}
        }
    }

    /// Proves that nothing of the resource is left: [`State::Stopped`], and its record is deleted then. Otherwise
    /// [`State::Failed`] after `patience`, with the holder of the device. If `ending`, processes that are left in a
    /// cell that has ended are killed, too: if one that has joined it from outside made the stop fail, the node would
    /// be fenced.
    ///
    /// An unknown holder may be what is left of the resource even if nothing is on record. A stop waits for that as
    /// long as it can, since another node writes to the file system next. Any other action takes it for somebody else:
    /// if a node reported a failure of what it never had, the cluster would stop the resource where it is well.
    ///
    /// # Errors
    /// If the kernel's state can't be read.
    pub(crate) fn prove(
        &self,
        cx: &Context<'_>,
        patience: Duration,
        ending: bool,
    ) -> Result<State, Error> {
        step("looking for the device");
        let mut targets = match self.targets(cx)? {
            Ok(targets) => targets,
            Err(why) => return Ok(State::Failed(why)),
        };
        if targets.is_empty() && !self.disowned && !self.is_ours() {
            targets.extend(self.attached());
        }
        step("looking whether the device is free");
        let begun = Instant::now();
        let deadline = cx.deadline.min(begun + patience);
        let mut pause = Pause::default();
        let unknown = match ending {
            true => (UNKNOWN_LIMIT, UNKNOWN_LIMIT.max(patience * 2 / 3)),
            false => (patience, patience),
        };
        loop {
            let (mut held, mut doubted) = (None, None);
            let mut left = Vec::with_capacity(targets.len());
            for mut target in targets {
                let look = self.look(&target, cx, begun, ending);
                let is_sure = match look.doubt {
                    Doubt::None => true,
                    // The kernel shows the end of a file system a moment before it releases the device.
                    Doubt::Some => target.graver.unwrap_or(begun).elapsed() >= unknown.0,
                    Doubt::Grave => begun.elapsed() >= unknown.1,
                };
                if look.doubt == Doubt::Grave {
                    target.graver = Some(Instant::now());
                }
                let path = target.device.path.display();
                match look.verdict {
                    Verdict::Free => continue,
                    Verdict::Foreign(why) if is_sure => {
                        log::warn(format_args!(
                            "{path} is not used by this resource, but {why}"
                        ));
                        continue;
                    }
                    Verdict::Foreign(why) => doubted = Some(format!("{path}: {why}")),
                    Verdict::Held(why) => held = Some(format!("{path} is still held: {why}")),
                }
                // A device that was mounted in a cell of the resource counts as its own from now on.
                target.ours |= look.in_cell;
                left.push(target);
            }
            targets = left;
            if targets.is_empty() {
                break;
            }
            if pause.until(deadline) {
                continue;
            }
            match (held, doubted) {
                (None, Some(why)) if !ending => {
                    log::warn(format_args!(
                        "{why}; not by this resource, for all that shows"
                    ));
                    break;
                }
                (Some(why), _) | (None, Some(why)) => return Ok(State::Failed(why)),
                (None, None) => break,
            }
        }
        if let Err(e) = Attachment::forget(attachment::runtime(), cx.env.instance()) {
            log::warn(e);
        }
        Ok(State::Stopped)
    }

    /// Whether the resource may have had the device: then an unknown holder may be what is left of the resource.
    fn is_ours(&self) -> bool {
        !matches!(self.record, Ok(None)) || self.told.is_some()
    }

    /// The devices that must be free, or why they can't be known.
    fn targets(&self, cx: &Context<'_>) -> Result<Result<Vec<Target>, String>, Error> {
        let there = |device| Target {
            device,
            vanished: false,
            ours: self.is_ours(),
            graver: None,
        };
        let gone = |device| Target {
            vanished: true,
            ..there(device)
        };
        if let Ok(Some(record)) = &self.record {
            let target = match record.find() {
                Whereabouts::There(device) => there(device),
                Whereabouts::Vanished(device) => gone(device),
                Whereabouts::Replaced(device) => Target {
                    ours: false,
                    ..there(device)
                },
            };
            return Ok(Ok(vec![target]));
        }
        let path = match (&self.told, DEVICE.try_get(cx.env)) {
            (Some(path), _) => path.clone(),
            (None, Some(DeviceSpec::Path(path))) => path,
            (None, Some(name)) => return self.search(cx, &name),
            (None, None) => return Ok(Ok(vec![])),
        };
        Ok(match Device::at(&path) {
            Ok(device) => Ok(vec![there(device)]),
            Err(e) if self.is_ours() && e.kind() != io::ErrorKind::InvalidInput => {
                let device = Device {
                    path,
                    number: 0,
                    superblock: None,
                };
                Ok(vec![gone(device)])
            }
            // The name never led to a device here.
            Err(_) => Ok(vec![]),
        })
    }

    /// All devices that a UUID or label may lead to.
    fn search(
        &self,
        cx: &Context<'_>,
        name: &DeviceSpec,
    ) -> Result<Result<Vec<Target>, String>, Error> {
        let deadline = cx.deadline.min(Instant::now() + SEARCH_LIMIT);
        let search = search_until(name, deadline)?;
        if search.found.is_empty() {
            if let Some(path) = search.silent.first() {
                let text = format!(
                    "{name} not found so far: {} does not answer",
                    path.display()
                );
                if self.is_ours() {
                    return Ok(Err(text));
                }
                // Nothing of berth's has been here: a dead device is no reason to fail a stop and have the node fenced.
                log::warn(format_args!("{text}; this node has nothing attached by it"));
            }
        }
        let found = search.found.into_iter().map(|device| Target {
            device,
            vanished: false,
            ours: self.is_ours(),
            graver: None,
        });
        // A device that only looks like a part of another one may have been attached before it did. A device that
        // really is a part is not the resource's.
        let members = search.members.iter().filter_map(|(path, _)| {
            Some(Target {
                device: Device::at(path).ok()?,
                vanished: false,
                ours: false,
                graver: None,
            })
        });
        Ok(Ok(found.chain(members).collect()))
    }

    /// Looks at a device once. A look that fails proves nothing: it may succeed a moment later.
    fn look(&self, target: &Target, cx: &Context<'_>, begun: Instant, ending: bool) -> Look {
        let limit = match ending && target.ours {
            true => cx.deadline,
            false => cx.deadline.min(Instant::now() + OPEN_LIMIT),
        };
        let claim = match target.vanished {
            true => Claim::Unusable("it is gone".to_owned()),
            false => target.device.claim(limit),
        };
        let look = |claim: &Claim, seen: &Use| Look {
            verdict: holding::judge(claim, seen, target.ours),
            doubt: holding::doubt(claim, seen),
            in_cell: seen.cell.is_some(),
        };
        if claim == Claim::Free {
            return look(&claim, &Use::default());
        }
        if claim == Claim::Busy && target.ours && begun.elapsed() < DYING_LIMIT {
            // A cell is being cleared away, which takes less time than a look at all processes.
            return Look {
                verdict: Verdict::Held("its cell has just ended".to_owned()),
                ..look(&claim, &Use::default())
            };
        }
        let namespaces = match mounted::namespaces() {
            Ok(namespaces) => namespaces,
            Err(e) => return look(&Claim::Unasked(e.to_string()), &Use::default()),
        };
        for why in namespaces.iter().filter_map(|n| n.unread.as_ref()) {
            if !self.complained.replace(true) {
                log::warn(format_args!("a mount table can't be read: {why}"));
            }
        }
        let own: Vec<&str> = self.vservers.iter().map(VserverName::as_str).collect();
        let seen = target.device.seen_in(&namespaces, &own, &owner::vserver_of);
        if ending {
            self.end_leftovers(&namespaces, &target.device);
        }
        look(&claim, &seen)
    }

    /// If neither a record nor a keeper nor the parameter leads to a device: the device of the mount at the resource's
    /// directory in its virtual server's cell, or in a cell that nobody knows.
    fn attached(&self) -> Option<Target> {
        let directory = self.directory.as_ref()?;
        let namespaces = mounted::namespaces()
            // Nothing else says that the resource has been here.
            .inspect_err(|e| log::warn(e))
            .ok()?;
        let cells = namespaces.iter().filter(|n| n.is_cell());
        let own = cells.filter(|n| self.is_own(&owner::cell_of(n)));
        let mut entries = own.flat_map(|n| n.entries.iter().rev());
        let entry = entries.find(|e| {
            let kind: Result<FsKind, _> = e.fstype.parse();
            e.target == *directory && e.source.starts_with('/') && kind.is_ok()
        })?;
        let path = PathBuf::from(&entry.source);
        let (major, minor) = entry.device;
        let found = Device::at(&path);
        Some(Target {
            vanished: found.is_err(),
            ours: true,
            graver: None,
            device: found.unwrap_or(Device {
                path,
                number: libc::makedev(major, minor),
                superblock: None,
            }),
        })
    }

    /// Whether a cell is of a virtual server that the resource may be in, or of one that nobody knows.
    fn is_own(&self, cell: &Cell) -> bool {
        let mut vserver = cell.vserver.iter();
        vserver.all(|vserver| self.vservers.contains(vserver))
    }

    /// Kills the processes that are left in the resource's cells that have ended and still have its device mounted.
    /// Only processes that have joined from outside can be left.
    fn end_leftovers(&self, namespaces: &[Namespace], device: &Device) {
        let block = device.block();
        let cells = namespaces.iter().filter(|n| n.is_cell());
        let with_it = cells.filter(|n| n.mounts_of(&block).next().is_some());
        let ended = with_it.filter(|n| {
            let cell = owner::cell_of(n);
            cell.ended && self.is_own(&cell)
        });
        for namespace in ended {
            let names: Vec<String> = namespace.processes.iter().map(|p| describe(*p)).collect();
            if !namespace.kill().is_empty() {
                log::error(format_args!(
                    "killed what is left in a cell that has ended: {}",
                    names.join(", ")
                ));
            }
        }
    }
}

/// Searches until the devices can be listed.
fn search_until(name: &DeviceSpec, deadline: Instant) -> io::Result<Search> {
    let mut pause = Pause::default();
    loop {
        match name.search(deadline) {
            Err(_) if pause.until(deadline) => {}
            other => return other,
        }
    }
}
