//! Finds out why a mount has failed: reads the device, and tries the mount without what may be to blame. This may
//! block, so it runs in the child that mounts.

use std::fs;
use std::time::{Duration, Instant};

use crate::cell::state::Examined;
use crate::log;
use crate::plan::repair::{Evidence, Failed, FsKind, Outcome, Storage, diagnose};
use crate::sys::device::Device;
use crate::sys::mount::{self, Failure, Options};
use crate::sys::twin;

/// How long a device may take to show that it can be read.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How many options are tried one by one at the most.
const OPTIONS_TRIED: usize = 16;

/// Finds out why the file system on `device` could not be mounted. Nothing is attached, and nothing is
/// written but what every mount writes.
pub(crate) fn examine(
    kind: FsKind,
    device: &Device,
    options: &Options,
    failure: &Failure,
) -> Examined {
    let mut evidence = Evidence {
        asked: failed(failure),
        storage: storage(device),
        twin: twin_of(device, options),
        plain: None,
        culprit: None,
        unreplayed: None,
    };
    let is_sound_beneath = evidence.storage == Storage::Readable && evidence.twin.is_none();
    if is_sound_beneath && !evidence.asked.is_busy() {
        let try_with = |options: &Options| match mount::create(kind, device, options) {
            Ok(_) => Outcome::Mounted,
            Err(failure) => Outcome::Failed(failed(&failure)),
        };
        if evidence.asked.is_to_be_tried_plain(options.has_specific()) {
            evidence.plain = Some(try_with(&options.plain()));
        }
        if evidence.plain == Some(Outcome::Mounted) {
            let mut singly = options.singly().take(OPTIONS_TRIED);
            evidence.culprit = singly
                .find(|(_, alone)| try_with(alone) != Outcome::Mounted)
                .map(|(name, _)| name);
        } else {
            evidence.unreplayed = Some(try_with(&options.unreplayed(kind)));
        }
    }
    let finding = diagnose(kind, &evidence);
    log::warn(format_args!("{failure}: {finding:?}: {evidence:?}"));
    Examined {
        finding,
        said: failure.said(),
    }
}

/// Another device with the same UUID that is mounted on this node. It may be the same storage, which nobody else may
/// change then, or a copy that the kernel can't tell from this device.
pub(crate) fn twin_of(device: &Device, options: &Options) -> Option<String> {
    let twin = twin::mounted(device, soon()).filter(|_| !options.allows_twin());
    twin.map(|path| path.display().to_string())
}

fn failed(failure: &Failure) -> Failed {
    Failed {
        errno: failure.errno,
        words: failure.words.clone(),
    }
}

/// Whether the device can be read now. A device without a medium, or without anything behind it, has no size.
pub(crate) fn storage(device: &Device) -> Storage {
    let (major, minor) = (libc::major(device.number), libc::minor(device.number));
    let size = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/size"));
    if size.map_or(true, |size| size.trim() == "0") {
        return Storage::Gone;
    }
    match device.read_superblock(soon()) {
        Ok(_) => Storage::Readable,
        Err(e) => Storage::of_unread(e.raw_os_error()),
    }
}

fn soon() -> Instant {
    Instant::now() + READ_LIMIT
}
