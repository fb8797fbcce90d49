//! File systems that can't be mounted: what is damage, and what is not.

use crate::common::{AgentCall, Outcome};
use crate::disk::image;
use crate::node::{Node, sh};

mod log;
mod options;
mod prevented;
mod unreadable;
mod unservable;

/// Has a start refused for reasons of this node or of the storage.
#[track_caller]
fn refused_here(fs: &AgentCall) -> Outcome {
    let refused = fs.run("start");
    let code = refused.code.expect("an exit code");
    assert!([1, 2].contains(&code), "{refused}");
    refused
}

/// Has twenty files written and confirmed, and the device copied in that moment: what is in the copy is in its
/// log alone. Both are left, the first one mounted at the directory.
fn cut_off_with_its_files_in_the_log(
    node: &Node,
    fstype: &str,
    directory: &str,
) -> (String, String) {
    let (one, other) = (node.disk(fstype), node.disk(fstype));
    let mount = format!("mount {one} {directory}");
    sh(&format!(
        "mkdir {directory} && {mount} && mkdir {directory}/kept"
    ));
    sh(&format!("umount {directory} && {mount}"));
    sh(&format!(
        "python3 -c 'import os\nfor i in range(20):\n f = open(\"{directory}/kept/%d\" % i, \"w\")\n \
         f.write(\"confirmed\")\n f.flush()\n os.fsync(f)'"
    ));
    sh(&format!(
        "dd if={one} of={} bs=1M conv=notrunc,fsync status=none",
        image(&other)
    ));
    sh(&format!("blockdev --flushbufs {other}"));
    (one, other)
}
