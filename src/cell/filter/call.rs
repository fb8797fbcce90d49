//! System calls by name, as `allow_calls` lists them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::table::{self, Class};
use crate::plan::slip;

/// No name is longer; a longer word is looked at no further.
const NAME_LIMIT: usize = 64;

/// A system call that a server may be allowed to make, beyond what every server may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call(&'static str);

impl Call {
    /// What NFS-Ganesha opens files by: its clients' handles.
    pub(crate) const OPEN_BY_HANDLE: Self = Self("open_by_handle_at");
    /// What it makes these handles with.
    pub(crate) const NAME_TO_HANDLE: Self = Self("name_to_handle_at");

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.0
    }
}

impl FromStr for Call {
    type Err = String;

    /// What follows the name in an error is made to follow it in a sentence.
    fn from_str(s: &str) -> Result<Self, String> {
        let Some(entry) = table::find(s) else {
            let names = table::entries().filter(|entry| entry.class.is_open());
            let hint = match s.len() {
                ..=NAME_LIMIT => slip::hint(s, names.map(table::Entry::name)),
                _ => String::new(),
            };
            return Err(format!("is no system call that berth knows{hint}"));
        };
        match entry.class {
            Class::Barred | Class::Confined | Class::Hidden => {
                Err("can't be allowed: it leads out of the cell, or is about the whole node".into())
            }
            // One that every server may make is no mistake: another version may be more strict.
            Class::Allowed | Class::Limited | Class::Refused | Class::Absent => {
                Ok(Self(entry.name()))
            }
        }
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse()
            .map_err(|why| de::Error::custom(format!("{name:?} {why}")))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_a_cell_can_not_be_allowed() {
        for name in [
            "unshare",
            "clone",
            "clone3",
            "setns",
            "mount",
            "fsopen",
            "move_mount",
            "pivot_root",
            "keyctl",
            "request_key",
            "seccomp",
            "init_module",
            "kexec_load",
        ] {
            let why = name.parse::<Call>().unwrap_err();
            assert!(why.contains("can't be allowed"), "{why}");
        }
        for name in [
            "bpf",
            "io_uring_setup",
            "socket",
            "ptrace",
            "read",
            "open_by_handle_at",
        ] {
            assert_eq!(name.parse::<Call>().unwrap().name(), name);
        }
        for name in ["", "mouse", "BPF", "bpf "] {
            let why = name.parse::<Call>().unwrap_err();
            assert!(why.contains("no system call that berth knows"), "{why}");
        }
        let hint = |name: &str| name.parse::<Call>().unwrap_err();
        assert!(hint("ptrcae").ends_with(", did you mean ptrace?"));
        assert!(!hint(&"x".repeat(1 << 20)).contains("did you mean"));
        assert!(serde_json::from_str::<Call>("\"mount\"").is_err());
    }
}
