//! Clients with root's rights on a home file system try to reach the servers' state there.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use berth::cell::init::owners::RESERVED;
use berth::types::VserverName;
use lab::nfs4::{Answer, Attempt, Identity, Peer};
use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::attack_host::overlay;
use crate::common::AgentCall;
use crate::device::refused;
use crate::node::{Node, in_network, inside, sh};
use crate::thread::{Handle, as_server, forbid_user_namespaces, in_cell};

const OK: u32 = 0;
const ACCESS: u32 = 13;

/// NFS's handle of another file of the same file system as that of `own`, whose handle is `known`.
fn forge(known: &[u8], own: &Handle, other: &Handle) -> Vec<u8> {
    let of = (own.kind, own.bytes.len());
    assert_eq!(of, (other.kind, other.bytes.len()));
    let at = known
        .windows(own.bytes.len())
        .position(|part| part == own.bytes)
        .unwrap_or_else(|| panic!("{own:?} is not in {known:?}"));
    let mut forged = known.to_vec();
    forged[at..at + own.bytes.len()].copy_from_slice(&other.bytes);
    forged
}

/// A client at the server's own host that has root's rights there.
fn peer() -> Peer {
    Peer::connect(Ipv4Addr::LOCALHOST.into()).expect("a server")
}

fn look_up(path: &str) -> Answer<Identity> {
    peer().look_up(path).expect("an answer")
}

/// The status that a client gets who tries something with a handle.
fn tried(handle: &[u8], what: Attempt<'_>) -> u32 {
    let answer = peer().attempt(handle, what).expect("an answer");
    answer.err().unwrap_or(OK)
}

/// A virtual server with its only file system as home, to all of whose clients root is root.
fn serve(node: &Node, vserver: &VserverName, device: &str) -> [AgentCall; 2] {
    let fs = node
        .fs(vserver, device, "/data")
        .parameter("nfs_clients", "*")
        .parameter("nfs_squash", "none")
        .parameter("smb_share", "data");
    let servers = node.servers(vserver, "nfs smb");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let (good, text) = inside(
        vserver,
        "mkdir -p -m 777 /data/open && echo own >/data/open/file && printf 'secret\nsecret\n' \
         | pdbedit -s /run/berth/smb.conf -a -t -u games",
    );
    assert!(good, "{text}");
    [servers, fs]
}

fn stop(node: &Node, vserver: &VserverName, device: &str, [servers, fs]: &[AgentCall; 2]) {
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(vserver, &[device]);
}

/// Who owns what in the state directory on disk: each pair of user and group once.
fn owners(device: &str) -> String {
    sh(&format!(
        "mkdir -p /run/look && mount {device} /run/look && find /run/look/.berth -printf '%U:%G\n' | sort -u; \
         umount /run/look"
    ))
}

#[test]
#[ignore = "needs root"]
fn no_handle_leads_a_client_with_root_s_rights_to_the_servers_state() {
    let node = Node::new("state");
    for (which, fstype) in [('a', "ext4"), ('b', "xfs"), ('c', "btrfs")] {
        let (vserver, device) = (node.vserver(which), node.disk(fstype));
        let calls = serve(&node, &vserver, &device);
        let passwords = "/var/lib/berth/smb/private/passdb.tdb";
        let (own, known, directory, secret, nfs) = in_cell(&vserver, || {
            let handle = |path: &str| Handle::of(Path::new(path)).expect(path);
            let known = look_up("/data/open/file").expect("a file");
            (
                handle("/data/open/file"),
                known.handle,
                handle("/var/lib/berth"),
                handle(passwords),
                handle("/var/lib/berth/nfs"),
            )
        });
        let mut made_up = vec![&directory, &secret, &nfs];
        // On ext4 the number of the file is enough.
        let number =
            |path: &str| in_cell(&vserver, || fs::metadata(path).expect(path).ino() as u32);
        let by_number = [
            Handle::ext4(number("/var/lib/berth")),
            Handle::ext4(number(passwords)),
        ];
        if fstype == "ext4" {
            made_up.extend(&by_number);
        }
        in_cell(&vserver, || {
            assert_eq!(tried(&known, Attempt::Read), OK);
            for handle in &made_up {
                let forged = forge(&known, &own, handle);
                for attempt in [
                    Attempt::Read,
                    Attempt::Write,
                    Attempt::List,
                    Attempt::Make("evil"),
                    Attempt::Remove("smb"),
                    Attempt::Own("0"),
                ] {
                    let status = tried(&forged, attempt);
                    assert_ne!(status, OK, "{fstype}: {attempt:?} of {handle:?}");
                }
            }
            let directory = forge(&known, &own, &directory);
            assert_eq!(tried(&directory, Attempt::List), ACCESS);
            assert_eq!(tried(&directory, Attempt::Make("evil")), ACCESS);
            let secret = forge(&known, &own, &secret);
            assert_eq!(tried(&secret, Attempt::Read), ACCESS);
            // By its path, and from where it lies.
            let root = look_up("/data").expect("the root").handle;
            for attempt in [
                Attempt::Rename(".berth", "mine"),
                Attempt::Remove(".berth"),
                Attempt::Make(".berth"),
            ] {
                assert_ne!(tried(&root, attempt), OK, "{attempt:?}");
            }
            assert_eq!(tried(&root, Attempt::List), OK);
            // What such clients have their rights for.
            assert_eq!(tried(&known, Attempt::Own("1234")), OK);
            assert_eq!(fs::metadata("/data/open/file").expect("it").uid(), 1234);
            fs::set_permissions("/data/open/file", PermissionsExt::from_mode(0o600)).expect("root");
            assert_eq!(tried(&known, Attempt::Read), OK);
            assert_eq!(tried(&known, Attempt::Write), OK);
            assert_eq!(tried(&root, Attempt::Make("roots")), OK);
            assert_eq!(fs::metadata("/data/roots").expect("it").uid(), 0);
            // Nobody makes himself the owner of the state.
            let owner = RESERVED.to_string();
            assert_ne!(tried(&known, Attempt::Own(&owner)), OK);
            assert!(chown("/data/open/file", Some(RESERVED), None).is_err());
        });
        as_server(&vserver, || {
            for handle in &made_up {
                let opened = handle.open(Path::new("/data"), libc::O_RDONLY);
                let error = opened.expect_err("a file of the state");
                assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{fstype}");
            }
            let shown = fs::read_dir("/data/.berth").expect("an empty directory");
            assert_eq!(shown.count(), 0);
            assert!(fs::write("/data/.berth/evil", "x").is_err());
            // Whatever a server opens to everybody in its state.
            let new = "/var/lib/berth/smb/state/new";
            fs::write(new, "x").expect("a file");
            assert_eq!(fs::metadata(new).expect("it").mode() & 0o077, 0);
        });
        in_cell(&vserver, || {
            let set = |name: &str, value: &[u8]| {
                setxattr("/data/open/file", name, value, XattrFlags::empty()).expect(name);
                let mut now = [0; 64];
                let length = getxattr("/data/open/file", name, &mut now).expect(name);
                assert_eq!(&now[..length], value, "{fstype}: {name}");
            };
            set("user.x", b"y");
            // Version 2; owner, user 1000, group, mask, others: linux/posix_acl_xattr.h.
            let entries = [
                (1, 6, u32::MAX),
                (2, 6, 1000),
                (4, 4, u32::MAX),
                (16, 6, u32::MAX),
                (32, 0, u32::MAX),
            ];
            let entry = |(tag, rights, id): (u16, u16, u32)| {
                [
                    &tag.to_le_bytes()[..],
                    &rights.to_le_bytes(),
                    &id.to_le_bytes(),
                ]
                .concat()
            };
            let list: Vec<u8> = entries.into_iter().flat_map(entry).collect();
            set(
                "system.posix_acl_access",
                &[&2_u32.to_le_bytes()[..], &list].concat(),
            );
        });
        let put = "smbclient -U games%secret //127.0.0.1/data -D open -c 'put /etc/hosts new'";
        let (good, text) = inside(&vserver, put);
        assert!(good, "{fstype}: {text}");
        stop(&node, &vserver, &device, &calls);
        assert_eq!(
            owners(&device),
            format!("{RESERVED}:{RESERVED}\n"),
            "{fstype}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_state_directory_of_an_older_version_is_taken_over_with_all_that_is_in_it() {
    let node = Node::new("older");
    for (which, fstype) in [('a', "ext4"), ('b', "xfs"), ('c', "btrfs")] {
        let (vserver, device) = (node.vserver(which), node.disk(fstype));
        let calls = serve(&node, &vserver, &device);
        let handle = || in_cell(&vserver, || look_up("/data/open/file"));
        let before = handle().expect("a file");
        stop(&node, &vserver, &device, &calls);
        // As it was; with what a client had put there whom nothing kept from it, and cut off in the middle.
        sh(&format!(
            "mkdir -p /run/old && mount {device} /run/old && cd /run/old && chown -R 0:0 .berth \
             && chmod -R go+rX .berth && mkdir -p .berth/empty && echo mine >kept && ln -s ../kept .berth/link \
             && chown 101:101 .berth/smb/state && chown {RESERVED}:0 .berth/smb; cd / && umount /run/old"
        ));
        let calls = serve(&node, &vserver, &device);
        assert_eq!(handle().expect("a file"), before, "{fstype}");
        let (good, text) = inside(
            &vserver,
            "pdbedit -s /run/berth/smb.conf -L && stat -c '%n %u:%g' /data/kept && \
             find /var/lib/berth -perm /077 -not -type l -not -name empty && smbclient -U games%secret //127.0.0.1/data -c ls",
        );
        assert!(good && text.contains("games:"), "{fstype}: {text}");
        assert!(text.contains("/data/kept 0:0"), "{fstype}: {text}");
        assert!(!text.contains("/var/lib/berth"), "{fstype}: {text}");
        stop(&node, &vserver, &device, &calls);
        let service = RESERVED + 101;
        let expected = format!("{RESERVED}:{RESERVED}\n{service}:{service}\n");
        assert_eq!(owners(&device), expected, "{fstype}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_state_directory_that_is_a_user_s_is_not_trusted() {
    let node = Node::new("trust");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!(
        "mkdir /run/old && mount {device} /run/old && mkdir -p /run/old/.berth/smb && chown -R 1000 /run/old/.berth \
         && umount /run/old"
    ));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node.servers(&vserver, "smb");
    fs.run("start").expect(0);
    refused(servers.run("start"), 1, &[".berth", "belongs to user 1000"]);
    servers.run("stop").expect(0);
    assert!(inside(&vserver, "test -d /data/.berth/smb").0);
    assert!(inside(&vserver, "rm -r /data/.berth").0);
    servers.run("start").expect(0);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

/// A server makes more in its state than a start goes through.
#[test]
#[ignore = "needs root"]
fn no_state_is_too_deep_or_too_large_to_start_with() {
    let node = Node::new("deep");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node.servers(&vserver, "smb");
    let deep = format!("/var/lib/berth/smb{}", "/d".repeat(40));
    let made = ["directories within each other", "files in it"];
    for (n, said) in made.into_iter().enumerate() {
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        as_server(&vserver, || match n {
            0 => fs::create_dir_all(&deep).expect("directories"),
            _ => {
                // Names of few files: one may have 65,000.
                fs::create_dir("/var/lib/berth/smb/many").expect("a directory");
                for n in 0..270_000 {
                    let file = format!("/var/lib/berth/smb/many/f{}", n / 50_000);
                    match n % 50_000 {
                        0 => fs::write(file, "x").expect("a file"),
                        _ => fs::hard_link(&file, format!("{file}.{n}")).expect("a name"),
                    }
                }
            }
        });
        servers.run("stop").expect(0);
        fs.run("stop").expect(0);
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        let logged = node.logged();
        let lines = logged.lines().filter(|line| line.contains(said));
        assert_eq!(lines.count(), 1, "{said}: {logged}");
        servers.run("stop").expect(0);
        fs.run("stop").expect(0);
    }
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_home_that_changes_while_the_cell_lives_takes_no_state_along_and_comes_back_to_its_own() {
    let node = Node::new("moves");
    let vserver = node.vserver('a');
    let devices = [node.disk("ext4"), node.disk("xfs")];
    let places = ["/one", "/two"];
    let volumes = [0, 1].map(|n| node.fs(&vserver, &devices[n], places[n]));
    for fs in &volumes {
        fs.run("start").expect(0);
    }
    for (round, place) in ["/one", "/two", "/one"].into_iter().enumerate() {
        let servers = node.servers(&vserver, "smb").parameter("home", place);
        servers.run("start").expect(0);
        let (_, text) = inside(&vserver, "cat /var/lib/berth/mark; true");
        let expected = if round == 2 {
            "mark of /one"
        } else {
            "No such file"
        };
        assert!(text.contains(expected), "{round}: {text}");
        assert!(
            inside(
                &vserver,
                &format!("echo mark of {place} >/var/lib/berth/mark")
            )
            .0
        );
        servers.run("stop").expect(0);
        servers.run("start").expect(0);
        assert!(
            inside(&vserver, "cat /var/lib/berth/mark")
                .1
                .contains(place)
        );
        let (_, text) = inside(&vserver, &format!("ls {place}/.berth/mark"));
        assert!(text.contains("No such file"), "{text}");
        servers.run("stop").expect(0);
    }
    for fs in &volumes {
        fs.run("stop").expect(0);
    }
    node.assert_gone(&vserver, &[&devices[0], &devices[1]]);
}

/// Also a failover to such a node, and from it.
#[test]
#[ignore = "needs root"]
fn where_owners_can_t_be_mapped_clients_with_root_s_rights_are_not_served_the_home_alone() {
    let node = Node::new("nomap");
    for (which, fstype) in [('a', "ext4"), ('b', "xfs"), ('c', "btrfs")] {
        let vserver = node.vserver(which);
        let (device, other) = (node.disk(fstype), node.disk("ext4"));
        let calls = serve(&node, &vserver, &device);
        let look_up = || in_cell(&vserver, || look_up("/data/open/file"));
        let before = look_up().expect("a file");
        stop(&node, &vserver, &device, &calls);
        let [servers, fs] = &calls;
        let servers = servers.clone().parameter("home", "/data");
        let fs = fs.clone().parameter("CRM_meta_interval", "10000");
        let data = node
            .fs(&vserver, &other, "/other")
            .parameter("nfs_clients", "*")
            .parameter("nfs_squash", "none");
        // The trees of the host are another matter.
        for tree in ["/usr", "/opt", "/etc"] {
            overlay(tree);
        }
        let without = || {
            forbid_user_namespaces();
            fs.run("start").expect(0);
            data.run("start").expect(0);
            servers.run("start").expect(0);
            refused(
                fs.run("monitor"),
                190,
                &["nfs_squash=none", "No space left"],
            );
            data.run("monitor").expect(0);
            let list = "nfs-ls 'nfs://127.0.0.1/?version=4'";
            let (_, text) = in_network(&vserver, list);
            assert!(text.contains("other") && !text.contains("data"), "{text}");
            let (good, text) = inside(
                &vserver,
                "smbclient -U games%secret //127.0.0.1/data -c ls && ls -A /data/.berth",
            );
            assert!(good && !text.contains("smb"), "{text}");
            let squashed = fs.clone().parameter("nfs_squash", "root");
            squashed.run("reload-agent").expect(0);
            squashed.run("monitor").expect(0);
            assert_eq!(look_up().expect("a file"), before);
            // What everybody may do, a made-up handle allows.
            in_cell(&vserver, || {
                let handle = |path: &str| Handle::of(Path::new(path)).expect(path);
                let own = handle("/data/open/file");
                for path in ["", "/nfs", "/smb", "/smb/state", "/smb/private/passdb.tdb"] {
                    let of_state = handle(&format!("/var/lib/berth{path}"));
                    let forged = forge(&before.handle, &own, &of_state);
                    for attempt in [Attempt::Read, Attempt::List, Attempt::Make("evil")] {
                        let status = tried(&forged, attempt);
                        assert_ne!(status, OK, "{fstype}: {attempt:?} of {path:?}");
                    }
                }
            });
            servers.run("stop").expect(0);
            data.run("stop").expect(0);
            fs.run("stop").expect(0);
        };
        std::thread::scope(|scope| scope.spawn(without).join().expect("its end"));
        node.assert_gone(&vserver, &[&device, &other]);
        assert_eq!(owners(&device), "0:0\n", "{fstype}");
        for tree in ["/usr", "/opt", "/etc"] {
            sh(&format!("umount --lazy {tree}"));
        }
        let calls = serve(&node, &vserver, &device);
        assert_eq!(look_up().expect("a file"), before);
        stop(&node, &vserver, &device, &calls);
        assert_eq!(owners(&device), format!("{RESERVED}:{RESERVED}\n"));
    }
}
