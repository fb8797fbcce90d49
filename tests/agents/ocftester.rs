//! ClusterLabs' own `ocf-tester` on the real agents, with a real file system, real servers and a real
//! port, in a network and a `/run` of their own.
//!
//! One of its checks is waived: it holds the meta-data against `ra-api-1.dtd`, the grammar of OCF 1.0,
//! which has no `unique-group`, `reloadable`, `select` or `reload-agent`; the 1.1 specification's own
//! example fails it. `generated.rs` holds them against the grammar of 1.1 instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::sys::command;
use lab::loop_device::LoopDevice;
use tempfile::TempDir;

use crate::common::{AgentCall, set_apart};
use crate::installed::copy_program;

/// The one complaint of ocf-tester that is waived.
const OUTDATED_GRAMMAR: &str =
    "Your agent produces meta-data which does not conform to ra-api-1.dtd";

/// The whole of ocf-tester takes about twenty actions, some of which start and stop servers.
const LIMIT: Duration = Duration::from_secs(300);

fn run(program: &str, arguments: &[&str]) -> String {
    let mut c = command::command(program);
    c.args(arguments);
    let output = command::run(c, Instant::now() + LIMIT).and_then(|o| o.check(program));
    output.expect("the program succeeds").text()
}

/// A file system of its own on a loop device, and a place for copies of the agents that user nobody
/// can reach.
#[derive(Debug)]
struct Site {
    // Dropped first: its file is in the directory.
    device: LoopDevice,
    directory: TempDir,
    vserver: String,
}

impl Site {
    /// Sets the calling thread, and all it starts, apart from the rest of the machine.
    fn new(agent: &str) -> Self {
        set_apart().expect("namespaces need root");
        run("/usr/sbin/ip", &["link", "set", "lo", "up"]);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).expect("its permissions");
        let image = directory.path().join("image");
        let file = fs::File::create(&image).expect("an image");
        file.set_len(128 << 20).expect("space for an image");
        let name = image.to_str().expect("a path in UTF-8");
        run("/usr/sbin/mkfs.ext4", &["-q", name]);
        Self {
            device: LoopDevice::on(&image).expect("a loop device"),
            directory,
            vserver: format!("ot-{agent}"),
        }
    }

    /// A copy of an agent's executable where user nobody can reach it.
    fn install(&self, executable: &str) -> PathBuf {
        let name = Path::new(executable).file_name().expect("a file name");
        let copy = self.directory.path().join(name);
        // The keeper is the same program: while it runs, its file can't be written.
        if !copy.exists() {
            copy_program(executable, &copy);
        }
        copy
    }

    /// A port with a link, on the subnet 192.0.2.0/24.
    fn add_port(&self) {
        for words in [
            "link add port0 type veth peer name wire0",
            "link set wire0 up",
            "link set port0 up",
            "address add 192.0.2.1/24 dev port0",
        ] {
            run("/usr/sbin/ip", &words.split(' ').collect::<Vec<_>>());
        }
    }

    fn device(&self) -> &str {
        self.device.path().to_str().expect("a path in UTF-8")
    }

    fn home(&self) -> AgentCall {
        AgentCall::new(self.install(env!("CARGO_BIN_EXE_fscheck")))
            .variable("OCF_RESOURCE_INSTANCE", "ocf-tester-home")
            .parameter("vserver", &self.vserver)
            .parameter("device", self.device())
            .parameter("directory", "/data")
    }

    fn server(&self) -> AgentCall {
        AgentCall::new(self.install(env!("CARGO_BIN_EXE_vserver")))
            .variable("OCF_RESOURCE_INSTANCE", "ocf-tester-server")
            .parameter("name", &self.vserver)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for call in [self.server(), self.home()] {
            call.run("stop");
        }
    }
}

/// Runs ocf-tester on `agent` and panics for anything it complains about, but for the waived line.
fn judge(agent: &Path, parameters: &[(&str, &str)]) {
    let mut tester = command::command("/usr/sbin/ocf-tester");
    tester.args(["-n", "ocf-tester"]);
    for (name, value) in parameters {
        tester.arg("-o").arg(format!("{name}={value}"));
    }
    tester.arg(agent);
    let output = command::run(tester, Instant::now() + LIMIT).expect("ocf-tester runs");
    let (text, stderr) = (output.text(), String::from_utf8_lossy(&output.stderr));
    let complaints: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("* rc=") && !l.ends_with(OUTDATED_GRAMMAR))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}\n{text}\n{stderr}");
    // It counts the waived line, and says so when it has come to its end.
    let end = format!("{} failed 1 tests", agent.display());
    assert!(stderr.contains(&end), "not finished:\n{text}\n{stderr}");
}

#[test]
#[ignore = "needs root"]
fn fscheck_passes() {
    let site = Site::new("fscheck");
    judge(
        &site.install(env!("CARGO_BIN_EXE_fscheck")),
        &[
            ("vserver", &site.vserver),
            ("device", site.device()),
            ("directory", "/data"),
        ],
    );
}

#[test]
#[ignore = "needs root"]
fn vserver_passes() {
    let site = Site::new("vserver");
    site.home().run("start").expect(0);
    judge(
        &site.install(env!("CARGO_BIN_EXE_vserver")),
        &[("name", &site.vserver)],
    );
}

#[test]
#[ignore = "needs root"]
fn vip_passes() {
    let site = Site::new("vip");
    site.add_port();
    site.home().run("start").expect(0);
    site.server().run("start").expect(0);
    judge(
        &site.install(env!("CARGO_BIN_EXE_vip")),
        &[
            ("vserver", &site.vserver),
            ("ip", "192.0.2.7"),
            ("subnet", "office=192.0.2.0/24"),
        ],
    );
}
