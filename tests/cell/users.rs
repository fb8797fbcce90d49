//! Users whom only a name service of the node knows.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::node::{Node, eventually, inside, sh, try_sh};
use crate::thread::as_server;

const UID: u32 = 48_123;

/// Where the C library asks nscd (nscd/nscd-client.h).
const SOCKET: &str = "/run/nscd/socket";

/// As much of an nscd as knows one user more than /etc/passwd: the real library asks it.
fn serve_user(name: &'static str) {
    fs::create_dir("/run/nscd").expect("its directory");
    let listener = UnixListener::bind(SOCKET).expect("its socket");
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o666)).expect("its permissions");
    std::thread::spawn(move || {
        for asker in listener.incoming().flatten() {
            // Who asks for something else, or has left, needs no answer.
            let _ = answer(asker, name);
        }
    });
}

fn answer(mut asker: UnixStream, name: &str) -> io::Result<()> {
    const VERSION: i32 = 2;
    const GETPWBYNAME: i32 = 0;
    const GETPWBYUID: i32 = 1;
    let mut header = [0; 12];
    asker.read_exact(&mut header)?;
    let word = |at: usize| i32::from_ne_bytes(header[at..at + 4].try_into().expect("a word"));
    let mut key = vec![0; usize::try_from(word(8)).unwrap_or(0).min(1024)];
    asker.read_exact(&mut key)?;
    let key = String::from_utf8_lossy(&key);
    let key = key.trim_end_matches('\0');
    let field = match word(4) {
        GETPWBYNAME => 0,
        GETPWBYUID => 2,
        _ => return Ok(()),
    };
    // Who is left without an answer does not ask again for a while: so all the others are told of, too.
    let all = fs::read_to_string("/etc/passwd")? + &format!("{name}:x:{UID}:100::/:/bin/false\n");
    let found = all
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() == 7 && fields[field] == key);
    let user = found.as_deref().unwrap_or(&["", "", "0", "0", "", "", ""]);
    let number = |at: usize| user[at].parse::<i32>().expect("a number");
    let length = |at: usize| user[at].len() as i32 + 1;
    let is_found = i32::from(found.is_some());
    let words = [
        VERSION,
        is_found,
        length(0),
        length(1),
        number(2),
        number(3),
    ];
    let words = words.into_iter().chain([length(4), length(5), length(6)]);
    let mut reply: Vec<u8> = words.flat_map(i32::to_ne_bytes).collect();
    for at in [0, 1, 4, 5, 6] {
        reply.extend(user[at].bytes());
        reply.push(0);
    }
    asker.write_all(&reply)
}

#[test]
#[ignore = "needs root"]
fn users_whom_only_a_name_service_knows_exist_in_a_cell() {
    let node = Node::new("users");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("smb_share", "data")
        .parameter("smb_users", "serve-one");
    let servers = node.servers(&vserver, "smb");
    serve_user("serve-one");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let (good, text) = inside(&vserver, "getent passwd serve-one");
    assert!(good && text.contains(&UID.to_string()), "{text}");
    let (good, text) = inside(
        &vserver,
        "chmod 777 /data && printf 'secret\\nsecret\\n' | pdbedit -s /run/berth/smb.conf -a -t -u serve-one",
    );
    assert!(good, "{text}");
    let put = "smbclient -U serve-one%secret //127.0.0.1/data -c 'put /etc/hosts file'";
    let (good, text) = inside(&vserver, put);
    assert!(good, "{text}");
    let (_, owner) = inside(&vserver, "stat -c %u /data/file");
    assert_eq!(owner.trim(), UID.to_string());

    // As systemd does it with a service's directory, when that is restarted.
    fs::remove_dir_all("/run/nscd").expect("it goes");
    serve_user("serve-two");
    eventually("the new one is asked", || {
        fs.run("monitor").expect(0);
        inside(&vserver, "getent passwd serve-two").0
    });
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_cell_sees_no_more_of_the_name_services_than_it_needs() {
    let node = Node::new("names");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    // One that gives the number of a file that went to the next that comes, as that of a node does.
    sh(&format!("mount {} /var/lib", node.disk("ext4")));
    sh(
        "cd /var/lib && mkdir -p berth extrausers sss/mc sss/pipes/private \
        && echo one:x:48124:48124::/:/bin/false >extrausers/passwd && touch sss/mc/passwd \
        && umask 027 && echo one:hash:::::: >extrausers/shadow && chgrp shadow extrausers/shadow",
    );
    let answer_at = |name: &str| {
        let path = format!("/var/lib/sss/pipes/{name}");
        let listener = UnixListener::bind(&path).expect("a socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("its permissions");
        listener
    };
    let answering = ["nss", "pam", "private/pam"].map(answer_at);
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let seen = |line: &str| inside(&vserver, line);
    let answers = || {
        let connect = "socket(S, AF_UNIX, SOCK_STREAM, 0) \
            && connect(S, sockaddr_un('/var/lib/sss/pipes/nss')) or die $!";
        seen(&format!("perl -MSocket -e \"{connect}\"")).0
    };
    eventually("the name services are shown", || {
        seen("test -e /var/lib/sss/mc/passwd -a -e /var/lib/extrausers/passwd").0 && answers()
    });
    // With all of root's rights, which is more than a server has.
    let keeps_secrets = || {
        assert!(seen("cat /var/lib/extrausers/passwd").1.contains("one:x"));
        for secret in ["shadow", "gshadow"] {
            let (readable, text) = seen(&format!("cat /var/lib/extrausers/{secret}"));
            assert!(!readable && !text.contains("hash"), "{text}");
        }
        assert_eq!(seen("ls -A /var/lib/sss/pipes").1, "nss\n");
    };
    keeps_secrets();
    // As programs write such files: a mount over one would be gone. The other was not there before.
    sh(
        "cd /var/lib/extrausers && umask 027 && echo one:hash2:::::: >new && chgrp shadow new \
        && mv new shadow && echo one:hash:: >new && mv new gshadow",
    );
    keeps_secrets();
    for place in ["extrausers", "sss/mc"] {
        let (good, text) = seen(&format!("touch /var/lib/{place}/new"));
        assert!(!good && text.contains("Read-only"), "{text}");
    }
    // As sssd does it at its start.
    sh("rm /var/lib/sss/pipes/nss");
    let again = answer_at("nss");
    eventually("the new one is shown", || {
        fs.run("monitor").expect(0);
        answers()
    });
    keeps_secrets();
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    drop((answering, again));
    // The kernel clears a cell's view of it away in its own time.
    eventually("nobody has it any more", || try_sh("umount /var/lib").0);
}

/// Whatever a server has put where a name service is to be shown, PID 1 neither waits for it nor follows it.
#[test]
#[ignore = "needs root"]
fn a_server_can_t_have_a_name_service_shown_elsewhere_nor_the_cell_wait() {
    let node = Node::new("fifo");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let other = node.disk("ext4");
    let fs = node.fs(&vserver, &device, "/data");
    let more = node.fs(&vserver, &other, "/more");
    fs.run("start").expect(0);
    as_server(&vserver, || {
        fs::create_dir("/run/nslcd").expect("a directory");
        mknodat(CWD, "/run/nslcd/socket", FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        fs::create_dir_all("/data/mine/deep").expect("a directory");
        symlink("/data/mine", "/run/nscd").expect("a link");
        fs::create_dir_all("/run/samba/winbindd").expect("a directory");
        symlink("/data/made", "/run/samba/winbindd/pipe").expect("a link");
    });
    let places = ["nslcd/socket", "nscd/socket", "samba/winbindd/pipe"];
    let _listening = places.map(|place| {
        let path = Path::new("/run").join(place);
        fs::create_dir_all(path.parent().expect("a directory")).expect("its directory");
        let listener = UnixListener::bind(&path).expect("its socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("its permissions");
        listener
    });
    for place in places {
        let said = format!("/run/{place}: something of a server's is in its place");
        eventually("it is said", || {
            fs.run("monitor").expect(0);
            node.logged().contains(&said)
        });
    }
    assert_eq!(inside(&vserver, "ls /data").1, "lost+found\nmine\n");
    assert_eq!(inside(&vserver, "ls /data/mine").1, "deep\n");
    // It still takes orders.
    more.run("start").expect(0);
    more.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device, &other]);
}

/// A file system whose files can't be shown as another's: what is secret on it would be shown, too.
#[test]
#[ignore = "needs root"]
fn a_place_whose_secrets_can_t_be_kept_is_not_shown() {
    let node = Node::new("keep");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(
        "mount -t tmpfs none /var/lib && cd /var/lib && mkdir -p berth extrausers sss/mc \
        && mount -t ramfs none extrausers && touch extrausers/passwd sss/mc/passwd",
    );
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    eventually("the other is shown", || {
        inside(&vserver, "test -e /var/lib/sss/mc/passwd").0
    });
    eventually("it is said", || {
        node.logged().contains("/var/lib/extrausers: not shown")
    });
    assert!(!inside(&vserver, "test -e /var/lib/extrausers/passwd").0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    sh("umount /var/lib/extrausers /var/lib");
}
