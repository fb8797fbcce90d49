//! Packages: installed, upgraded while virtual servers, ports and a detour are in use, downgraded, refused to
//! go, removed and purged, as an administrator does it with dpkg.
//!
//! The packages are made by `packaging/packages` and, of the version to upgrade from,
//! `packaging/packages deb --of COMMIT --into target/packages/before`.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use common::detour::{LIMIT, PORTWATCH, degraded, failed, gather, lose, mend, routers};
use common::{assert_unharmed, processes, run};
use lab::bench::timeline;
use lab::flow::{Echo, Stream};
use lab::protocol::Cable;
use lab::worker::{Worker, at_work, counts, wait_for_work};
use lab::{Error, Lab, Output, holds, ports, scene, stage, status, wait_for};

const VIP: &str = "10.1.0.50";
const OTHER: &str = "10.2.0.50";
/// Where the packages lie on the nodes.
const BEFORE: &str = "/root/before.deb";
const NEW: &str = "/root/new.deb";
const AGENTS: &str = "/usr/lib/ocf/resource.d/berth";
/// Acknowledgements of each writer before anything is asked of the next step.
const ENOUGH: u64 = 5;
const DPKG_LIMIT: Duration = Duration::from_secs(120);
/// All that is called berth where packages put things, but for the lab's own directory.
const NAMED: &str =
    "find /etc /lib /usr /var /run -xdev -iname '*berth*' ! -name berth-snippets | sort";

/// The one package in a directory of packages.
fn package(directory: &str) -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/packages");
    let directory = made.join(directory);
    let entries = fs::read_dir(&directory).map(|all| all.flatten().map(|e| e.path()).collect());
    let mut found: Vec<PathBuf> = entries.unwrap_or_default();
    found.retain(|path| path.extension().is_some_and(|e| e == "deb"));
    assert_eq!(
        found.len(),
        1,
        "{}: there is to be one package, made by packaging/packages: {found:?}",
        directory.display()
    );
    found.remove(0)
}

/// A lab whose nodes have nothing of berth, but for the packages in files.
fn up() -> Lab {
    let packages = [(BEFORE, package("before")), (NEW, package(""))];
    let lab = Lab::up(&stage::options("upgrade")).unwrap();
    for node in lab.plan().node_names() {
        for (path, package) in &packages {
            lab.send(&node, package, path).unwrap();
        }
        // It would read all manual pages of the system at each installation; small systems leave files out.
        let script = "rm -f /var/lib/man-db/auto-update /etc/dpkg/dpkg.cfg.d/*";
        run(&lab, &node, script);
    }
    lab
}

fn dpkg(lab: &Lab, node: &str, arguments: &str) -> Output {
    let script = format!("DEBIAN_FRONTEND=noninteractive dpkg {arguments}");
    lab.exec_within(node, &["sh", "-c", &script], DPKG_LIMIT)
        .unwrap()
}

#[track_caller]
fn install(lab: &Lab, node: &str, package: &str) -> String {
    let output = dpkg(lab, node, &format!("--install {package}"));
    let told = format!("{}{}", output.stdout, output.stderr);
    output
        .check(format!("install {package} on {node}: {told}"))
        .unwrap();
    assert_eq!(run(lab, node, "dpkg --verify berth"), "", "{node}");
    told
}

/// Portwatch's daemon, and whether it runs the program that is installed.
fn daemon(lab: &Lab, node: &str) -> (u32, bool) {
    let script = format!(
        "pid=$(pgrep -x -r RSD berth-portwatch) && echo $pid && [ /proc/$pid/exe -ef {AGENTS}/portwatch ]; echo $?"
    );
    wait_for("portwatch's daemon", LIMIT, || {
        let told = run(lab, node, &script);
        let words: Vec<&str> = told.split_whitespace().collect();
        match words[..] {
            [pid, same] => Ok((pid.parse().unwrap(), same == "0")),
            _ => Err(told),
        }
    })
    .unwrap()
}

/// Whether alpha's keeper runs the program that is installed: by what the package's own tool says, which has to be
/// what the kernel has.
fn keeper_is_current(lab: &Lab, node: &str) -> bool {
    let (_, pid) = processes(lab, node, "alpha").remove(0);
    let script = format!(
        "for agent in fscheck vserver vip; do [ /proc/{pid}/exe -ef {AGENTS}/$agent ] && exit 0; done; echo no"
    );
    let current = run(lab, node, &script).is_empty();
    let told = run(lab, node, "/usr/lib/berth/in-use");
    let line = match current {
        true => "virtual server alpha",
        false => "virtual server alpha (as installed before)",
    };
    assert!(told.lines().any(|l| l == line), "{told}");
    current
}

/// Neither removed nor purged, for these reasons, which are told in a line.
#[track_caller]
fn refused(lab: &Lab, node: &str, reasons: &[&str]) {
    for verb in ["--remove", "--purge"] {
        let output = dpkg(lab, node, &format!("{verb} berth"));
        assert!(!output.status.success(), "{verb} on {node}");
        let told = format!("{}{}", output.stdout, output.stderr);
        let line = told.lines().find(|line| line.starts_with("berth: "));
        let line = line.unwrap_or_else(|| panic!("no reason: {told}"));
        assert!(reasons.iter().all(|why| line.contains(why)), "{line}");
        assert!(line.contains("crm cluster stop"), "{line}");
        assert_eq!(run(lab, node, "dpkg --verify berth"), "");
    }
}

fn restart(lab: &Lab, node: &str, resource: &str) {
    let script = format!("crm_resource --restart --resource {resource}");
    run(lab, node, &script);
}

#[test]
#[ignore = "needs root"]
fn packages_come_and_go_under_virtual_servers_at_work() {
    let lab = up();
    let nodes = lab.plan().node_names();
    let bare = run(&lab, &nodes[2], NAMED);
    for node in &nodes {
        let told = install(&lab, node, BEFORE);
        assert!(!told.contains("go on with"), "nothing runs yet: {told}");
    }
    the_shells_find_the_agents(&lab, &nodes[0]);
    an_old_kernel_is_told_of(&lab, &nodes[0]);
    let node = scene::serve(&lab, &[PORTWATCH, &common::alpha()]).unwrap();
    gather(&lab, &node, &[VIP]);
    let scene = Scene {
        lab: &lab,
        node: &node,
        bare: bare.lines().collect(),
    };
    scene.upgraded_during_a_detour();
    scene.a_keeper_of_before_obeys_agents_of_now();
    scene.the_next_keeper_is_of_now();
    scene.downgraded();
    scene.upgraded_while_resources_start();
    scene.without_room_all_is_as_before();
    scene.what_runs_is_not_removed();
    scene.removed_purged_and_installed_again();
    assert_eq!(
        timeline::powered(&lab).unwrap(),
        nodes,
        "somebody was fenced"
    );
    assert_eq!(failed(&lab, &node), BTreeSet::new());
    lab.down().unwrap();
}

fn the_shells_find_the_agents(lab: &Lab, node: &str) {
    for agent in ["fscheck", "vserver", "vip", "portwatch"] {
        for shell in ["crm ra info", "pcs resource describe"] {
            let told = run(lab, node, &format!("{shell} ocf:berth:{agent}"));
            let title = format!("ocf:berth:{agent}");
            assert!(
                told.contains(&title) && told.lines().count() > 20,
                "{shell}: {told}"
            );
        }
    }
}

/// The kernel calls itself 2.6 then.
fn an_old_kernel_is_told_of(lab: &Lab, node: &str) {
    let script = format!("setarch --uname-2.6 dpkg --install {BEFORE}");
    let output = lab.exec(node, &["sh", "-c", &script]).unwrap();
    let output = output.check("install it again").unwrap();
    let told = output
        .stderr
        .lines()
        .find(|line| line.starts_with("berth: Linux 2.6."));
    assert!(
        told.is_some_and(|line| line.contains("5.12")),
        "{}",
        output.stderr
    );
}

struct Scene<'a> {
    lab: &'a Lab,
    /// alpha's.
    node: &'a str,
    /// What the last node has that is called berth, without the package.
    bare: BTreeSet<&'a str>,
}

impl Scene<'_> {
    fn others(&self) -> [String; 2] {
        let mut nodes = self.lab.plan().node_names();
        nodes.retain(|n| n != self.node);
        nodes.try_into().unwrap()
    }

    /// Plays while clients are at work on connections that must not break and servers that must not restart.
    fn untouched(&self, play: impl FnOnce(&dyn Fn())) {
        let Self { lab, node, .. } = *self;
        let before = processes(lab, node, "alpha");
        let workers = [
            Worker::nfs("c1", VIP, "/data").unwrap(),
            Worker::nfs("c2", OTHER, "/home").unwrap(),
            Worker::smb("c1", VIP, "data").unwrap(),
        ];
        let echo = Echo::start(lab, (node, "alpha"), VIP, "c1").unwrap();
        let with_echo = processes(lab, node, "alpha");
        let stream = Stream::start(lab, "c1", echo.address()).unwrap();
        let ((), reports) = at_work(lab, &workers, || {
            play(&|| {
                stream.wait_for_progress(LIMIT).unwrap();
                wait_for_work(&workers, &counts(&workers), ENOUGH, || {}).unwrap();
                assert_eq!(failed(lab, node), BTreeSet::new());
            });
            Ok(())
        })
        .unwrap();
        assert_eq!(stream.take().broken, None);
        assert_eq!(
            processes(lab, node, "alpha"),
            with_echo,
            "alpha was touched"
        );
        assert!(with_echo.starts_with(&before));
        assert_unharmed(lab, &workers, &reports);
    }

    /// A subnet is lost; returns the node that routes.
    fn detour(&self, work: &dyn Fn()) -> String {
        lose(self.lab, self.node, Cable::Pulled);
        let router = routers(self.lab, self.node, &[VIP]).remove(0);
        work();
        router
    }

    fn home(&self, work: &dyn Fn()) {
        mend(self.lab, self.node, &[VIP]);
        work();
    }

    /// The node that routes is first; then two versions agree on a way home and another detour.
    fn upgraded_during_a_detour(&self) {
        let Self { lab, node, .. } = *self;
        self.untouched(|work| {
            work();
            let router = self.detour(work);
            let mut order = vec![router.clone()];
            order.extend(lab.plan().node_names().into_iter().filter(|n| *n != router));
            for (i, upgraded) in order.iter().enumerate() {
                let (old, current) = daemon(lab, upgraded);
                assert!(current);
                let told = install(lab, upgraded, NEW);
                if i == 2 {
                    // One that does not answer is replaced as well.
                    run(lab, upgraded, &format!("kill -STOP {old}; true"));
                }
                let runs_here = upgraded == node;
                assert_eq!(told.contains("alpha"), runs_here, "{upgraded}: {told}");
                assert!(told.contains("portwatch"), "{upgraded}: {told}");
                wait_for("the next daemon", LIMIT, || {
                    let (pid, current) = daemon(lab, upgraded);
                    holds(pid != old && current, "still the old one")
                })
                .unwrap();
                work();
                if i == 0 {
                    self.home(work);
                    self.detour(work);
                }
            }
            self.home(work);
            // A port fails.
            lab.set_cable(node, "eth1", Cable::Pulled).unwrap();
            ports::wait_at(lab, node, (VIP, "eth2"), LIMIT).unwrap();
            work();
            lab.set_cable(node, "eth1", Cable::Good).unwrap();
            ports::wait_usable(lab, node, &["eth1", "eth2"], true, LIMIT).unwrap();
            work();
        });
        wait_for("no complaint", LIMIT, || {
            let left = degraded(lab, node);
            holds(left.is_empty(), format!("{left:?}"))
        })
        .unwrap();
    }

    /// A file system leaves and comes, exports change; at last it is told to let go of everything, and with the
    /// restart there is another one.
    fn a_keeper_of_before_obeys_agents_of_now(&self) {
        let Self { lab, node, .. } = *self;
        assert!(!keeper_is_current(lab, node));
        let keeper = processes(lab, node, "alpha").remove(0);
        restart(lab, node, "alpha-data");
        let read_only = common::alpha().replacen("access = \"rw\"", "access = \"ro\"", 1);
        for server in [read_only, common::alpha()] {
            scene::apply(lab, &scene::config(lab, &[PORTWATCH, &server])).unwrap();
        }
        assert_eq!(processes(lab, node, "alpha").remove(0), keeper);
        restart(lab, node, "alpha");
        assert!(keeper_is_current(lab, node));
        assert_eq!(failed(lab, node), BTreeSet::new());
        self.at_work();
    }

    /// Clients can work.
    fn at_work(&self) {
        let worker = [Worker::nfs("c1", VIP, "/data").unwrap()];
        let ((), _) = at_work(self.lab, &worker, || {
            wait_for_work(&worker, &[0], ENOUGH, || {})
        })
        .unwrap();
    }

    fn move_to(&self, target: &str) {
        let Self { lab, node, .. } = *self;
        run(
            lab,
            node,
            &format!("crm_resource --move --resource alpha --node {target}"),
        );
        for resource in ["alpha", "alpha-home", "alpha-data", "alpha-ip1"] {
            scene::wait_on(lab, node, resource, target).unwrap();
        }
        run(lab, node, "crm_resource --clear --resource alpha");
        status::settle(lab, node).unwrap();
    }

    fn the_next_keeper_is_of_now(&self) {
        let [other, _] = self.others();
        for target in [&other, self.node] {
            self.move_to(target);
            assert!(keeper_is_current(self.lab, target));
        }
        gather(self.lab, self.node, &[VIP]);
        self.at_work();
    }

    /// One version back: keepers and daemons of the later version obey agents of the one before.
    fn downgraded(&self) {
        let Self { lab, node, .. } = *self;
        self.untouched(|work| {
            for downgraded in lab.plan().node_names() {
                install(lab, &downgraded, BEFORE);
                work();
            }
            self.detour(work);
            self.home(work);
        });
        for resource in ["alpha", "alpha-data", "portwatch-clone"] {
            restart(lab, node, resource);
        }
        self.at_work();
    }

    /// Whatever has begun with the one version ends with the other.
    fn upgraded_while_resources_start(&self) {
        let Self { lab, node, .. } = *self;
        let [other, _] = self.others();
        for (target, package) in [
            (&*other, NEW),
            (node, NEW),
            (&*other, BEFORE),
            (node, BEFORE),
        ] {
            thread::scope(|scope| {
                scope.spawn(|| install(lab, target, package));
                self.move_to(target);
            });
            assert_eq!(failed(lab, node), BTreeSet::new());
        }
        self.at_work();
    }

    /// An upgrade that fails for want of room leaves the agents of before, whole and in use.
    fn without_room_all_is_as_before(&self) {
        let Self { lab, node, .. } = *self;
        gather(lab, node, &[VIP]);
        self.untouched(|work| {
            let full = format!(
                "cp -a {AGENTS} /run/agents && size=$(du -sk /run/agents | cut -f1) && \
                 mount -t tmpfs -o size=$((size + 100))k full {AGENTS} && cp -a /run/agents/. {AGENTS}/"
            );
            run(lab, node, &full);
            let sums = format!("sha256sum {AGENTS}/*");
            let before = run(lab, node, &sums);
            let output = dpkg(lab, node, &format!("--install {NEW}"));
            assert!(!output.status.success());
            assert!(output.stderr.contains("No space left"), "{}", output.stderr);
            assert_eq!(run(lab, node, &sums), before);
            assert_eq!(run(lab, node, "dpkg --verify berth"), "");
            work();
            run(lab, node, &format!("mount -o remount,size=1g {AGENTS}"));
            install(lab, node, NEW);
            work();
            // What was there before the test, and dpkg's again.
            run(lab, node, &format!("umount --lazy {AGENTS}"));
            install(lab, node, NEW);
            work();
        });
    }

    fn what_runs_is_not_removed(&self) {
        let Self { lab, node, .. } = *self;
        let [other, _] = self.others();
        self.untouched(|work| {
            refused(lab, node, &["alpha", "portwatch"]);
            refused(lab, &other, &["portwatch"]);
            work();
        });
    }

    /// On a node whose cluster has been stopped. When it is started again without agents, the node is no place
    /// for virtual servers, and nothing worse.
    fn removed_purged_and_installed_again(&self) {
        let Self { lab, node, .. } = *self;
        let [_, other] = self.others();
        let here = |i: &status::Instance| i.node == other && i.resource != "power";
        self.untouched(|work| {
            run(lab, node, &format!("crm_standby -N {other} -v on"));
            wait_for("standby", LIMIT, || {
                let all = status::instances(lab, node)?.into_iter();
                let left: Vec<_> = all.filter(here).collect();
                holds(left.is_empty(), Error::new(format!("{left:?}")))
            })
            .unwrap();
            // Out of standby again, the cluster would start portwatch without asking first.
            refused(lab, &other, &["the cluster runs"]);
            run(lab, &other, "pkill -x pacemakerd; while pgrep -x pacemakerd; do sleep 0.1; done");
            let mine = "mkdir -p /etc/berth && echo mine > /etc/berth/berth.toml";
            run(lab, &other, mine);
            let removed = dpkg(lab, &other, "--remove berth").check("remove").unwrap();
            eprintln!("{}{}", removed.stdout, removed.stderr);
            let kernel = "nft list ruleset | grep berth; ip rule | grep 'lookup 190'; ip link | grep ' b-'; true";
            assert_eq!(run(lab, &other, kernel), "");
            let purged = dpkg(lab, &other, "--purge berth").check("purge").unwrap();
            eprintln!("{}{}", purged.stdout, purged.stderr);
            let left = run(lab, &other, NAMED);
            let left: Vec<&str> = left.lines().filter(|l| !self.bare.contains(l)).collect();
            assert_eq!(left, ["/etc/berth", "/etc/berth/berth.toml"]);
            assert_eq!(run(lab, &other, "cat /etc/berth/berth.toml"), "mine\n");
            run(lab, &other, "setsid pacemakerd > /dev/null 2>&1 &");
            run(lab, node, &format!("crm_standby -N {other} -v off"));
            // Each resource is probed, in vain.
            let probed = format!(
                "cibadmin --query --xpath \"//node_state[@uname='{other}']//lrm_resource[@provider='berth']\
                 /lrm_rsc_op[@rc-code='5']\" | grep -c '<lrm_rsc_op'"
            );
            wait_for("probes", LIMIT, || lab.exec(node, &["sh", "-c", &probed])?.check("none")).unwrap();
            status::settle(lab, node).unwrap();
            assert!(!status::instances(lab, node).unwrap().iter().any(here));
            let complaints = failed(lab, node).into_iter();
            let elsewhere: Vec<_> = complaints.filter(|(_, at, _)| *at != other).collect();
            assert_eq!(elsewhere, []);
            install(lab, &other, NEW);
            run(lab, node, &format!("crm_resource --refresh --node {other}"));
            daemon(lab, &other);
            wait_for("no complaint", LIMIT, || {
                let left = failed(lab, node);
                holds(left.is_empty(), Error::new(format!("{left:?}")))
            })
            .unwrap();
            work();
        });
        self.move_to(&other);
        self.move_to(node);
        self.at_work();
    }
}
