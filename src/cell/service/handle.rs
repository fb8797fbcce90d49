//! NFS file handles that are the same on every node.
//!
//! Ganesha puts an identity of the file system into each handle and into the `fsid` attribute. With
//! `fsid_device = false` it takes the UUID if libblkid can tell it, else what statfs(2) reports: for
//! ext4 and btrfs that is made of the UUID as well, but for XFS of the device number, which differs
//! between nodes: handles would be stale after a failover.
//!
//! libblkid can't read the device: a cell has none. But it also believes its cache, if the device is
//! there and may not be opened. So the cell gets that cache, written by berth, and a device node on a
//! `nodev` mount, in a directory where libblkid looks besides /dev. Ganesha reads the cache anew whenever
//! it looks for file systems, so file systems that come later are found too.

use super::{Entry, Export, directory, file};

/// libblkid's cache, where it looks unless its configuration says otherwise.
const CACHE: &str = "/run/blkid/blkid.tab";

/// A directory that libblkid searches for device nodes, and nothing else uses.
const NODES: &str = "/devfs";

/// The cache and the nodes for all XFS among `exports`.
pub(crate) fn entries(exports: &[Export]) -> Vec<Entry> {
    let mut entries = vec![directory("/run/blkid", 0o755), directory(NODES, 0o755)];
    let mut cache = String::new();
    for xfs in exports.iter().filter_map(|e| e.xfs.as_ref()) {
        let (major, minor) = (libc::major(xfs.device), libc::minor(xfs.device));
        let path = format!("{NODES}/{major}-{minor}");
        // TIME 1: long ago, so that the node's own age raises no doubt.
        cache.push_str(&format!(
            "<device DEVNO=\"{:#06x}\" TIME=\"1.0\" UUID=\"{}\" TYPE=\"xfs\">{path}</device>\n",
            xfs.device, xfs.uuid
        ));
        entries.push(Entry::Node {
            path: path.into(),
            device: xfs.device,
        });
    }
    entries.push(file(CACHE, cache));
    entries
}
