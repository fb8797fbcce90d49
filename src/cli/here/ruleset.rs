//! What this node's own firewall does to others' nftables tables when it is started or reloaded.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::sys::nft::{CELL_TABLES, TABLE};

/// The rules that nftables.service loads: Debian's and SUSE's, Red Hat's.
const FILES: [&str; 2] = ["etc/nftables.conf", "etc/sysconfig/nftables.conf"];
/// Where systemd looks for what an enabled unit is wanted by.
const UNITS: &str = "etc/systemd/system";
const UNIT: &str = "nftables.service";
/// More than any of these files has.
const LIMIT: u64 = 1 << 20;

/// That this node's nftables.service flushes everybody's tables; below `root`, `/` of a real node. One that is not
/// enabled reloads nothing: Debian has such a file on all nodes with nftables.
pub(crate) fn warning(root: &Path) -> Option<String> {
    let file = FILES.iter().find(|file| flushes(&root.join(file)))?;
    is_enabled(root).then(|| {
        format!(
            "/{file} flushes all nftables tables, so every reload of nftables.service takes berth's away too: addresses are served on and nothing else is forwarded, but until portwatch has made them again, a moment later, the sources of packets are not checked; have it flush its own tables only"
        )
    })
}

/// That a ruleset was saved with berth's tables in it; below `root`, `/` of a real node. A cell's own is its keeper's
/// (`flags owner`, nft(8)): nobody else may change it, and a file is loaded as a whole or not at all.
pub(crate) fn saved(root: &Path) -> Option<String> {
    let file = FILES.iter().find(|file| holds_own(&root.join(file)))?;
    Some(format!(
        "/{file} holds tables of berth's: those of cells nobody else may load, so every reload of it fails as a whole while one runs, and the others would be there twice; delete all tables called berth… from it"
    ))
}

fn flushes(file: &Path) -> bool {
    has(file, |words| {
        words.windows(2).any(|two| two == ["flush", "ruleset"])
    })
}

fn holds_own(file: &Path) -> bool {
    let is_own = |name: &str| name == TABLE || name.starts_with(CELL_TABLES);
    has(file, |words| match words {
        ["table", _, name, ..] | ["add", "table", _, name, ..] => is_own(name),
        _ => false,
    })
}

/// Whether one of a file's lines, in words and without its comment, is `wanted`. What can't be read has none.
fn has(file: &Path, wanted: impl Fn(&[&str]) -> bool) -> bool {
    let Ok(file) = File::open(file) else {
        return false;
    };
    let mut text = Vec::new();
    let read = file.take(LIMIT).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let commands = text.lines().map(|line| {
        let code = line.split('#').next().unwrap_or_default();
        let words = code.split([' ', '\t', ';', '{']);
        words.filter(|word| !word.is_empty())
    });
    let mut commands = commands.map(Iterator::collect::<Vec<_>>);
    read.is_ok() && commands.any(|words| wanted(&words))
}

fn is_enabled(root: &Path) -> bool {
    let targets = fs::read_dir(root.join(UNITS)).into_iter().flatten();
    let mut targets = targets.flatten().map(|target| target.path());
    // A link, whose end is outside of `root`.
    targets.any(|target| target.join(UNIT).symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn tables_of_berths_in_a_saved_ruleset_are_named() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(saved(root.path()), None);
        fs::create_dir_all(root.path().join("etc/sysconfig")).unwrap();
        for file in FILES {
            for (text, is_named) in [
                ("table inet berth {\n}\n", true),
                ("table arp berth{\n", true),
                (
                    "flush ruleset\n\ttable inet berth-cell-alpha { # progname berth\n",
                    true,
                ),
                ("add table inet berth-cell-alpha { flags owner; }\n", true),
                ("# table inet berth {\n", false),
                (
                    "table inet filter {\n chain berth { jump berth }\n}\n",
                    false,
                ),
                ("table inet berthold {\n}\n", false),
            ] {
                fs::write(root.path().join(file), text).unwrap();
                let said = saved(root.path());
                assert_eq!(said.is_some(), is_named, "{text}");
                let begin = format!("/{file} holds tables of berth's");
                assert!(said.is_none_or(|said| said.starts_with(&begin) && !said.contains('\n')));
            }
            fs::remove_file(root.path().join(file)).unwrap();
        }
    }

    #[test]
    fn only_an_enabled_unit_that_flushes_everything_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(warning(root.path()), None);
        fs::create_dir_all(root.path().join("etc/systemd/system/sysinit.target.wants")).unwrap();
        let file = root.path().join("etc/nftables.conf");
        let flush = "#!/usr/sbin/nft -f\n\nflush ruleset;\n\ntable inet filter { }\n";
        fs::write(&file, flush).unwrap();
        assert_eq!(warning(root.path()), None, "not enabled");
        let wanted = "etc/systemd/system/sysinit.target.wants/nftables.service";
        symlink(
            "/lib/systemd/system/nftables.service",
            root.path().join(wanted),
        )
        .unwrap();
        let said = warning(root.path()).unwrap();
        assert!(
            said.starts_with("/etc/nftables.conf flushes all "),
            "{said}"
        );
        assert!(!said.contains('\n'));
        for harmless in [
            "# flush ruleset\n",
            "flush table inet filter\n",
            "",
            "ruleset flush\n",
        ] {
            fs::write(&file, harmless).unwrap();
            assert_eq!(warning(root.path()), None, "{harmless}");
        }
    }
}
