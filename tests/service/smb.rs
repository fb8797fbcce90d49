use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use berth::cell::service::{self, Entry, Export, ShareName, SmbShare, Surroundings};
use berth::plan::directory;
use berth::plan::repair::FsKind;
use berth::sys::command::{Output, run, run_with_input};
use proptest::prelude::*;

use crate::cell::{Cell, export, spec};
use crate::image::{Image, soon};

/// A user of the base system, to whom Samba gives a password of its own.
const USER: &str = "games";

fn share(exported: Export) -> Export {
    Export {
        nfs: None,
        smb: Some(SmbShare {
            name: "Data".parse().unwrap(),
            users: vec![USER.parse().unwrap()],
            read_only: false,
        }),
        ..exported
    }
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|&w| w.to_owned()).collect()
}

fn client(cell: &Cell, commands: &str) -> Command {
    let login = format!("{USER}%secret");
    let words = [
        "smbclient",
        "-U",
        &login,
        "//127.0.0.1/Data",
        "-c",
        commands,
    ];
    cell.command(&argv(&words), u64::MAX >> 23)
}

fn words(output: &Output) -> String {
    format!(
        "{}{}",
        output.text(),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
#[ignore = "needs root"]
fn a_share_serves_its_users_hides_the_servers_state_and_goes_at_once() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let spec = spec(false, true);
    let exports = [share(export(&device, FsKind::Ext4))];
    let mut cell = Cell::new(&device, FsKind::Ext4);
    std::fs::create_dir(cell.path("/data/open")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(cell.path("/data/open"), open).unwrap();
    cell.start(&spec, &exports);

    let words_of_pdbedit = [
        "pdbedit",
        "-s",
        "/run/berth/smb.conf",
        "-a",
        "-t",
        "-u",
        USER,
    ];
    let pdbedit = cell.command(&argv(&words_of_pdbedit), u64::MAX >> 23);
    run_with_input(pdbedit, b"secret\nsecret\n", soon())
        .and_then(|o| o.check("pdbedit"))
        .unwrap();

    let work = "cd open; put /etc/passwd file; ls; rename file other; rm other; ls";
    let done = run(client(&cell, work), soon()).unwrap();
    assert!(
        done.status.success() && done.text().contains("file"),
        "{}",
        words(&done)
    );
    let state = run(client(&cell, "cd .berth"), soon()).unwrap();
    assert!(!state.status.success(), "{}", words(&state));

    cell.change(&spec, &exports, &[]);
    let gone = run(client(&cell, "ls"), soon()).unwrap();
    assert!(
        words(&gone).contains("BAD_NETWORK_NAME"),
        "{}",
        words(&gone)
    );
    cell.stop();
    cell.unmount();
}

/// How Samba shows a configuration that it has read.
fn shown_by_testparm(config: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config).unwrap();
    let mut testparm = berth::sys::program::command("testparm").unwrap();
    testparm
        .args(["--suppress-prompt", "--skip-logic-checks"])
        .arg(file.path());
    run(testparm, soon())
        .and_then(|o| o.check("testparm"))
        .unwrap()
        .text()
}

/// Whether Samba takes a section of this name for a share and leaves another one as it is.
fn is_a_share_to_samba(name: &str) -> bool {
    let text = format!("[first]\n\tpath = /first\n[{name}]\n\tpath = /own\n\tread only = no\n");
    let shown = shown_by_testparm(&text);
    let section = |name: &str| {
        let rest = shown.split_once(&format!("[{name}]\n"))?.1;
        Some(
            rest.split_once("\n[")
                .map_or(rest, |(section, _)| section)
                .to_owned(),
        )
    };
    let own = section(name).unwrap_or_default();
    let first = section("first").unwrap();
    own.contains("path = /own") && !own.contains("printable") && !first.contains("read only")
}

#[test]
#[ignore = "needs root"]
fn every_name_of_a_share_that_is_accepted_is_a_share_to_samba() {
    for good in [
        "data",
        "Été 2024",
        "hidden$",
        "a.b_c-d+e",
        "Global data",
        "my  own   data",
        ".",
    ] {
        let name: ShareName = good.parse().unwrap();
        assert!(is_a_share_to_samba(name.as_str()), "{good}");
    }
    for other in ["global", "Globals", "glo bal", "GLOBAL S", "printers"] {
        assert!(!is_a_share_to_samba(other), "{other}");
        assert!(other.parse::<ShareName>().is_err(), "{other}");
    }
}

/// What Samba makes of the configuration for these shares: of each section but that of all the path.
fn as_samba_reads(exports: &[Export]) -> BTreeMap<String, String> {
    let spec = spec(false, true);
    let found = Surroundings::look(&spec, exports).unwrap();
    let entries = service::files(&spec, exports, &found).unwrap();
    let text = entries.into_iter().find_map(|entry| match entry {
        Entry::File { path, content, .. } if path.ends_with("smb.conf") => Some(content),
        _ => None,
    });
    let shown = shown_by_testparm(&text.unwrap());
    let mut sections = BTreeMap::new();
    let mut section = String::new();
    for line in shown.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some(path) = line.strip_prefix("\tpath = ") {
            sections.insert(section.clone(), path.to_owned());
        }
    }
    sections
}

/// Texts made of what sections, values and continued lines are made of.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "global", "Globals", "homes", "printers", "ipc$", "print$", "a", "Z", "é", "ſ", "K", " ",
        "  ", "\t", "\n", "\r", "\\", "%u", "%", "]", "[", ";", "#", "=", "\"", "'", "/", ".",
        "..", "-", "_", "+", "$", "@", "\u{a0}", "\u{2028}", "\0",
    ]);
    prop::collection::vec(pieces, 1..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    #[ignore = "needs root"]
    fn what_is_accepted_of_any_text_means_that_to_samba_and_nothing_else(
        names in prop::collection::vec(hostile(), 60),
        paths in prop::collection::vec(hostile(), 60),
    ) {
        let mut seen = BTreeSet::new();
        let mut exports = vec![];
        for (at, (name, path)) in names.iter().zip(&paths).enumerate() {
            let Ok(name) = name.parse::<ShareName>() else { continue };
            let tried = format!("/d{at}{path}");
            let directory = match directory::check(&tried) {
                Ok(()) => tried,
                Err(_) => format!("/d{at}"),
            };
            if seen.insert(name.as_str().to_lowercase()) {
                let share = SmbShare { name, users: vec![], read_only: at % 2 == 0 };
                exports.push(Export { directory, xfs: None, nfs: None, smb: Some(share) });
            }
        }
        let wanted: BTreeMap<String, String> = exports
            .iter()
            .map(|e| (e.smb.as_ref().unwrap().name.to_string(), e.directory.clone()))
            .collect();
        prop_assert_eq!(as_samba_reads(&exports), wanted);
    }
}
