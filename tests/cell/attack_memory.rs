//! A server that was taken over tries to fill the host's memory with what no file system's size counts.

use std::fs;
use std::io;

use crate::node::Node;
use crate::thread::as_server;

/// Far more than any of a cell's own file systems holds.
const MANY: u32 = 100_000;

#[test]
#[ignore = "needs root"]
fn empty_files_are_as_many_as_a_server_may_need() {
    let node = Node::new("empty");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    for directory in ["/run", "/tmp", "/var/tmp", "/dev/shm"] {
        let (made, error) = as_server(&vserver, || {
            let make = |n: u32| fs::File::create(format!("{directory}/empty-{n}"));
            let made = (0..MANY).map(make).enumerate();
            let mut failed = made.filter_map(|(n, file)| Some((n, file.err()?)));
            failed
                .next()
                .unwrap_or((MANY as usize, io::Error::other("no limit")))
        });
        assert_eq!(
            error.kind(),
            io::ErrorKind::StorageFull,
            "{directory}: {error} at {made}"
        );
        assert!(made < 20_000, "{directory}: {made}");
        assert!(
            made > 8_000 || directory == "/dev/shm",
            "{directory}: {made}"
        );
    }
    // One that is full of them keeps nobody from stopping.
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn shared_memory_and_messages_are_limited() {
    const ALL: usize = 64 << 20;
    let node = Node::new("sysv");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    as_server(&vserver, || {
        // SAFETY: it takes numbers alone.
        let segment =
            |size| unsafe { libc::shmget(libc::IPC_PRIVATE, size, libc::IPC_CREAT | 0o600) };
        assert!(segment(1 << 20) >= 0, "what a program may need");
        assert_eq!(segment(ALL), -1, "a large segment");
        let had = (0..64).filter(|_| segment(1 << 20) >= 0).count();
        assert!(had < 16, "{had} MiB in segments");
        let many = (0..MANY).filter(|_| segment(4096) >= 0).count();
        assert!(many < 100, "{many} segments");
        // SAFETY: it takes numbers alone.
        let queue = || unsafe { libc::msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600) };
        let queues = (0..MANY).filter(|_| queue() >= 0).count();
        assert!(queues <= 32, "{queues} queues");
        // SAFETY: it takes numbers alone.
        let set = || unsafe { libc::semget(libc::IPC_PRIVATE, 250, libc::IPC_CREAT | 0o600) };
        let sets = (0..MANY).filter(|_| set() >= 0).count();
        assert!(sets <= 32, "{sets} sets of semaphores");
    });
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
