//! Every key of `berth.toml`, declared once: the reader knows a key only from here, and
//! `berth.toml(5)` is written from it.

mod filesystem;
mod key;
mod network;
mod vserver;

pub(crate) use filesystem::{FILESYSTEM, NFS, SMB, STORAGE};
pub(crate) use key::Section;
use key::key;
pub(crate) use network::{NODE, PORTWATCH, SUBNET};
pub(crate) use vserver::{PRIORITY, VIP, VSERVER};

/// The whole file.
pub(crate) static FILE: Section = Section {
    head: "",
    text: "The tables of the file.",
    keys: &[
        key(
            "subnets",
            "table",
            "The networks that clients sit on, by name.",
        ),
        key(
            "nodes",
            "table",
            "The nodes of the cluster, by their names in Pacemaker.",
        ),
        key("portwatch", "table", "How the nodes' ports are watched."),
        key("storage", "table", "Shared disks, LUNs or arrays, by name."),
        key("vserver", "table", "The virtual servers, by name."),
    ],
};

/// All sections in the order of the manual.
pub(crate) static ALL: [&Section; 10] = [
    &FILE,
    &SUBNET,
    &NODE,
    &PORTWATCH,
    &STORAGE,
    &VSERVER,
    &VIP,
    &FILESYSTEM,
    &NFS,
    &SMB,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled() {
        for key in ALL.iter().flat_map(|section| section.keys) {
            for text in [key.value(), key.text()] {
                assert!(!text.contains(['{', '}']), "{}: {text}", key.name);
                assert!(!text.contains("\"\""), "{} has no default", key.name);
            }
        }
    }
}
