//! Exports and shares that a server does not serve, and the server's complaints about them.
//!
//! NFS-Ganesha serves the exports that it accepts, and names the others only in its log: by
//! their directory, or by the line of the configuration that is wrong (`config_errs_to_log` in
//! src/config_parsing/config_parsing.c). If it can't read a file at all, it says so, and accepts nothing.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::last_words::{Ganesha, is_reason};
use super::probe::Protocol;

/// Something that a server is to serve and does not, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// The directory at which the file system is attached.
    pub(crate) directory: String,
    /// The server's protocol.
    pub(crate) protocol: Protocol,
    /// Whether the server said so. If not, it gave no answer, and nothing is known.
    pub(crate) definite: bool,
    /// What was seen, and what the server said.
    pub(crate) why: String,
}

/// How many lines are kept: of a configuration that is wrong in many places the first ones say enough.
const KEPT: usize = 64;

/// What a server has complained of since it last began to read its configuration.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    lines: Vec<Complaint>,
}

#[derive(Debug)]
struct Complaint {
    /// Whether it is about the configuration, by the server's own word.
    config: bool,
    text: String,
}

impl Complaints {
    /// Notes a line of the server's output, if it is a complaint.
    pub(crate) fn note(&mut self, line: &str) {
        if self.lines.len() >= KEPT {
            return;
        }
        let complaint = match Ganesha::parse(line) {
            Some(line) if !line.is_complaint() => return,
            Some(line) => Complaint {
                config: line.component == "CONFIG",
                text: line.text.to_owned(),
            },
            None if !is_reason(line) => return,
            None => Complaint {
                config: false,
                text: line.trim().to_owned(),
            },
        };
        self.lines.push(complaint);
    }

    /// The complaint about `name`, a directory or a share whose settings are in these lines of the server's
    /// configuration; or else one about the configuration as a whole.
    pub(crate) fn about(&self, name: &str, block: Option<RangeInclusive<usize>>) -> Option<&str> {
        let names = |c: &&Complaint| mentions(&c.text, name);
        let points = |c: &&Complaint| {
            block
                .as_ref()
                .zip(line_number(&c.text))
                .is_some_and(|(block, at)| block.contains(&at))
        };
        let found = self.lines.iter().find(names);
        found
            .or_else(|| self.lines.iter().find(points))
            .map(|complaint| complaint.text.as_str())
            .or_else(|| self.of_configuration())
    }

    /// The first complaint about the configuration, one with a line number if there is any.
    pub(crate) fn of_configuration(&self) -> Option<&str> {
        let placed = self.lines.iter().find(|c| line_number(&c.text).is_some());
        let found = placed.or_else(|| self.lines.iter().find(|c| c.config));
        found.map(|complaint| complaint.text.as_str())
    }
}

/// Whether the text has `name` in it, and not only as a part of a longer path or word.
fn mentions(text: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(inside) && !after.is_some_and(inside)
    })
}

/// From `Config File (/run/berth/ganesha.conf:12): …` the 12.
fn line_number(text: &str) -> Option<usize> {
    let place = text
        .strip_prefix("Config File (")
        .or_else(|| text.strip_prefix("Config file ("))?;
    let (place, _) = place.split_once(')')?;
    place.rsplit_once(':')?.1.parse().ok()
}

/// Whether a line says that NFS-Ganesha has read its configuration again (true) or could not (false), as in
/// `reread_config` in src/support/exports.c and src/MainNFSD/nfs_init.c. After the first one complaints about single
/// exports may follow.
pub(crate) fn reread(line: &str) -> Option<bool> {
    let text = Ganesha::parse(line)?.text;
    if text.starts_with("Reread exports complete") {
        return Some(true);
    }
    let broken = text.starts_with("Error while parsing new configuration file");
    broken.then_some(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complaints(lines: &str) -> Complaints {
        let mut complaints = Complaints::default();
        for line in lines.lines() {
            complaints.note(line);
        }
        complaints
    }

    /// Recorded from 4.3: at its start, a directory that is not there, and clients that are none.
    const START_43: &str = "\
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] init_fds_limit :INODE LRU :EVENT :Setting the system-imposed limit on FDs to 20000.
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] resolve_posix_filesystem :FSAL :CRIT :stat returned No such file or directory (2) while resolving export path /srv/nope
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] mdcache_fsal_create_export :FSAL :MAJ :Failed to call create_export on underlying FSAL VFS
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] fsal_cfg_commit :CONFIG :CRIT :Could not create export for (/srv/nope) to (/srv/nope)
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] client_commit :CONFIG :CRIT :No clients specified
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:12): 1 validation errors in block FSAL
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:26): Expected a client, got a file path name for (0.0.0.0/0)
26/11/2026 12:57:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[main] __Register_program :DISP :MAJ :Cannot register NFS V4 on TCP
";

    #[test]
    fn an_export_is_told_what_was_said_of_it_and_not_of_another() {
        let complaints = complaints(START_43);
        assert_eq!(
            complaints.about("/srv/nope", Some(8..=18)),
            Some(
                "stat returned No such file or directory (2) while resolving export path /srv/nope"
            )
        );
        assert_eq!(
            complaints.about("/srv", Some(20..=30)),
            Some(
                "Config File (/run/berth/ganesha.conf:26): Expected a client, got a file path name \
                 for (0.0.0.0/0)"
            )
        );
        assert_eq!(Complaints::default().about("/srv", None), None);
    }

    /// Recorded from 6.5, which names no lines when it reads its configuration again.
    const AGAIN_65: &str = "\
26/11/2026 13:00:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[sigmgr] sigmgr_thread :MAIN :EVENT :SIGHUP_HANDLER: Received SIGHUP.... initiating export list reload
26/11/2026 13:00:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[sigmgr] client_commit :CONFIG :CRIT :No clients specified
26/11/2026 13:00:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[sigmgr] reread_exports :CONFIG :EVENT :Reread exports complete
26/11/2026 13:00:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[sigmgr] reread_config :CONFIG :CRIT :Error while parsing EXPORT entries
";

    /// Recorded from 4.3 and 6.5: the admin's file is not there.
    const BROKEN: &str = "\
26/11/2026 13:00:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[sigmgr] reread_config :CONFIG :CRIT :Error while parsing new configuration file /run/berth/ganesha.conf
26/11/2026 13:00:43 : epoch 6b07d122 : alpha : ganesha.nfsd-260[sigmgr] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:13): new file (/nope) open error (No such file or directory), ignored
";

    #[test]
    fn what_becomes_of_a_configuration_that_is_read_again_is_heard() {
        let heard = |lines: &str| lines.lines().filter_map(reread).collect::<Vec<_>>();
        assert_eq!(heard(AGAIN_65), [true]);
        assert_eq!(heard(BROKEN), [false]);
        assert_eq!(
            complaints(AGAIN_65).about("/data", Some(8..=18)),
            Some("No clients specified")
        );
        assert_eq!(
            complaints(BROKEN).of_configuration(),
            Some(
                "Config File (/run/berth/ganesha.conf:13): new file (/nope) open error (No such \
                 file or directory), ignored"
            )
        );
    }

    #[test]
    fn a_path_is_not_mentioned_by_a_longer_one() {
        assert!(mentions("path (/data) is", "/data"));
        for longer in ["path (/data/a) is", "path /data2", "/srv/data"] {
            assert!(!mentions(longer, "/data"), "{longer}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "( : epoch | :|Config File \\(|:[0-9]*\\)|CRIT|\\PC)*", name in "\\PC{1,4}") {
            let mut complaints = Complaints::default();
            complaints.note(&line);
            complaints.about(&name, Some(1..=3));
            reread(&line);
            mentions(&line, &name);
        }
    }
}
