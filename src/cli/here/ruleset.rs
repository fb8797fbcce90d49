//! What this node's own firewall does to others' nftables tables when it is started or reloaded.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The rules that nftables.service loads: Debian's and SUSE's, Red Hat's.
const FILES: [&str; 2] = ["etc/nftables.conf", "etc/sysconfig/nftables.conf"];
/// Where systemd looks for what an enabled unit is wanted by.
const UNITS: &str = "etc/systemd/system";
const UNIT: &str = "nftables.service";
/// More than any of these files has; the line that matters is among the first.
const LIMIT: u64 = 1 << 20;

/// That this node's nftables.service flushes everybody's tables; below `root`, `/` of a real node. One that is not
/// enabled reloads nothing: Debian has such a file on all nodes with nftables.
pub(super) fn warning(root: &Path) -> Option<String> {
    let file = FILES.iter().find(|file| flushes(&root.join(file)))?;
    is_enabled(root).then(|| {
        format!(
            "/{file} flushes all nftables tables, so every reload of nftables.service takes berth's away too: addresses are served on and nothing else is forwarded, but until portwatch has made them again, a moment later, the sources of packets are not checked; have it flush its own tables only"
        )
    })
}

fn flushes(file: &Path) -> bool {
    let Ok(file) = File::open(file) else {
        return false;
    };
    let mut text = Vec::new();
    // What can't be read warns of nothing.
    let read = file.take(LIMIT).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let commands = text.lines().map(|line| {
        let code = line.split('#').next().unwrap_or_default();
        code.split([' ', '\t', ';']).filter(|word| !word.is_empty())
    });
    let mut commands = commands.map(Iterator::collect::<Vec<_>>);
    read.is_ok() && commands.any(|words| words.windows(2).any(|two| two == ["flush", "ruleset"]))
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
