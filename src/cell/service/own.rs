//! What the admin's own configuration may serve beside the exports that berth knows.

use std::path::Path;

use super::{ServerSpec, snippet};
use crate::sys::state;

/// Of a longer file nothing is said: in bytes.
const LIMIT: u64 = 1 << 20;

/// Parameters of smb.conf(5) that bring shares without a section in the file: without blanks, in small letters.
const BRING_SHARES: [&str; 6] = [
    "include",
    "configfile",
    "configbackend",
    "registryshares",
    "usersharepath",
    "usersharemaxshares",
];

/// Whether there are exports and shares that berth does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Exports over NFS.
    pub(crate) exports: bool,
    /// Shares over SMB.
    pub(crate) shares: bool,
}

impl Own {
    /// Looks into the vserver's `config_dir`. What can't be read as a whole may say anything.
    pub(crate) fn look(spec: &ServerSpec) -> Self {
        let any = |name: &str, serves: fn(&str) -> bool| {
            let read = |path: &Path| state::read(path, LIMIT);
            let content = snippet(spec, name).map(|path| read(&path));
            content.is_some_and(|content| {
                content.map_or(true, |content| serves(&String::from_utf8_lossy(&content)))
            })
        };
        Self {
            exports: spec.nfs && any("ganesha.conf", has_exports),
            shares: spec.smb && any("smb.conf", has_shares),
        }
    }
}

/// Whether a ganesha-config(8) may hold an EXPORT block, or have another file read that does.
fn has_exports(content: &str) -> bool {
    let lines = content.lines();
    let lines = lines.filter_map(|line| line.split('#').next());
    lines.map(str::to_ascii_lowercase).any(|line| {
        ["export", "%include", "%dir", "%url"]
            .iter()
            .any(|word| line.contains(word))
    })
}

/// Whether an smb.conf(5) may hold a section other than \[global\], or bring shares from elsewhere.
fn has_shares(content: &str) -> bool {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|c| !c.is_whitespace());
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    content.lines().map(str::trim_start).any(|line| {
        if let Some(section) = line.strip_prefix('[') {
            let name = section.split(']').next().map(plain);
            return name.is_none_or(|name| name != "global" && name != "globals");
        }
        let name = line.split('=').next().map(plain);
        name.is_some_and(|name| BRING_SHARES.contains(&name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_serves_something_is_taken_for_it() {
        for (content, serves) in [
            (
                "NFS_CORE_PARAM { Nb_Max_Fd = 7; }\n# no Export here\n",
                false,
            ),
            ("NFSV4 { }\n  Export\n{ Export_Id = 7; }\n", true),
            ("%include \"/etc/more.conf\"\n", true),
        ] {
            assert_eq!(has_exports(content), serves, "{content}");
        }
        for (content, serves) in [
            (
                "log level = 3\n [ Global ]\n; [data]\nsocket options = x\n",
                false,
            ),
            ("[global]\n[data]\npath = /data\n", true),
            ("In clude = /etc/more.conf\n", true),
            ("registry shares=yes\n", true),
        ] {
            assert_eq!(has_shares(content), serves, "{content}");
        }
    }
}
