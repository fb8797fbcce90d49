//! A plain stand-in for a cell: namespaces, a root of its own, one file system, and the files and
//! servers that `berth::cell::service` asks for.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use berth::cell::probe::{self, Protocol};
use berth::cell::service::{
    self, Change, Entry, Export, Launch, NfsExport, Ready, ServerSpec, Surroundings, XfsIdentity,
};
use berth::plan::repair::FsKind;
use berth::sys::command::{command, run};
use berth::sys::device::DeviceSpec;
use lab::loop_device::LoopDevice;
use lab::{holds, wait_for};

use crate::image::{PATIENCE, soon};

/// Where the file system is attached in the cell.
pub const DATA: &str = "/data";

pub struct Cell {
    shell: Child,
    /// The process whose namespaces are the cell's.
    pid: u32,
    servers: Vec<(Launch, Child)>,
    dir: tempfile::TempDir,
}

/// Mounts in the new namespaces: $1 the root to be, $2 the device, $3 its type.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
hostname alpha
ip link set lo up
mount -t tmpfs -o mode=755 none "$1"
cd "$1"
mkdir usr etc host host/etc proc run tmp var dev devfs data
mount --bind -o ro /usr usr
mount --bind -o ro /etc host/etc
for name in bin sbin lib lib32 lib64; do ! [ -e /$name ] || ln -s usr/$name $name; done
for path in /etc/*; do
    case $path in
    /etc/mtab | /etc/hosts | /etc/resolv.conf | /etc/hostname) ;;
    *) ln -s /host$path etc/ ;;
    esac
done
ln -s /proc/self/mounts etc/mtab
mount -t proc -o subset=pid proc proc
mount -t tmpfs -o nodev,mode=755 none devfs
for node in null urandom; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mount -t "$3" "$2" data
touch run/ready
exec sleep 1000
"#;

impl Cell {
    pub fn new(device: &LoopDevice, kind: FsKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut c = command("/usr/bin/unshare");
        c.args([
            "-m",
            "-n",
            "-p",
            "-u",
            "-i",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ])
        .args(["sh", "-c", SCRIPT, "cell"])
        .arg(dir.path())
        .arg(device.path())
        .arg(kind.as_str());
        let mut cell = Self {
            shell: c.spawn().unwrap(),
            pid: 0,
            servers: vec![],
            dir,
        };
        let children = format!("/proc/{0}/task/{0}/children", cell.shell.id());
        wait_for("a cell with a file system", PATIENCE, || {
            let child = fs::read_to_string(&children).map_err(|e| e.to_string())?;
            let pid = child.trim().parse();
            cell.pid = pid.map_err(|_| format!("children {child:?}"))?;
            let ready = cell.path("/run/ready");
            holds(ready.exists(), format!("no {}", ready.display()))
        })
        .unwrap();
        cell
    }

    /// A path of the cell, as the test sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = self.dir.path().display();
        format!("/proc/{}/root{root}{path}", self.pid).into()
    }

    pub fn write(&self, spec: &ServerSpec, exports: &[Export]) {
        let found = Surroundings::look(spec, exports).unwrap();
        for entry in service::files(spec, exports, &found).unwrap() {
            match entry {
                Entry::Directory { path, mode } => {
                    let path = self.path(path.to_str().unwrap());
                    fs::create_dir_all(&path).unwrap();
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
                Entry::File { path, content, .. } => {
                    fs::write(self.path(path.to_str().unwrap()), content).unwrap();
                }
                Entry::Node { path, device } => {
                    let path = self.path(path.to_str().unwrap());
                    let _ = fs::remove_file(&path);
                    let block = nix::sys::stat::SFlag::S_IFBLK;
                    let nobody = nix::sys::stat::Mode::empty();
                    nix::sys::stat::mknod(&path, block, nobody, device).unwrap();
                    let opened = fs::File::open(&path).unwrap_err();
                    assert_eq!(opened.kind(), std::io::ErrorKind::PermissionDenied);
                }
            }
        }
    }

    /// A command in the cell, with `rights` alone.
    pub fn command(&self, argv: &[String], rights: u64) -> std::process::Command {
        let caps: Vec<String> = (0..64)
            .filter(|bit| (rights >> bit) & 1 == 1)
            .map(|bit| format!(",+cap_{bit}"))
            .collect();
        let mut c = command("/usr/bin/nsenter");
        c.args(["--target", &self.pid.to_string(), "--all", "--", "chroot"])
            .arg(self.dir.path())
            // In a session of its own, as PID 1 starts servers: Samba signals its whole process group.
            .args(["setsid", "setpriv", "--no-new-privs", "--inh-caps=-all"])
            .arg(format!("--bounding-set=-all{}", caps.concat()))
            .args(argv);
        c
    }

    /// Starts the servers and waits until they answer.
    pub fn start(&mut self, spec: &ServerSpec, exports: &[Export]) {
        self.write(spec, exports);
        for launch in service::launches(spec) {
            let log = fs::File::create(self.dir.path().join(&launch.name)).unwrap();
            let mut c = self.command(&launch.argv, launch.capabilities.bits());
            c.envs(launch.environment.clone());
            c.stdout(log.try_clone().unwrap()).stderr(log);
            let child = c.spawn().unwrap();
            if let Ready::Answers(protocol) = launch.ready {
                self.wait_answer(protocol);
            }
            self.servers.push((launch, child));
        }
    }

    fn wait_answer(&self, protocol: Protocol) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, protocol.port()));
        let limit = soon();
        let ask = || probe::ask_at(protocol, address, limit);
        self.in_network(|| wait_for(format_args!("{protocol:?}"), PATIENCE, ask))
            .unwrap();
    }

    /// Does something in the cell's network.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = fs::File::open(format!("/proc/{}/ns/net", self.pid)).unwrap();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            worker.join().unwrap()
        })
    }

    /// Makes the servers take up other exports.
    pub fn change(&mut self, spec: &ServerSpec, old: &[Export], new: &[Export]) {
        self.write(spec, new);
        for change in service::changes(spec, old, new) {
            match change {
                Change::Signal { server, signal } => self.signal(server, signal),
                Change::Run { server, argv } => {
                    let rights = self.launch(server).0.capabilities.bits();
                    run(self.command(&argv, rights), soon())
                        .and_then(|o| o.check(&argv[0]))
                        .unwrap();
                }
            }
        }
    }

    /// What a server has written so far.
    pub fn log(&self, server: &str) -> String {
        let text = fs::read(self.dir.path().join(server)).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn launch(&self, server: &str) -> &(Launch, Child) {
        self.servers.iter().find(|(l, _)| l.name == server).unwrap()
    }

    fn signal(&self, server: &str, signal: i32) {
        let (_, child) = self.launch(server);
        // nsenter forked: the server is its child.
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid: i32 = fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// Ends the servers, in reverse order.
    pub fn stop(&mut self) {
        while let Some((launch, _)) = self.servers.last() {
            self.signal(&launch.name.clone(), launch.stop);
            let patience = launch.patience;
            let (launch, mut child) = self.servers.pop().unwrap();
            wait_for(format_args!("the end of {}", launch.name), patience, || {
                child.try_wait().unwrap().ok_or("it lives")
            })
            .unwrap();
        }
    }

    /// Unmounts the file system as soon as nobody holds it.
    pub fn unmount(&self) {
        let data = self.dir.path().join("data");
        wait_for("an unmounted file system", PATIENCE, || {
            let mut c = command("/usr/bin/nsenter");
            c.args(["--target", &self.pid.to_string(), "--mount", "--", "umount"]);
            c.arg(&data);
            run(c, soon()).and_then(|o| o.check("umount"))
        })
        .unwrap();
    }

    /// Mounts it again.
    pub fn mount(&self, device: &LoopDevice) {
        let mut c = command("/usr/bin/nsenter");
        c.args(["--target", &self.pid.to_string(), "--mount", "--", "mount"]);
        c.arg(device.path()).arg(self.dir.path().join("data"));
        run(c, soon()).and_then(|o| o.check("mount")).unwrap();
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (launch, _) in &self.servers {
                let log = fs::read_to_string(self.dir.path().join(&launch.name));
                eprintln!("--- {}\n{}", launch.name, log.unwrap_or_default());
            }
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        for (_, child) in &mut self.servers {
            let _ = child.wait();
        }
    }
}

/// What a vserver with one file system is.
pub fn spec(nfs: bool, smb: bool) -> ServerSpec {
    ServerSpec {
        name: "alpha".parse().unwrap(),
        nfs,
        smb,
        commands: vec![],
        state: Path::new(DATA).join(".berth"),
        lease: ServerSpec::LEASE,
        grace: ServerSpec::GRACE,
        config_dir: None,
        cgroup: Default::default(),
        limits: Default::default(),
        allow_calls: vec![],
    }
}

/// Its NFS export to everybody.
pub fn export(device: &LoopDevice, kind: FsKind) -> Export {
    let found = DeviceSpec::Path(device.path().into())
        .resolve(soon())
        .unwrap();
    Export {
        directory: DATA.to_owned(),
        xfs: (kind == FsKind::Xfs).then(|| XfsIdentity {
            device: found.number,
            uuid: found.superblock.unwrap().uuid,
        }),
        nfs: Some(NfsExport {
            clients: vec!["*".parse().unwrap()],
            access: Default::default(),
            squash: Default::default(),
            ports: Default::default(),
        }),
        smb: None,
    }
}
