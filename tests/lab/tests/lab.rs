//! The lab itself: what it claims to be and to leave behind.

#![allow(clippy::disallowed_methods)] // the program under test is started directly
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lab::nfs4::{Ack, Client, Writer, verify};
use lab::protocol::Cable;
use lab::{Lab, Options, holds, stage, wait_for};

const SOON: Duration = Duration::from_secs(40);

/// One lab test at a time: each of them needs the machine's two cores for itself.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options(suffix: &str, nodes: u8) -> Options {
    let mut options = stage::options(suffix);
    options.plan.nodes = nodes;
    options.plan.disks.truncate(2);
    options
}

/// How many loop devices the lab called `name` has.
fn loops(name: &str) -> usize {
    let entries = fs::read_dir("/sys/block").unwrap().flatten();
    let files = entries.map(|e| e.path().join("loop/backing_file"));
    let of_lab = |file: &String| file.contains(&format!("/run/berth-lab/{name}/"));
    files
        .filter_map(|f| fs::read_to_string(f).ok())
        .filter(of_lab)
        .count()
}

/// Whether anything of the lab called `name` can be seen on this machine.
fn remains(name: &str) -> Result<(), String> {
    let path = format!("/run/berth-lab/{name}");
    holds(!Path::new(&path).exists(), format!("{path} is there"))?;
    let lock = format!("{path}.lock");
    holds(!Path::new(&lock).exists(), format!("{lock} is there"))?;
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    holds(!mounts.contains(&path), "a mount is there".to_owned())?;
    holds(loops(name) == 0, "a loop device is there".to_owned())
}

fn run(lab: &Lab, machine: &str, script: &str) -> String {
    let output = lab.exec(machine, &["sh", "-c", script]).unwrap();
    output.check(format!("{machine}: {script}")).unwrap().stdout
}

/// The node on which `resource` runs, once it does, except on `not`.
fn running_on(lab: &Lab, ask: &str, resource: &str, not: &str) -> String {
    wait_for(format!("{resource} to run"), SOON, || {
        let output = lab.exec(ask, &["crm_resource", "-W", "-Q", "-r", resource])?;
        let node = output.stdout.trim().to_owned();
        match node.is_empty() || node == not {
            true => Err(lab::Error::new(output.stderr)),
            false => Ok(node),
        }
    })
    .unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_node_that_loses_power_is_fenced_and_its_resources_run_elsewhere() {
    let _alone = alone();
    let options = options("fence", 3);
    let lab = Lab::up(&options).unwrap();
    run(
        &lab,
        "n1",
        "cibadmin -o resources -C -X '<primitive id=\"dummy\" class=\"ocf\" \
         provider=\"pacemaker\" type=\"Dummy\"/>'",
    );
    let first = running_on(&lab, "n1", "dummy", "");
    let other = if first == "n1" { "n2" } else { "n1" };
    // Corosync killed: the node is alive and must be fenced by the others, through the fence agent.
    run(&lab, &first, "killall -9 corosync");
    let second = running_on(&lab, other, "dummy", &first);
    assert_ne!(first, second);
    assert!(
        !lab.status().unwrap().machines[&first].on,
        "{first} has power after fencing"
    );
    assert!(lab.exec(&first, &["true"]).is_err());
    lab.boot(&first).unwrap();
    lab.wait_for_cluster(&lab.plan().node_names()).unwrap();
    lab.crash(&second).unwrap();
    let ask = if second == "n1" { "n2" } else { "n1" };
    running_on(&lab, ask, "dummy", &second);
    lab.down().unwrap();
    remains(&options.plan.name).unwrap();
}

#[test]
#[ignore = "needs root"]
fn two_labs_on_one_machine_do_not_meet() {
    let _alone = alone();
    let (left, right) = (options("left", 1), options("right", 1));
    thread::scope(|scope| {
        let labs = [&left, &right].map(|o| scope.spawn(|| Lab::up(o).unwrap()));
        let [one, two] = labs.map(|lab| lab.join().unwrap());
        run(
            &one,
            "n1",
            "echo left > /etc/side; echo left > /var/lib/pacemaker/side",
        );
        run(
            &two,
            "n1",
            "test ! -e /etc/side; test ! -e /var/lib/pacemaker/side",
        );
        assert!(!Path::new("/etc/side").exists(), "a node wrote to the host");
        for lab in [&one, &two] {
            run(
                lab,
                "c2",
                "ping -c 1 -W 2 10.1.0.1 && ping -c 1 -W 2 fd00:1::1",
            );
        }
        lab_is_refused(&left);
    });
    remains(&left.plan.name).unwrap();
    remains(&right.plan.name).unwrap();
}

/// A second lab of the same name.
fn lab_is_refused(options: &Options) {
    let error = Lab::up(options).unwrap_err().to_string();
    assert!(error.contains("is up already"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_killed_run_leaves_nothing() {
    let _alone = alone();
    let options = options("kill", 1);
    let name = &options.plan.name;
    // The command that brings it up is killed half-way: the lab ends by itself.
    let mut up = command(name, &["up", "--nodes", "1"]).spawn().unwrap();
    wait_for("its first loop device", SOON, || {
        holds(loops(name) > 0, "none")
    })
    .unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    wait_for("its devices to go", SOON, || {
        holds(loops(name) == 0, "still there")
    })
    .unwrap();
    // The warden may be dying yet. Now it is killed: nobody is left who could clear up, so the next run does.
    let lab = Lab::up(&options).unwrap();
    let before = loops(name);
    let warden = fs::read_to_string(format!("/run/berth-lab/{name}/warden.lock")).unwrap();
    let status = Command::new("kill").args(["-9", warden.trim()]).status();
    assert!(status.unwrap().success());
    std::mem::forget(lab);
    // Killed is not dead: the kernel first takes apart what it had, and who comes next waits for that.
    let lab = Lab::up(&options).unwrap();
    assert_eq!(
        loops(name),
        before,
        "loop devices of the killed lab are still there"
    );
    lab.down().unwrap();
    remains(name).unwrap();
}

#[test]
fn what_is_no_system_is_refused_in_one_line() {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-system");
    fs::create_dir_all(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    for (root, words) in [
        (empty, "is no root file system"),
        ("/no/such/place", "is no root file system"),
        ("/tmp/a,b", "without comma"),
    ] {
        let name = format!("t{}-root", std::process::id());
        for verb in [
            &["up", "--root", root][..],
            &["run", "--root", root, "--", "true"],
        ] {
            let output = command(&name, verb)
                .stderr(Stdio::piped())
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            // Another user is told that this takes root.
            let root_said = said.contains("needs root");
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(words) || root_said, "{root}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        assert!(remains(&name).is_ok());
    }
}

/// Made with `packaging/lab-image`.
#[test]
#[ignore = "needs root"]
fn an_image_that_can_not_be_made_is_a_code_of_its_own_and_leaves_what_was_there() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/lab-image");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("i{}", std::process::id()));
    let image = place.join("image");
    let make = |suite: &str, image: &Path| {
        let mut command = Command::new(&own);
        command.arg(suite).arg(image);
        // Nobody listens there.
        command.env("MIRROR", "http://127.0.0.1:9/debian");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = make("trixie", &image);
    assert_eq!(code, Some(3), "{said}");
    // For want of the mirror, or already of mmdebstrap.
    assert!(said.starts_with("lab-image: "), "{said}");
    assert!(!image.exists() && said.lines().count() == 1, "{said}");

    // One that was made from another list of packages is of no use, and still there.
    fs::create_dir_all(image.join("etc")).unwrap();
    fs::write(image.join("etc/lab-image"), "trixie: bc\n").unwrap();
    let (code, said) = make("trixie", &image);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("is older than its list of packages"),
        "{said}"
    );
    assert!(image.join("etc/lab-image").exists());

    let (code, said) = make("trixie", Path::new("/etc"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("is left alone"), "{said}");
    let (code, said) = make("../trixie", &image);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("must be a release's code name"), "{said}");
    fs::remove_dir_all(place).unwrap();
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.arg("--name").arg(name).args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
#[ignore = "needs root"]
fn disks_are_shared_cables_and_paths_fail_and_unwritten_data_is_lost() {
    let _alone = alone();
    let options = options("disk", 2);
    let lab = Lab::up(&options).unwrap();
    let disk = "/dev/disk/lab/d1";
    let with_disk = |node: &str, script: &str| {
        let around = format!("mkdir -p /srv/d && mount {disk} /srv/d && {script} && umount /srv/d");
        run(&lab, node, &around)
    };
    let states = lab.status().unwrap().machines;
    assert_ne!(
        states["n1"].disks["d1"], states["n2"].disks["d1"],
        "one device for two nodes"
    );
    for kind in ["ext4", "xfs", "btrfs"] {
        lab.mkfs("d1", kind).unwrap();
        let copy = "cp -r /usr/share/pacemaker /srv/d/a";
        with_disk("n1", copy);
        with_disk("n2", "diff -r /usr/share/pacemaker /srv/d/a");
        with_disk("n2", "rm -r /srv/d/a");
        with_disk("n1", "test ! -e /srv/d/a");
    }

    lab.set_path("n1", "d1", false).unwrap();
    let read = format!("dd if={disk} of=/dev/null bs=4096 count=1 iflag=direct");
    assert!(
        !lab.exec("n1", &["sh", "-c", &read])
            .unwrap()
            .status
            .success()
    );
    run(&lab, "n2", &read);
    lab.set_path("n1", "d1", true).unwrap();
    run(&lab, "n1", &read);

    run(&lab, "c1", "ping -c 1 -W 2 10.1.0.1");
    for state in [Cable::Pulled, Cable::Dead] {
        lab.set_cable("n1", "eth1", state).unwrap();
        assert!(
            !lab.exec("c1", &["ping", "-c1", "-W1", "10.1.0.1"])
                .unwrap()
                .status
                .success()
        );
    }
    lab.set_cable("n1", "eth1", Cable::Good).unwrap();
    // The client may still remember that nobody answered its ARP requests.
    wait_for("n1 to answer again", SOON, || {
        let output = lab.exec("c1", &["ping", "-c1", "-W1", "10.1.0.1"])?;
        output.check("ping").map(drop)
    })
    .unwrap();

    lab.mkfs("d1", "ext4").unwrap();
    run(
        &lab,
        "n1",
        &format!("mount {disk} /srv/d; echo a > /srv/d/kept; sync; echo b > /srv/d/lost"),
    );
    lab.crash("n1").unwrap();
    assert_eq!(with_disk("n2", "ls /srv/d"), "kept\nlost+found\n");
    lab.down().unwrap();
    remains(&options.plan.name).unwrap();
}

/// What a virtual server is to the client, made by hand: a file system, Ganesha (6.1 and later needs the first
/// key on a machine without CAP_SYS_RESOURCE), an address.
const SERVE: &str = r#"
mkdir -p /srv/d && mount /dev/disk/lab/d1 /srv/d && mkdir -p /srv/d/data /srv/d/recovery
cat > /etc/ganesha/lab.conf <<C
NFS_CORE_PARAM { Allow_Set_Io_Flusher_Fail = true; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; fsid_device = false; }
NFSv4 { RecoveryBackend = fs; RecoveryRoot = "/srv/d/recovery"; Grace_Period = 10; Lease_Lifetime = 8; Server_Scope = alpha; Delegations = false; }
EXPORT { Export_Id = 1; Path = /srv/d/data; Pseudo = /data; Access_Type = RW; Squash = none; Protocols = 4; Transports = TCP; FSAL { Name = VFS; } }
C
hostname alpha
ip addr add 10.1.0.50/24 dev eth1
ganesha.nfsd -f /etc/ganesha/lab.conf -L /var/log/ganesha/lab.log -p /run/ganesha.pid
"#;

#[test]
#[ignore = "needs root"]
fn the_nfs_client_goes_on_with_its_handle_after_a_power_failure() {
    let _alone = alone();
    let options = options("nfs", 2);
    let lab = Lab::up(&options).unwrap();
    lab.mkfs("d1", "ext4").unwrap();
    run(&lab, "n1", SERVE);
    let server: IpAddr = "10.1.0.50".parse().unwrap();
    let writer = Writer {
        server,
        client: "test".to_owned(),
        directory: "/data".to_owned(),
        file: "records".to_owned(),
        pause: Duration::from_millis(2),
    };
    let stop = AtomicBool::new(false);
    let count = Mutex::new(0);
    let more_than = |records: u64| {
        wait_for(format!("{records} records"), SOON, || {
            let now = *count.lock().unwrap();
            holds(now > records, now)
        })
        .unwrap();
    };
    let report = thread::scope(|scope| {
        let working = scope.spawn(|| {
            let note = |ack: &Ack| *count.lock().unwrap() = ack.number;
            lab.on_network_of("c1", || writer.run(&stop, note)).unwrap()
        });
        more_than(100);
        lab.crash("n1").unwrap();
        run(&lab, "n2", SERVE);
        // Nobody announces the address here.
        run(&lab, "c1", "ip neigh flush all");
        let now = *count.lock().unwrap();
        more_than(now + 100);
        stop.store(true, Ordering::SeqCst);
        working.join().unwrap()
    });
    assert_eq!(report.reclaims, 1, "{report}");
    lab.on_network_of("c1", || verify(&writer, &report))
        .unwrap()
        .unwrap();
    let list = || {
        Client::new(server, "list")
            .list("/data")
            .map_err(|e| e.to_string())
    };
    assert_eq!(lab.on_network_of("c1", list).unwrap().unwrap(), ["records"]);
    lab.down().unwrap();
    remains(&options.plan.name).unwrap();
}
