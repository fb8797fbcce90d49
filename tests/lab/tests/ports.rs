//! Ports that fail in the running cluster: what clients notice, and what the cluster is told.
//! `cargo test -p lab --test ports -- --include-ignored NAME` plays one scene alone.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use common::run;
use lab::flow::{Echo, Prober, Stream};
use lab::portwatch::{self, Condition, Failure};
use lab::protocol::Cable;
use lab::stage::{self, Spent};
use lab::wire;
use lab::worker::{Worker, at_work, counts, wait_for_work};
use lab::{Error, Lab, holds, ports, scene, status, wait_for};

const VIP: &str = "10.1.0.50";
/// Whom nobody has: a target that never answers.
const NOBODY: &str = "10.1.0.77";
/// Generous: these machines are slow, and figures are for the bench.
const SOON: Duration = Duration::from_secs(20);
/// A monitor comes every ten seconds.
const MONITORED: Duration = Duration::from_secs(30);
const PORTS: [&str; 2] = ["eth1", "eth2"];
/// Pulled cables, the ports in turns.
const PULLED: usize = 6;

lab::scenes! {
    Stage:
    a_target_that_never_answers_condemns_nothing,
    the_cluster_is_told_while_a_port_is_down_and_not_after,
    connections_outlive_cables_pulled_in_turns,
    a_dead_switch_is_found_though_its_links_are_up,
    forged_answers_keep_no_dead_port_alive,
    a_port_that_comes_back_as_another_interface_is_used_again,
    one_node_with_a_wrong_port_stops_no_other,
    a_port_that_flaps_moves_an_address_twice_at_the_most,
    a_subnet_lost_on_all_nodes_stops_nothing,
    a_subnet_lost_on_a_node_moves_its_server,
}

/// When a port that has come back is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    /// After one second.
    Soon,
    /// After the default hold-down.
    HeldDown,
}

/// A cluster in which alpha runs on a node.
struct Stage {
    lab: Lab,
    node: String,
    /// What alpha consists of.
    processes: Vec<String>,
    /// What is configured.
    recovery: Mutex<Recovery>,
    /// Once a scene has wanted it.
    echo: OnceLock<Echo>,
}

impl stage::Stage for Stage {
    fn build() -> Self {
        let lab = stage::up("ports", 3).unwrap();
        lab.mkfs("d1", "ext4").unwrap();
        scene::apply(&lab, &config(&lab, Recovery::Soon)).unwrap();
        let node = scene::node_of(&lab, "n1", "alpha").unwrap();
        Self {
            processes: processes(&lab, &node),
            lab,
            node,
            recovery: Mutex::new(Recovery::Soon),
            echo: OnceLock::new(),
        }
    }

    fn clear(self) {
        drop(self.echo);
        self.lab.down().unwrap();
    }
}

impl Stage {
    /// Has ports recover so from now on.
    fn recover(&self, recovery: Recovery) {
        let mut configured = self.recovery.lock().unwrap();
        if *configured != recovery {
            scene::apply(&self.lab, &config(&self.lab, recovery)).unwrap();
            *configured = recovery;
        }
    }

    /// Something in alpha's cell that answers.
    fn echo(&self) -> &Echo {
        let start = || Echo::start(&self.lab, (&self.node, "alpha"), VIP, "c1").unwrap();
        self.echo.get_or_init(start)
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let now = processes(&self.lab, &self.node);
        assert_eq!(now, self.processes, "alpha was touched");
    }
}

/// One virtual server with one address, on nodes whose two ports are on the same subnet.
fn config(lab: &Lab, recovery: Recovery) -> String {
    let config = scene::config(lab, &[common::SMALL])
        .replace(", eth3 = \"lab\"", "")
        .replace(
            "gateway6 = \"fd00:1::254\" }",
            &format!("gateway6 = \"fd00:1::254\", targets = [\"{NOBODY}\"] }}"),
        );
    match recovery {
        Recovery::Soon => config + "[portwatch]\nrecover_after = 1\n",
        Recovery::HeldDown => config,
    }
}

/// What alpha consists of: none of it is to be restarted.
fn processes(lab: &Lab, node: &str) -> Vec<String> {
    let table = run(lab, node, "ps -e -o pid=,comm=,args=");
    let own = |line: &&str| line.contains("berth-keeper alpha") || line.contains("ganesha.nfsd ");
    table.lines().filter(own).map(str::to_owned).collect()
}

/// The port that alpha's address is served through: the kernel's and portwatch's word for it.
fn port(lab: &Lab, node: &str) -> String {
    let vip = VIP.parse().unwrap();
    wait_for("alpha's port", SOON, || {
        let (serves, state) = (
            ports::port_of(lab, node, VIP)?,
            portwatch::state(lab, node)?,
        );
        let same = state.port_of(vip) == Some(&serves);
        holds(same, Error::new(format!("{serves} but {state:?}")))?;
        Ok::<_, Error>(serves)
    })
    .unwrap()
}

/// Waits until portwatch knows that a port has failed, and why.
fn fails(lab: &Lab, node: &str, port: &str, why: Failure) {
    let failed = Condition::Failed { why };
    let what = format!("{port} to be {failed:?}");
    portwatch::wait_until(lab, node, &what, SOON, |state| {
        state.ports[port].condition == failed
    })
    .unwrap();
}

fn other(port: &str) -> &'static str {
    if port == "eth1" { "eth2" } else { "eth1" }
}

fn mend(lab: &Lab, node: &str, port: &str) {
    lab.set_cable(node, port, Cable::Good).unwrap();
    ports::wait_usable(lab, node, &PORTS, true, SOON).unwrap();
}

fn a_target_that_never_answers_condemns_nothing(stage: &Stage) {
    let lab = &stage.lab;
    let targets = run(
        lab,
        "n1",
        "crm_resource -r portwatch --get-parameter targets",
    );
    assert_eq!(targets.trim(), NOBODY);
    for node in lab.plan().node_names() {
        ports::wait_usable(lab, &node, &PORTS, true, SOON).unwrap();
    }
}

fn connections_outlive_cables_pulled_in_turns(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let echo = stage.echo();
    let stream = Stream::start(lab, "c1", echo.address()).unwrap();
    let workers = [Worker::nfs("c1", VIP, "/data").unwrap()];
    let ((), reports) = at_work(lab, &workers, || {
        wait_for_work(&workers, &[0], 1, || {})?;
        for _ in 0..PULLED {
            let failed = ports::port_of(lab, node, VIP)?;
            lab.set_cable(node, &failed, Cable::Pulled)?;
            ports::wait_at(lab, node, (VIP, other(&failed)), SOON)?;
            stream.wait_for_progress(SOON)?;
            wait_for_work(&workers, &counts(&workers), 5, || {})?;
            mend(lab, node, &failed);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(stream.take().broken, None);
    assert_eq!(reports[0].error, None);
    assert_eq!(reports[0].reclaims, 0, "the server was restarted");
    assert_eq!(workers[0].lost(lab, &reports[0]).unwrap(), 0);
}

fn a_dead_switch_is_found_though_its_links_are_up(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let echo = stage.echo();
    let failed = port(lab, node);
    let prober = Prober::start(lab, "c1", echo.address()).unwrap();
    lab.set_cable(node, &failed, Cable::Dead).unwrap();
    prober
        .wait_for_answer(Instant::now() + SOON / 10, SOON)
        .unwrap();
    ports::wait_at(lab, node, (VIP, other(&failed)), SOON).unwrap();
    fails(lab, node, &failed, Failure::Silent);
    let links = run(lab, node, &format!("ip -brief link show {failed}"));
    assert!(links.contains("LOWER_UP"), "{links}");
    mend(lab, node, &failed);
}

/// A neighbour answers for the gateway, to the very address that asks, but what it sends comes in
/// through the other port.
fn forged_answers_keep_no_dead_port_alive(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let echo = stage.echo();
    let failed = port(lab, node);
    let script = format!("ip -brief link show {failed} | awk '{{ print $3 }}'");
    let asker = wire::mac(&run(lab, node, &script)).unwrap();
    let gateway = Ipv4Addr::new(10, 1, 0, 254);
    let from = [2, 0, 0, 0, 0, 9];
    let stop = AtomicBool::new(false);
    let prober = Prober::start(lab, "c1", echo.address()).unwrap();
    thread::scope(|scope| {
        let forge = || {
            while !stop.load(Ordering::SeqCst) {
                for to in [asker, wire::BROADCAST] {
                    let nobody = (Ipv4Addr::UNSPECIFIED, to);
                    wire::send_arp_reply(lab, ("c1", "eth0"), (gateway, from), nobody).unwrap();
                }
                thread::sleep(Duration::from_millis(20));
            }
        };
        scope.spawn(forge);
        lab.set_cable(node, &failed, Cable::Dead).unwrap();
        let moved = ports::wait_at(lab, node, (VIP, other(&failed)), SOON);
        let what = format!("{failed} to have failed");
        let silent = Condition::Failed {
            why: Failure::Silent,
        };
        let condemned = portwatch::wait_until(lab, node, &what, SOON, |state| {
            state.ports[&failed].condition == silent
        });
        stop.store(true, Ordering::SeqCst);
        moved.unwrap();
        condemned.unwrap();
    });
    prober.wait_for_answer(Instant::now(), SOON).unwrap();
    mend(lab, node, &failed);
}

fn the_cluster_is_told_while_a_port_is_down_and_not_after(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let failed = port(lab, node);
    lab.set_cable(node, &failed, Cable::Dead).unwrap();
    let told = format!("{failed} silent, 1 VIP on {}", other(&failed));
    reports(lab, node, &told, true);
    // Another reason takes the place of the first.
    lab.set_cable(node, &failed, Cable::Pulled).unwrap();
    let told = told.replace("silent", "down");
    reports(lab, node, &told, true);
    attribute(lab, node, "berth-ports", "1");
    attribute(lab, node, "berth-net-office", "1");
    mend(lab, node, &failed);
    reports(lab, node, &told, false);
    attribute(lab, node, "berth-ports", "2");
    reports(lab, node, "", false);
}

/// Waits until the cluster lists portwatch as degraded at this node for a reason that contains the text,
/// or does not any more.
fn reports(lab: &Lab, node: &str, text: &str, shown: bool) {
    let what = format!("portwatch to be degraded for {text:?}: {shown}");
    wait_for(what, MONITORED, || {
        let all = status::complaints(lab, node)?;
        let mut own = all.iter().filter(|c| c.degraded && c.node == node);
        let seen = own.any(|c| c.resource == "portwatch" && c.reason.contains(text));
        holds(seen == shown, Error::new(format!("{all:?}")))
    })
    .unwrap();
}

fn attribute(lab: &Lab, node: &str, name: &str, value: &str) {
    let words = ["attrd_updater", "-Q", "-n", name, "-N", node];
    wait_for(format_args!("{name}={value} on {node}"), SOON, || {
        let seen = lab.exec(node, &words)?.stdout;
        let wanted = format!("value=\"{value}\"");
        holds(seen.contains(&wanted), Error::new(seen))
    })
    .unwrap();
}

fn a_port_that_comes_back_as_another_interface_is_used_again(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let index = || run(lab, node, "ip -oneline link show eth2 | cut -d : -f 1");
    let before = index();
    lab.replace_port(node, "eth2").unwrap();
    assert_ne!(index(), before);
    ports::wait_at(lab, node, (VIP, "eth1"), SOON).unwrap();
    run(lab, node, "ip link set eth2 up");
    ports::wait_usable(lab, node, &PORTS, true, SOON).unwrap();
    lab.set_cable(node, "eth1", Cable::Pulled).unwrap();
    ports::wait_at(lab, node, (VIP, "eth2"), SOON).unwrap();
    mend(lab, node, "eth1");
    // Under another name it is another port.
    run(
        lab,
        node,
        "ip link set eth2 down && ip link set eth2 name gone && ip link set gone up",
    );
    ports::wait_at(lab, node, (VIP, "eth1"), SOON).unwrap();
    run(
        lab,
        node,
        "ip link set gone down && ip link set gone name eth2 && ip link set eth2 up",
    );
    ports::wait_usable(lab, node, &PORTS, true, SOON).unwrap();
}

fn one_node_with_a_wrong_port_stops_no_other(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let wrong = "[nodes.n3]\nports = { eth1 = \"office\", nonsense = \"office\" }\n";
    let right = "[nodes.n3]\nports = { eth1 = \"office\", eth2 = \"office\" }\n";
    stage.recover(Recovery::HeldDown);
    let config = config(lab, Recovery::HeldDown);
    assert!(config.contains(right), "{config}");
    scene::apply(lab, &config.replace(right, wrong)).unwrap();
    let runs_everywhere = || {
        wait_for("portwatch on all nodes", MONITORED, || {
            let mut own = status::instances(lab, node)?;
            own.retain(|i| i.resource == "portwatch" && i.started);
            let all = own.len() == lab.plan().node_names().len();
            holds(all, Error::new(format!("{own:?}")))
        })
        .unwrap();
    };
    runs_everywhere();
    reports(lab, "n3", "nonsense missing", true);
    ports::wait_usable(lab, "n3", &["eth1"], true, SOON).unwrap();
    scene::apply(lab, &config).unwrap();
    for node in lab.plan().node_names() {
        ports::wait_usable(lab, &node, &PORTS, true, MONITORED).unwrap();
    }
    runs_everywhere();
}

/// With the default hold-down.
fn a_port_that_flaps_moves_an_address_twice_at_the_most(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    stage.recover(Recovery::HeldDown);
    let (flapping, mark) = (port(lab, node), ports::log_mark(lab, node).unwrap());
    for _ in 0..13 {
        for state in [Cable::Pulled, Cable::Good] {
            lab.set_cable(node, &flapping, state).unwrap();
            // The length of a flap is what is tried.
            thread::sleep(Duration::from_millis(300));
        }
    }
    let moves = ports::moves(&ports::log_since(lab, node, mark).unwrap());
    let moved = moves.get(&VIP.parse::<IpAddr>().unwrap());
    assert!((1..=2).contains(moved.unwrap_or(&0)), "{moves:?}");
    assert_eq!(port(lab, node), other(&flapping));
    stage.recover(Recovery::Soon);
    stage.assert_untouched();
}

fn set_all(lab: &Lab, node: &str, state: Cable) {
    for port in PORTS {
        lab.set_cable(node, port, state).unwrap();
    }
}

fn a_subnet_lost_on_all_nodes_stops_nothing(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    stage.recover(Recovery::Soon);
    let workers = [Worker::nfs("c1", VIP, "/data").unwrap()];
    let nodes = lab.plan().node_names();
    nodes.iter().for_each(|n| set_all(lab, n, Cable::Pulled));
    for n in &nodes {
        attribute(lab, n, "berth-ports", "0");
        attribute(lab, n, "berth-net-office", "0");
    }
    // What the cluster does about it, it has done when it is idle.
    status::settle(lab, node).unwrap();
    assert_eq!(scene::node_of(lab, node, "alpha").unwrap(), node);
    nodes.iter().for_each(|n| set_all(lab, n, Cable::Good));
    let ((), reports) = at_work(lab, &workers, || wait_for_work(&workers, &[0], 5, || {})).unwrap();
    assert_eq!(reports[0].error, None);
    for n in &nodes {
        attribute(lab, n, "berth-net-office", "1");
    }
    assert_eq!(scene::node_of(lab, node, "alpha").unwrap(), node);
    stage.assert_untouched();
}

fn a_subnet_lost_on_a_node_moves_its_server(stage: &Stage) -> Spent {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    stage.recover(Recovery::Soon);
    let workers = [Worker::nfs("c1", VIP, "/data").unwrap()];
    let ((), reports) = at_work(lab, &workers, || {
        wait_for_work(&workers, &[0], 5, || {})?;
        set_all(lab, node, Cable::Pulled);
        wait_for("alpha on another node", SOON, || {
            let seen = scene::node_of(lab, node, "alpha")?;
            holds(seen != node, Error::new("still there"))
        })?;
        wait_for_work(&workers, &counts(&workers), 5, || {})
    })
    .unwrap();
    assert_eq!(reports[0].error, None);
    assert_eq!(workers[0].lost(lab, &reports[0]).unwrap(), 0);
    set_all(lab, node, Cable::Good);
    Spent
}
