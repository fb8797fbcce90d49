//! Mount options, in the form in which administrators write them.

use rustix::mount::MountAttrFlags;
use serde::{Deserialize, Serialize};

use crate::plan::repair::FsKind;

/// Mount options, parsed from the usual comma-separated form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Neither the file system nor the mount accepts writes.
    pub(crate) read_only: bool,
    no_exec: bool,
    no_symlinks: bool,
    atime: Atime,
    no_dir_atime: bool,
    /// What the file system is told, in this order.
    specific: Vec<Specific>,
}

/// Mount options together with the text that they were parsed from, as which another process gets them: it checks
/// them anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct WrittenOptions {
    text: String,
    options: Options,
}

impl WrittenOptions {
    /// The parsed options.
    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }
}

impl TryFrom<String> for WrittenOptions {
    type Error = BadOption;

    fn try_from(text: String) -> Result<Self, BadOption> {
        let options = Options::parse(&text)?;
        Ok(Self { text, options })
    }
}

impl From<WrittenOptions> for String {
    fn from(written: WrittenOptions) -> Self {
        written.text
    }
}

/// An option for the file system: its name, and its value if it has one.
type Specific = (String, Option<String>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Atime {
    #[default]
    Relative,
    Never,
    Strict,
}

/// An option that a cell's file system cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option:?}: {why}")]
pub(crate) struct BadOption {
    option: String,
    why: &'static str,
}

const NONE_OF_ITS: &str = "not an option of a file system";
const ONE_DEVICE: &str = "names a second device: berth serves file systems on one";
const NO_PANIC: &str = "would take the whole node down, and the next one after it";
const ONLY_READ: &str = "leaves the log as it is, which needs \"ro\" too";

impl Options {
    /// Parses `noatime,discard,data=journal`. What mount(8) alone knows is taken as mount(8) takes it.
    /// Device nodes and set-user-ID programs are never honoured on a cell's file system, so `dev` and
    /// `suid` are refused; what is not known here is handed to the file system, which judges it when it
    /// is mounted.
    ///
    /// # Errors
    /// [`BadOption`] for an option that contradicts what a cell is, that endangers the node, or that is
    /// none.
    pub(crate) fn parse(text: &str) -> Result<Self, BadOption> {
        let bad = |word: &str, why| BadOption {
            option: word.to_owned(),
            why,
        };
        let mut options = Self::default();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            options.add(word).map_err(|why| bad(word, why))?;
        }
        let skips_log = |(key, value): &&Specific| match (key.as_str(), value.as_deref()) {
            ("noload" | "norecovery" | "nologreplay", _) => true,
            ("rescue", Some(what)) => what.split(':').any(|w| matches!(w, "nologreplay" | "all")),
            _ => false,
        };
        match options.specific.iter().find(skips_log) {
            Some((key, _)) if !options.read_only => Err(bad(key, ONLY_READ)),
            _ => Ok(options),
        }
    }

    fn add(&mut self, word: &str) -> Result<(), &'static str> {
        if word
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
        {
            return Err("contains a blank; options are separated by commas");
        }
        let (key, value) = match word.split_once('=') {
            Some(("", _)) => return Err("has no name"),
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        match (key, value) {
            ("rw", None) => self.read_only = false,
            ("ro", None) => self.read_only = true,
            ("exec", None) => self.no_exec = false,
            ("noexec", None) => self.no_exec = true,
            ("symfollow", None) => self.no_symlinks = false,
            ("nosymfollow", None) => self.no_symlinks = true,
            ("noatime", None) => self.atime = Atime::Never,
            // Without any of these the kernel has them relative.
            ("relatime" | "norelatime" | "atime" | "nostrictatime", None) => {
                self.atime = Atime::Relative;
            }
            ("strictatime", None) => self.atime = Atime::Strict,
            ("nodiratime", None) => self.no_dir_atime = true,
            ("diratime", None) => self.no_dir_atime = false,
            _ if is_for_mount_alone(key) => {}
            ("dev" | "suid", None) => {
                return Err("device nodes and set-user-ID programs are never honoured in a cell");
            }
            ("mand", None) => return Err("mandatory locking has left Linux"),
            (
                "bind" | "rbind" | "move" | "remount" | "loop" | "offset" | "sizelimit"
                | "encryption" | "user" | "users" | "owner" | "group" | "private" | "rprivate"
                | "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable",
                _,
            ) => return Err(NONE_OF_ITS),
            // Those left of mount(8)'s own would show another tree, or other owners.
            _ if key.starts_with("X-mount.") => {
                return Err("is for mount(8) and has no place here");
            }
            ("errors" | "fatal_errors", Some("panic")) => return Err(NO_PANIC),
            ("journal_path" | "journal_dev" | "logdev" | "rtdev" | "device", _) => {
                return Err(ONE_DEVICE);
            }
            ("sb", _) => return Err("berth judges a file system by its first superblock"),
            _ => self
                .specific
                .push((key.to_owned(), value.map(str::to_owned))),
        }
        Ok(())
    }

    /// What the file system is told.
    ///
    /// ext4 that meets damage turns read-only, unless the options say otherwise: its superblock may say
    /// that it goes on, or that it takes the whole node down.
    pub(crate) fn for_kernel(&self, kind: FsKind) -> Vec<(&str, Option<&str>)> {
        let own = self.specific.iter();
        let own = own.map(|(key, value)| (key.as_str(), value.as_deref()));
        let has_errors = self.specific.iter().any(|(key, _)| key == "errors");
        let safe = (kind == FsKind::Ext4 && !has_errors).then_some(("errors", Some("remount-ro")));
        safe.into_iter().chain(own).collect()
    }

    /// Whether there is any option that the file system may refuse.
    pub(crate) fn has_specific(&self) -> bool {
        self.specific.iter().any(|option| !is_identity(option))
    }

    /// Without any option that the file system may refuse.
    pub(crate) fn plain(&self) -> Self {
        Self {
            specific: self.identity(),
            ..self.clone()
        }
    }

    /// As [`Options::plain`], but read-only and without a replay of the log.
    pub(crate) fn unreplayed(&self, kind: FsKind) -> Self {
        let mut options = Self {
            read_only: true,
            ..self.plain()
        };
        options.specific.push(match kind {
            FsKind::Ext4 => ("noload".to_owned(), None),
            FsKind::Xfs => ("norecovery".to_owned(), None),
            FsKind::Btrfs => ("rescue".to_owned(), Some("nologreplay".to_owned())),
        });
        options
    }

    /// Each option that the file system may refuse, by its name, with the options that have no other.
    pub(crate) fn singly(&self) -> impl Iterator<Item = (String, Self)> {
        let doubtful = self.specific.iter().filter(|option| !is_identity(option));
        doubtful.map(|option| {
            let mut alone = Self {
                specific: self.identity(),
                ..self.clone()
            };
            alone.specific.push(option.clone());
            let (key, value) = option;
            let name = match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            };
            (name, alone)
        })
    }

    /// Whether a second device with the same UUID may be mounted beside this one.
    pub(crate) fn allows_twin(&self) -> bool {
        self.specific.iter().any(is_identity)
    }

    fn identity(&self) -> Vec<Specific> {
        let all = self.specific.iter();
        all.filter(|o| is_identity(o)).cloned().collect()
    }

    pub(crate) fn attributes(&self) -> MountAttrFlags {
        let mut flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.no_exec);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, self.no_dir_atime);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, self.no_symlinks);
        flags
            | match self.atime {
                Atime::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
                Atime::Never => MountAttrFlags::MOUNT_ATTR_NOATIME,
                Atime::Strict => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            }
    }
}

/// `nouuid` of XFS is no wish but says what this device is: a copy.
fn is_identity((key, _): &Specific) -> bool {
    key == "nouuid"
}

/// What mount(8) keeps to itself, and what every file system is anyway: mount(8), "FILESYSTEM-INDEPENDENT
/// MOUNT OPTIONS". `silent` and `iversion` are flags of mount(2) that the new mount API has no name for.
fn is_for_mount_alone(key: &str) -> bool {
    let known = [
        "defaults",
        "nodev",
        "nosuid",
        "auto",
        "noauto",
        "nofail",
        "_netdev",
        "nouser",
        "nousers",
        "noowner",
        "nogroup",
        "comment",
        "helper",
        "uhelper",
        "silent",
        "loud",
        "iversion",
        "noiversion",
        "nomand",
        "X-mount.mkdir",
        "X-mount.nocanonicalize",
        "X-mount.noloop",
    ];
    let foreign = key.starts_with("X-") && !key.starts_with("X-mount.");
    known.contains(&key) || key.starts_with("x-") || foreign
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(text).unwrap()
    }

    #[test]
    fn generic_options_become_mount_attributes() {
        let options = parse("defaults, ro,noatime,noexec,nosymfollow");
        assert!(options.read_only && options.specific.is_empty());
        assert!(options.attributes().contains(
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOATIME
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW
        ));
    }

    #[test]
    fn unknown_options_are_left_to_the_file_system() {
        let options = parse("discard,data=journal,lazytime,sync");
        assert_eq!(
            options.for_kernel(FsKind::Xfs),
            [
                ("discard", None),
                ("data", Some("journal")),
                ("lazytime", None),
                ("sync", None),
            ]
        );
    }

    #[test]
    fn what_is_for_mount_alone_is_taken_as_mount_takes_it() {
        for word in [
            "x-systemd.requires=network-online.target",
            "x-systemd.automount",
            "X-fstrim.notrim",
            "X-mount.mkdir=0755",
            "comment=the accounts",
            "comment=x",
            "norelatime",
            "nostrictatime",
            "atime",
            "nofail",
            "nouser",
            "iversion",
            "silent",
            "nomand",
            "symfollow",
        ] {
            let parsed = Options::parse(word);
            if word.contains(' ') {
                assert!(parsed.is_err(), "{word}");
            } else {
                assert_eq!(parsed, Ok(Options::default()), "{word}");
            }
        }
    }

    #[test]
    fn options_that_break_a_cell_are_refused_by_name() {
        for bad in [
            "dev",
            "suid",
            "bind",
            "loop=/dev/loop0",
            "offset=4096",
            "rshared",
            "user",
            "mand",
            "X-mount.subdir=a",
            "=x",
            "a b",
        ] {
            let error = Options::parse(&format!("noatime,{bad}")).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn options_that_endanger_the_node_or_name_other_devices_are_refused() {
        for (bad, words) in [
            ("errors=panic", "whole node"),
            ("fatal_errors=panic", "whole node"),
            ("journal_path=/dev/sdb", "second device"),
            ("journal_dev=0x811", "second device"),
            ("logdev=/dev/sdb", "second device"),
            ("rtdev=/dev/sdb", "second device"),
            ("device=/dev/sdb", "second device"),
            ("sb=32768", "first superblock"),
        ] {
            let error = Options::parse(bad).unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn a_log_is_left_alone_only_where_nothing_is_written() {
        for word in [
            "noload",
            "norecovery",
            "nologreplay",
            "rescue=usebackuproot:nologreplay",
            "rescue=all",
        ] {
            assert!(Options::parse(word).is_err(), "{word}");
            parse(&format!("{word},ro"));
        }
        parse("rescue=usebackuproot");
    }

    #[test]
    fn ext4_turns_read_only_at_an_error_unless_the_options_say_otherwise() {
        let safe = ("errors", Some("remount-ro"));
        assert_eq!(parse("").for_kernel(FsKind::Ext4), [safe]);
        assert_eq!(parse("").plain().for_kernel(FsKind::Ext4), [safe]);
        assert_eq!(parse("").for_kernel(FsKind::Xfs), []);
        let chosen = parse("errors=continue");
        assert_eq!(
            chosen.for_kernel(FsKind::Ext4),
            [("errors", Some("continue"))]
        );
    }

    #[test]
    fn what_is_left_out_on_trial_is_every_wish_but_what_the_device_is() {
        let options = parse("nouuid,largeio,logbsize=64k");
        assert!(options.has_specific() && options.allows_twin());
        assert!(!parse("nouuid,noatime").has_specific());
        assert_eq!(options.plain().for_kernel(FsKind::Xfs), [("nouuid", None)]);
        assert!(!options.plain().read_only && options.unreplayed(FsKind::Xfs).read_only);
        assert_eq!(
            options.unreplayed(FsKind::Xfs).for_kernel(FsKind::Xfs),
            [("nouuid", None), ("norecovery", None)]
        );
        let names: Vec<String> = options.singly().map(|(name, _)| name).collect();
        assert_eq!(names, ["largeio", "logbsize=64k"]);
        let (_, alone) = options.singly().nth(1).unwrap();
        assert_eq!(
            alone.for_kernel(FsKind::Xfs),
            [("nouuid", None), ("logbsize", Some("64k"))]
        );
    }
}
