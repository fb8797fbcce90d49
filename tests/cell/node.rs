//! A node of a test: a mount table, a network and a `/run` apart from the machine's, with disks, and
//! a `crm_resource` that writes down what it is told.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth::cell::client;
use berth::cell::state::{CellState, VolumePhase, VolumeState};
use berth::sys::command;
use berth::types::VserverName;
use lab::loop_device::LoopDevice;
use lab::{holds, wait_for};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::{AgentCall, set_apart};
use crate::disk::add_partition;
use crate::groups::Groups;

/// Everything but a repair is done well within this time, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The node's name in what Pacemaker says and is told.
pub const NAME: &str = "n1";

pub struct Node {
    // Dropped first: their images are in the directory.
    disks: RefCell<Vec<LoopDevice>>,
    directory: TempDir,
    tag: String,
    /// Dropped when nothing is left in them.
    _groups: Option<Groups>,
}

impl Node {
    /// Sets the calling thread, and all it starts, apart. Names begin with `tag`, of at most six letters, and are no
    /// other test's.
    pub fn new(tag: &str) -> Self {
        set_apart().expect("namespaces need root");
        sh("ip link set lo up");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let reports = directory.path().join("reports");
        replace(
            &directory.path().join("crm_resource"),
            "/usr/sbin/crm_resource",
            &format!("echo \"$@\" >>{}", reports.display()),
        );
        let none = None::<&str>;
        let of_etc = sh("stat -f -c %T /etc");
        if of_etc.trim() == "overlayfs" {
            // As in a container: its files can't be shown as another's, which is how a cell keeps its
            // servers from what only root may read. A copy on a file system that can stands for it.
            sh("mkdir /run/etc && cp -a /etc/. /run/etc && mount --bind /run/etc /etc");
        }
        // Where the records of repairs go.
        fs::create_dir_all("/var/lib/berth").expect("a directory");
        mount(
            Some("berth"),
            "/var/lib/berth",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .expect("a tmpfs over the machine's records");
        // A virtual server's name has room for no more.
        static NODES: AtomicU32 = AtomicU32::new(0);
        let number = NODES.fetch_add(1, Ordering::Relaxed) % 0x100;
        let tag = format!("{tag}-{:03x}{number:02x}", std::process::id() % 0x1000);
        let groups = Groups::new(&tag);
        Self {
            directory,
            tag,
            disks: RefCell::default(),
            _groups: groups,
        }
    }

    /// A virtual server's name that no other test has: `which` is one letter, from a to c.
    pub fn vserver(&self, which: char) -> VserverName {
        let name = format!("{}{which}", self.tag);
        name.parse().expect("a good name")
    }

    /// A device with a new file system of this type.
    pub fn disk(&self, fstype: &str) -> String {
        self.disk_of(fstype, if fstype == "xfs" { 320 } else { 128 })
    }

    /// The same, of `size` MiB.
    pub fn disk_of(&self, fstype: &str, size: u64) -> String {
        let number = self.disks.borrow().len();
        let image = self.directory.path().join(format!("{fstype}{number}"));
        fs::File::create(&image)
            .and_then(|f| f.set_len(size << 20))
            .expect("an image");
        sh(&format!("mkfs.{fstype} -q {}", image.display()));
        self.attach(&image)
    }

    /// Another device with the same on it as `device` has now: a clone.
    pub fn copy(&self, device: &str) -> String {
        let number = self.disks.borrow().len();
        let image = self.directory.path().join(format!("copy{number}"));
        sh(&format!(
            "dd if={device} of={} bs=1M conv=sparse status=none",
            image.display()
        ));
        self.attach(&image)
    }

    /// Another device on the same image as `device`: another path to the same disk.
    pub fn path_to(&self, device: &str) -> String {
        let image = sh(&format!("losetup --noheadings -O BACK-FILE {device}"));
        self.attach(Path::new(image.trim()))
    }

    /// A device on this image.
    pub fn attach(&self, image: &Path) -> String {
        self.keep(LoopDevice::on(image).expect("a loop device"))
    }

    /// Keeps a device until the end of the test, or until it is detached: its path.
    fn keep(&self, device: LoopDevice) -> String {
        let path = device.path().display().to_string();
        self.disks.borrow_mut().push(device);
        path
    }

    /// Detaches a device, whose number somebody else may have from then on.
    pub fn detach(&self, device: &str) {
        let is_other = |disk: &LoopDevice| disk.path() != Path::new(device);
        self.disks.borrow_mut().retain(is_other);
    }

    /// A shell line in the background that has said something.
    pub fn shell(&self, line: &str) -> std::process::Child {
        let mut c = shell(line);
        c.stdout(std::process::Stdio::piped());
        let mut child = c.spawn().expect("a shell");
        let mut byte = [0];
        let output = child.stdout.as_mut().expect("its output");
        std::io::Read::read_exact(output, &mut byte).expect("a word of it");
        child
    }

    /// A partition on this image, over all but its first MiB: the disk and the partition.
    pub fn partition(&self, image: &Path) -> (String, String) {
        let size = fs::metadata(image).expect("an image").len();
        let disk = LoopDevice::with_partitions(image).expect("a loop device");
        let disk = self.keep(disk);
        add_partition(&disk, 1 << 20, size - (1 << 20)).expect("a partition");
        let partition = format!("{disk}p1");
        (disk, partition)
    }

    /// Has this program say this, whatever it is asked for.
    pub fn have_say(&self, program: &str, text: &str) {
        let answer = self.directory.path().join("answer");
        fs::write(&answer, text).expect("an answer");
        let script = self.directory.path().join("says");
        replace(&script, program, &format!("cat {}", answer.display()));
    }

    /// Has this program fail and say this, until what is mounted over it is unmounted.
    pub fn have_fail(&self, program: &str, text: &str) {
        let script = self.directory.path().join("fails");
        replace(&script, program, &format!("echo '{text}' >&2; exit 1"));
    }

    /// Has this program wait for some seconds before it does anything.
    pub fn slow_down(&self, program: &str, seconds: f64) {
        // Where those see it, too, that see no more of the machine than its programs.
        sh("mount -t tmpfs berth /usr/src");
        let real = Path::new("/usr/src/real");
        fs::copy(program, real).expect("a copy of the program");
        let line = format!("sleep {seconds}; exec {} \"$@\"", real.display());
        replace(&self.directory.path().join("slow"), program, &line);
    }

    /// Puts a script in the place of a program.
    pub fn put_in_place(&self, program: &str, text: &str) {
        place(&self.directory.path().join("stand-in"), program, text);
    }

    /// Has the cluster know this attribute of the node, and no other one.
    pub fn set_attribute(&self, name: &str, value: &str) {
        let xml = format!(
            "<pacemaker-result><attribute name=\\\"{name}\\\" host=\\\"{NAME}\\\" value=\\\"{value}\\\"/>\
             </pacemaker-result>"
        );
        let line =
            format!("case \" $* \" in *\" {name} \"*) echo \"{xml}\" ;; *) exit 105 ;; esac");
        let script = self.directory.path().join("attrd_updater");
        replace(&script, "/usr/sbin/attrd_updater", &line);
    }

    /// A file system's resource.
    pub fn fs(&self, vserver: &VserverName, device: &str, directory: &str) -> AgentCall {
        let name = directory.replace('/', "-");
        self.pacemaker(
            AgentCall::new(env!("CARGO_BIN_EXE_fscheck")),
            &format!("{vserver}{name}"),
        )
        .parameter("vserver", vserver)
        .parameter("device", device)
        .parameter("directory", directory)
    }

    /// The resource of a virtual server's servers.
    pub fn servers(&self, vserver: &VserverName, services: &str) -> AgentCall {
        self.pacemaker(AgentCall::new(env!("CARGO_BIN_EXE_vserver")), vserver)
            .parameter("name", vserver)
            .parameter("services", services)
    }

    /// The resource of an address.
    pub fn vip(&self, vserver: &VserverName, ip: &str) -> AgentCall {
        self.pacemaker(
            AgentCall::new(env!("CARGO_BIN_EXE_vip")),
            &format!("{vserver}-ip"),
        )
        .parameter("vserver", vserver)
        .parameter("ip", ip)
    }

    fn pacemaker(&self, call: AgentCall, resource: &str) -> AgentCall {
        call.variable("OCF_RESOURCE_INSTANCE", resource)
            .variable("HA_LOGFILE", &self.log().to_string_lossy())
            .parameter("CRM_meta_timeout", "30000")
            .parameter("CRM_meta_on_node", NAME)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What agents, keepers and servers have logged so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// What Pacemaker was told, call by call.
    pub fn reports(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("reports")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until Pacemaker was told that this resource has failed.
    pub fn await_report(&self, resource: &str) {
        let wanted = format!("--fail -r {resource} -N {NAME}");
        eventually(&format!("report {wanted:?}"), || {
            self.reports().contains(&wanted)
        });
    }

    /// How a cell stands, by its keeper.
    #[track_caller]
    pub fn state(&self, vserver: &VserverName) -> CellState {
        let state = client::state(vserver, &[], Instant::now() + LIMIT);
        state.expect("an answer").expect("a keeper")
    }

    /// Waits until the file system at this directory of a cell stands like this, and gives how it does.
    #[track_caller]
    pub fn await_phase(
        &self,
        vserver: &VserverName,
        directory: &str,
        is_it: impl Fn(&VolumePhase) -> bool,
    ) -> VolumeState {
        let what = format!("{directory} of {vserver}");
        let look = || {
            let volumes = self.state(vserver).volumes.into_iter();
            let mut found = volumes.filter(|v| v.directory == Path::new(directory));
            match found.next() {
                Some(volume) if is_it(&volume.phase) => Ok(volume),
                other => Err(format!("{other:?}")),
            }
        };
        wait_for(what, LIMIT, look).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The keeper, PID 1 and guard of a cell, or what of them is alive.
    pub fn processes(&self, vserver: &VserverName) -> Vec<(i32, String)> {
        let wanted = format!("berth-keeper\0{vserver}\0");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        entries
            .filter_map(|entry| {
                let path = entry.path();
                let pid = path.file_name()?.to_str()?.parse().ok()?;
                let is_one = fs::read_to_string(path.join("cmdline")).ok()? == wanted;
                let name = fs::read_to_string(path.join("comm")).ok()?;
                is_one.then(|| (pid, name.trim().to_owned()))
            })
            .collect()
    }

    /// The process of this name in a cell's upkeep.
    pub fn process(&self, vserver: &VserverName, name: &str) -> i32 {
        let all = self.processes(vserver);
        let found = all.iter().find(|(_, comm)| comm == name);
        found.unwrap_or_else(|| panic!("no {name} among {all:?}")).0
    }

    /// Panics unless nothing is left of a cell: no process, no interface, no claim on a device.
    #[track_caller]
    pub fn assert_gone(&self, vserver: &VserverName, devices: &[&str]) {
        for device in devices {
            let mut options = fs::OpenOptions::new();
            let claim = options.read(true).custom_flags(libc::O_EXCL).open(device);
            assert!(claim.is_ok(), "{device} is not free: {claim:?}");
        }
        eventually(&format!("{vserver} has no process left"), || {
            self.processes(vserver).is_empty()
        });
        // The kernel clears a namespace's interfaces away in its own time.
        eventually(&format!("b-{vserver} is gone"), || {
            !try_sh(&format!("ip link show b-{vserver}")).0
        });
        assert!(client::find(vserver).expect("an answer").is_none());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.logged();
            // Without what the servers say of themselves.
            let own = |line: &&str| !line.contains("INFO: nfs: ") && !line.contains("INFO: smb: ");
            let lines: Vec<&str> = log.lines().filter(own).collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        for which in 'a'..='c' {
            for (pid, _) in self.processes(&self.vserver(which)) {
                signal(pid, Signal::SIGKILL);
            }
        }
    }
}

/// Puts a shell line, kept in `script`, in the place of a program.
fn replace(script: &Path, program: &str, line: &str) {
    place(script, program, &format!("#!/bin/sh\n{line}\n"));
}

/// Puts a script, kept in `script`, in the place of a program.
fn place(script: &Path, program: &str, text: &str) {
    fs::write(script, text).expect("a script");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let none = None::<&str>;
    mount(Some(script), program, none, MsFlags::MS_BIND, none).expect("a mount over the program");
}

/// Sends a signal to a process that may have ended.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Waits until `test` holds.
#[track_caller]
pub fn eventually(what: &str, test: impl Fn() -> bool) {
    if let Err(e) = wait_for(what, LIMIT, || holds(test(), "it is not so")) {
        panic!("{e}");
    }
}

/// A monitor as the cluster calls it again and again.
pub fn monitor(call: &AgentCall) -> AgentCall {
    call.clone().parameter("CRM_meta_interval", "10000")
}

/// Waits until such a monitor finds nothing wrong.
#[track_caller]
pub fn await_good(what: &str, call: &AgentCall) {
    eventually(what, || monitor(call).run("monitor").code == Some(0));
}

/// Runs a shell line that has to succeed, and gives what it wrote.
#[track_caller]
pub fn sh(line: &str) -> String {
    let (good, text) = try_sh(line);
    assert!(good, "{line}: {text}");
    text
}

/// Runs a shell line: whether it succeeded, and what it wrote.
pub fn try_sh(line: &str) -> (bool, String) {
    run(shell(line))
}

fn shell(line: &str) -> Command {
    let mut shell = command::command("/bin/sh");
    shell.args(["-c", line]);
    shell
}

fn run(shell: Command) -> (bool, String) {
    let output = command::run(shell, Instant::now() + LIMIT).expect("a shell");
    let text = output.text() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Runs a shell line in a cell, with its mounts, network and processes: whether it succeeded, and
/// what it wrote.
pub fn inside(vserver: &VserverName, line: &str) -> (bool, String) {
    let cell = client::find(vserver).expect("an answer").expect("a cell");
    let mut enter = command::command("/usr/bin/nsenter");
    enter.args([
        "-t",
        &cell.init_pid.to_string(),
        "-m",
        "-n",
        "-p",
        "-u",
        "-i",
        "/bin/sh",
        "-c",
        line,
    ]);
    run(enter)
}

/// Runs a shell line of the host in a cell's network alone.
pub fn in_network(vserver: &VserverName, line: &str) -> (bool, String) {
    let cell = client::find(vserver).expect("an answer").expect("a cell");
    let mut enter = command::command("/usr/bin/nsenter");
    enter.args([
        "-t",
        &cell.init_pid.to_string(),
        "-n",
        "/bin/sh",
        "-c",
        line,
    ]);
    run(enter)
}

/// The mount table of the test's host.
pub fn host_mounts() -> String {
    fs::read_to_string(Path::new("/proc/thread-self/mountinfo")).expect("a mount table")
}
