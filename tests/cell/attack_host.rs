//! A server that was taken over tries to reach the host's files from its cell.

use std::fs;
use std::io;
use std::path::Path;

use berth::sys::mount::gives_handles;
use berth::types::VserverName;

use crate::common::AgentCall;
use crate::device::refused;
use crate::node::{Node, eventually, inside, sh};
use crate::thread::{Handle, as_server};

/// What is root's alone may not be opened, whatever else may.
#[track_caller]
fn assert_closed(opened: io::Result<impl Sized>, what: &str) {
    let error = opened.map(|_| ()).expect_err(what);
    let closed = [libc::EACCES, libc::EPERM, libc::ESTALE, libc::EOPNOTSUPP];
    let code = error.raw_os_error().unwrap_or(0);
    assert!(closed.contains(&code), "{what}: {error}");
}

#[test]
#[ignore = "needs root"]
fn no_handle_leads_from_a_tree_of_the_host_to_what_is_root_s() {
    let node = Node::new("beyond");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    for fstype in ["ext4", "xfs", "btrfs"] {
        // A node whose /opt is a directory of the file system that its secrets are on.
        let disk = node.disk(fstype);
        sh(&format!("mkdir -p /run/root && mount {disk} /run/root"));
        sh(
            "cd /run/root && mkdir opt && umask 077 && mkdir closed && echo secret >closed/secret \
             && echo own >opt/secret && echo all >opt/all && chmod 644 opt/all && mount --bind opt /opt",
        );
        let handles = ["", "closed", "closed/secret", "opt/secret"].map(|name| {
            let path = Path::new("/run/root").join(name);
            Handle::of(&path).expect("a handle")
        });
        let fs = node.fs(&vserver, &device, "/data");
        fs.run("start").expect(0);
        as_server(&vserver, || {
            let opt = Path::new("/opt");
            assert_eq!(fs::read_to_string("/opt/all").expect("for all"), "all\n");
            assert_closed(fs::read("/opt/secret"), "a secret in the tree");
            let [top, directory, secret, inner] = &handles;
            assert_closed(directory.open(opt, libc::O_RDONLY), "a closed directory");
            assert_closed(secret.open(opt, libc::O_RDONLY), "a secret");
            assert_closed(inner.open(opt, libc::O_RDONLY), "a secret in the tree");
            if fstype == "ext4" {
                let made_up = Handle::ext4(2);
                assert!(made_up.open(opt, libc::O_PATH).is_ok());
            }
            // The root of the file system is seen, as it is everybody's. From there it goes no further.
            let top = top.open(opt, libc::O_RDONLY).expect("the root");
            let flags = rustix::fs::OFlags::RDONLY;
            let below = rustix::fs::openat(&top, "closed/secret", flags, rustix::fs::Mode::empty());
            assert_closed(below.map_err(Into::into), "a secret by its path");
        });
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        sh("umount /opt /run/root");
    }
}

/// The trees that this very machine has.
#[test]
#[ignore = "needs root"]
fn the_machine_s_own_secrets_are_out_of_reach_by_each_tree() {
    let node = Node::new("trees");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let secrets: Vec<Handle> = ["/etc/shadow", "/etc/gshadow", "/root", "/var/lib/private"]
        .iter()
        .filter_map(|path| Handle::of(Path::new(path)).ok())
        .collect();
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    as_server(&vserver, || {
        for tree in ["/usr", "/opt", "/.etc", "/usr/lib", "/run", "/var", "/"] {
            for secret in &secrets {
                let opened = secret.open(Path::new(tree), libc::O_RDONLY);
                assert_closed(opened, tree);
            }
        }
    });
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_socket_of_a_name_service_leads_to_nothing_else() {
    let node = Node::new("pipe");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let disk = node.disk("ext4");
    sh(&format!(
        "mkdir /run/nscd && mount {disk} /run/nscd && umask 077 && echo secret >/run/nscd/secret"
    ));
    let listener = std::os::unix::net::UnixListener::bind("/run/nscd/socket").expect("a socket");
    let private = std::os::unix::net::UnixListener::bind("/run/nscd/private").expect("a socket");
    sh("chmod 666 /run/nscd/socket && chmod 600 /run/nscd/private");
    let secret = Handle::of(Path::new("/run/nscd/secret")).expect("a handle");
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let connect = |vserver: &VserverName| {
        as_server(vserver, || {
            std::os::unix::net::UnixStream::connect("/run/nscd/socket").is_ok()
        })
    };
    eventually("the socket is shown", || connect(&vserver));
    as_server(&vserver, || {
        assert_closed(
            secret.open(Path::new("/run/nscd"), libc::O_RDONLY),
            "a secret",
        );
        assert!(fs::File::open("/run/nscd/socket").is_err());
        assert!(fs::read("/run/nscd/secret").is_err());
        let private = std::os::unix::net::UnixStream::connect("/run/nscd/private");
        assert!(private.is_err(), "a socket that is root's alone");
    });
    // A daemon that is restarted. Nobody asks for the cell meanwhile.
    drop(listener);
    sh("rm /run/nscd/socket");
    let again = std::os::unix::net::UnixListener::bind("/run/nscd/socket").expect("a socket");
    sh("chmod 666 /run/nscd/socket");
    eventually("the new socket is shown", || connect(&vserver));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    drop((again, private));
    sh("umount /run/nscd");
}

/// Lays an overlay over a directory of the node's, whose files can't be shown as another's.
pub fn overlay(directory: &str) {
    let base = format!("/run/over{}", directory.replace('/', "-"));
    sh(&format!(
        "mkdir -p {base} && mount -t tmpfs none {base} && mkdir {base}/up {base}/work && mount -t overlay \
         -o lowerdir={directory},upperdir={base}/up,workdir={base}/work none {directory}"
    ));
}

#[test]
#[ignore = "needs root"]
fn a_tree_whose_owners_can_t_be_hidden_is_shown_if_it_gives_no_handles() {
    let node = Node::new("over");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    for tree in ["/usr", "/opt", "/etc"] {
        overlay(tree);
    }
    let secret = Handle::of(Path::new("/run/over-opt/up")).expect("a handle");
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("nfs_clients", "*")
        .parameter("smb_share", "data");
    let servers = node.servers(&vserver, "nfs smb");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let logged = node.logged();
    let warnings: Vec<&str> = logged
        .lines()
        .filter(|line| line.contains("what is root's alone"))
        .collect();
    assert_eq!(warnings.len(), 1, "{logged}");
    for tree in ["/opt (overlay)", "/usr (overlay)", "/etc (overlay)"] {
        assert!(warnings[0].contains(tree), "{warnings:?}");
    }
    as_server(&vserver, || {
        for tree in ["/usr", "/opt", "/.etc"] {
            let directory = fs::File::open(tree).expect("a directory");
            assert!(!gives_handles(&directory).expect("an answer"), "{tree}");
            for handle in [&secret, &Handle::ext4(2)] {
                assert_closed(handle.open(Path::new(tree), libc::O_RDONLY), tree);
            }
        }
    });
    assert!(!inside(&vserver, "cat /.etc/shadow").0);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

/// Lays an overlay over a directory of the node's that gives handles, as what is below it does; `lower` has what it
/// shows.
fn overlay_with_handles(directory: &str) {
    let base = format!("/run/all{}", directory.replace('/', "-"));
    sh(&format!(
        "mkdir {base} && mount -t tmpfs none {base} && cd {base} && mkdir up work && cp -a {directory} low && mount \
         -t overlay -o lowerdir={base}/low,upperdir={base}/up,workdir={base}/work,index=on,nfs_export=on none {directory}"
    ));
}

#[test]
#[ignore = "needs root"]
fn a_tree_that_would_show_its_whole_file_system_keeps_the_cell_from_starting() {
    let node = Node::new("never");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 1000");
    let on_host = |call: &AgentCall| call.clone().variable("OCF_CHECK_LEVEL", "10");
    for call in [&fs, &servers] {
        on_host(call).run("validate-all").expect(0);
    }
    overlay_with_handles("/etc");
    let words = ["/etc (overlay)", "can't be shown", "handles"];
    refused(fs.run("start"), 1, &words);
    for call in [&fs, &servers] {
        refused(on_host(call).run("validate-all"), 2, &words);
    }
    sh("umount /etc");
    fs.run("stop").expect(0);
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn what_no_server_needs_is_empty_where_it_would_show_its_whole_file_system() {
    let node = Node::new("spare");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh("mkdir /run/opt && touch /run/opt/file && mount --bind /run/opt /opt");
    overlay_with_handles("/opt");
    let fs = node.fs(&vserver, &device, "/data");
    let at_host = fs.clone().variable("OCF_CHECK_LEVEL", "10");
    at_host.run("validate-all").expect(0);
    fs.run("start").expect(0);
    let logged = node.logged();
    let said = |line: &str| line.contains("/opt (overlay)") && line.contains("it is empty");
    assert!(logged.lines().any(said), "{logged}");
    assert_eq!(inside(&vserver, "ls -A /opt").1.trim(), "");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
