use proptest::prelude::*;

use super::nfs::export_id;
use super::*;

fn spec() -> ServerSpec {
    ServerSpec {
        name: "alpha".into(),
        nfs: true,
        smb: true,
        commands: vec!["sleep 1".to_owned()],
        state: "/data/.berth".into(),
        lease: ServerSpec::LEASE,
        grace: ServerSpec::GRACE,
        config_dir: None,
        cgroup: Default::default(),
        limits: Default::default(),
        allow_calls: vec![],
    }
}

/// The newest servers and no configuration of the admin's.
fn found() -> Surroundings {
    Surroundings {
        nfs_snippet: None,
        smb_snippet: None,
        ganesha: Version::NEWEST,
        samba: Version::NEWEST,
    }
}

fn export(directory: &str) -> Export {
    Export {
        directory: directory.to_owned(),
        xfs: None,
        nfs: Some(NfsExport {
            clients: vec!["10.1.0.0/24".parse().unwrap()],
            access: Access::Rw,
            squash: Squash::Root,
            ports: Ports::Privileged,
        }),
        smb: None,
    }
}

fn share(directory: &str, name: &str) -> Export {
    Export {
        nfs: None,
        smb: Some(SmbShare {
            name: name.parse().unwrap(),
            users: vec!["anna".parse().unwrap(), "@staff".parse().unwrap()],
            read_only: false,
        }),
        ..export(directory)
    }
}

fn content(entries: &[Entry], wanted: &str) -> String {
    entries
        .iter()
        .find_map(|e| match e {
            Entry::File { path, content, .. } if path == Path::new(wanted) => Some(content.clone()),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no file {wanted}"))
}

fn ganesha(exports: &[Export]) -> String {
    let entries = files(&spec(), exports, &found()).unwrap();
    content(&entries, "/run/berth/ganesha.conf")
}

#[test]
fn each_export_is_a_block_for_its_clients_alone() {
    let text = ganesha(&[export("/data"), export("/srv/a b")]);
    assert_eq!(text.matches("EXPORT {").count(), 2);
    assert_eq!(text.matches("\tAccess_Type = None;\n").count(), 2);
    assert!(text.contains(
        "CLIENT { Clients = 10.1.0.0/24; Protocols = 4; Access_Type = RW; PrivilegedPort = true; }"
    ));
    assert!(text.contains("Path = \"/srv/a b\";"));
    assert!(text.contains("Server_Scope = \"alpha\";"));
}

#[test]
fn an_export_keeps_its_number_whatever_else_is_exported() {
    // Written down, because handles that clients hold must outlive an upgrade of berth.
    assert_eq!(export_id("/data"), 40437);
    let alone = ganesha(&[export("/data")]);
    let among = ganesha(&[export("/other"), export("/data")]);
    let block = alone.split_once("EXPORT").unwrap().1;
    assert!(among.ends_with(block), "{among}");
}

#[test]
fn the_lines_about_a_directory_are_those_of_its_block() {
    let text = ganesha(&[export("/data"), export("/data2")]);
    let lines: Vec<&str> = text.lines().collect();
    let block = super::nfs_lines_about(&text, "/data2").unwrap();
    let (first, last) = (*block.start(), *block.end());
    assert_eq!((lines[first - 1], lines[last - 1]), ("EXPORT {", "}"));
    assert!(lines[first..last].contains(&"\tPath = \"/data2\";"));
    assert!(!lines[first..last].contains(&"\tPath = \"/data\";"));
    assert_eq!(super::nfs_lines_about(&text, "/dat"), None);
}

#[test]
fn directories_whose_export_numbers_meet_are_refused_by_name() {
    let mut seen = std::collections::HashMap::new();
    let (one, other) = (0..)
        .find_map(|n| {
            let directory = format!("/d{n}");
            let id = export_id(&directory);
            seen.insert(id, directory.clone()).map(|d| (d, directory))
        })
        .unwrap();
    let error = files(&spec(), &[export(&one), export(&other)], &found()).unwrap_err();
    assert!(error.contains(&one) && error.contains(&other), "{error}");
}

#[test]
fn share_names_meet_whatever_their_case() {
    let exports = [share("/data", "Data"), share("/more", "data")];
    let error = files(&spec(), &exports, &found()).unwrap_err();
    assert!(error.contains("\"data\""), "{error}");
}

#[test]
fn a_share_names_its_path_and_users() {
    let entries = files(&spec(), &[share("/data", "Data")], &found()).unwrap();
    let text = content(&entries, "/run/berth/smb.conf");
    assert!(
        text.ends_with("[Data]\n\tpath = /data\n\tread only = no\n\tvalid users = anna @staff\n")
    );
    assert!(text.contains("\tprivate dir = /data/.berth/smb/private\n"));
}

#[test]
fn an_xfs_gets_a_node_that_nothing_can_open_and_a_line_of_libblkids_cache() {
    let xfs = Export {
        xfs: Some(XfsIdentity {
            device: libc::makedev(7, 3),
            uuid: "3d1c1ae4-7f5b-4c1e-8a0b-0123456789ab".parse().unwrap(),
        }),
        ..export("/data")
    };
    let entries = files(&spec(), &[xfs], &found()).unwrap();
    let node = "/devfs/7-3";
    assert!(entries.contains(&Entry::Node {
        path: node.into(),
        device: libc::makedev(7, 3)
    }));
    let cache = content(&entries, "/run/blkid/blkid.tab");
    assert!(cache.starts_with("<device DEVNO=\"0x0703\" "), "{cache}");
    assert!(cache.trim_end().ends_with(">/devfs/7-3</device>"));
}

#[test]
fn snippets_are_included_if_they_exist() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ServerSpec {
        config_dir: Some(dir.path().to_owned()),
        ..spec()
    };
    assert_eq!(snippet(&spec, "smb.conf"), None);
    std::fs::write(dir.path().join("ganesha.conf"), "").unwrap();
    std::fs::write(dir.path().join("smb.conf"), "").unwrap();
    let found = Surroundings {
        nfs_snippet: snippet(&spec, "ganesha.conf"),
        smb_snippet: snippet(&spec, "smb.conf"),
        ..found()
    };
    let entries = files(&spec, &[], &found).unwrap();
    let dir = dir.path().display();
    assert!(!content(&entries, "/run/berth/ganesha.conf").contains("LOG {"));
    assert!(
        content(&entries, "/run/berth/ganesha.conf")
            .contains(&format!("%include \"{dir}/ganesha.conf\"\n"))
    );
    assert!(
        content(&entries, "/run/berth/smb.conf").contains(&format!("include = {dir}/smb.conf\n"))
    );
}

#[test]
fn ganesha_gets_no_setting_that_it_does_not_know() {
    let settings = |major, minor| {
        let found = Surroundings {
            ganesha: Version::new(major, minor),
            ..found()
        };
        let entries = files(&spec(), &[], &found).unwrap();
        let text = content(&entries, "/run/berth/ganesha.conf");
        [
            "Expired_Client_Threshold = 0;",
            "Allow_Set_Io_Flusher_Fail = true;",
        ]
        .map(|setting| text.contains(setting))
    };
    assert_eq!(settings(4, 3), [false, false]);
    assert_eq!(settings(5, 9), [false, false]);
    assert_eq!(settings(6, 0), [true, false]);
    assert_eq!(settings(6, 1), [true, true]);
    assert_eq!(settings(9, 13), [true, true]);
}

#[test]
fn no_listing_is_leased_to_smb_clients_of_what_nfs_clients_change() {
    let leased = |export: &Export, minor| {
        let found = Surroundings {
            samba: Version::new(4, minor),
            ..found()
        };
        let entries = files(&spec(), std::slice::from_ref(export), &found).unwrap();
        let text = content(&entries, "/run/berth/smb.conf");
        !text.contains("\tsmb3 directory leases = no\n")
    };
    let alone = share("/data", "data");
    let both = Export {
        smb: alone.smb.clone(),
        ..export("/data")
    };
    assert!(leased(&alone, 22) && !leased(&both, 22));
    // It has none, and does not know the setting.
    assert!(leased(&both, 21));
}

#[test]
fn servers_start_in_order_and_by_the_names_of_their_programs() {
    let launches = launches(&spec());
    let names: Vec<_> = launches.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["nfs", "smb", "command 1"]);
    assert!(launches.iter().all(|l| !l.argv[0].contains('/')));
    assert_eq!(launches[2].argv[2], "exec sleep 1");
}

#[test]
fn only_the_servers_concerned_hear_of_a_change() {
    let (nfs, smb) = (export("/data"), share("/more", "more"));
    let both = [nfs.clone(), smb.clone()];
    assert_eq!(changes(&spec(), &both, &both), []);
    assert_eq!(
        changes(&spec(), &both, std::slice::from_ref(&smb)),
        [Change::Signal {
            server: "nfs",
            signal: libc::SIGHUP
        }]
    );
    let last_words = |changes: Vec<Change>| -> Vec<String> {
        let word = |c| match c {
            Change::Run { argv, .. } => argv.last().cloned(),
            Change::Signal { .. } => None,
        };
        changes.into_iter().filter_map(word).collect()
    };
    assert_eq!(
        last_words(changes(&spec(), &both, &[nfs])),
        ["reload-config", "more"]
    );
    // Settings of Samba depend on what is exported by both protocols.
    let by_both = Export {
        nfs: export("/more").nfs,
        ..smb.clone()
    };
    assert_eq!(
        last_words(changes(&spec(), &[smb], &[by_both])),
        ["reload-config"]
    );
}

#[test]
fn a_change_that_was_not_taken_is_told_again_as_a_whole() {
    let (one, other) = (share("/one", "one"), share("/other", "other"));
    let argv = |change: &Change| match change {
        Change::Run { argv, .. } => argv.last().cloned().unwrap_or_default(),
        Change::Signal { server, .. } => (*server).to_owned(),
    };
    let told = |old: &[Export], new: &[Export]| -> Vec<String> {
        changes_anew(&spec(), old, new).iter().map(argv).collect()
    };
    let both = [one.clone(), other.clone(), one.clone()];
    assert_eq!(told(&both, &[]), ["nfs", "reload-config", "one", "other"]);
    assert_eq!(told(&both, &[other]), ["nfs", "reload-config", "one"]);
    assert_eq!(told(&[], &[one]), ["nfs", "reload-config"]);
}

#[test]
fn the_order_of_exports_is_no_change() {
    let both = [export("/a"), export("/b")];
    let turned = [export("/b"), export("/a")];
    assert_eq!(changes(&spec(), &both, &turned), []);
}

proptest! {
    /// Whatever passes as a directory can't leave its quotes, its line or its section.
    #[test]
    fn no_directory_breaks_out_of_the_configuration(text in "/[ -~\\n]{1,20}") {
        let exports = [Export { smb: share("/x", "x").smb, ..export(&text) }];
        match files(&spec(), &exports, &found()) {
            Err(_) => {}
            Ok(entries) => {
                let nfs = content(&entries, "/run/berth/ganesha.conf");
                prop_assert_eq!(nfs.matches("EXPORT {").count(), 1);
                let line = format!("\tPath = \"{text}\";\n");
                prop_assert!(nfs.contains(&line));
                let special = text.contains(['"', '\n', '\\', ';', '{', '}', '%']);
                prop_assert!(!special);
            }
        }
    }
}
