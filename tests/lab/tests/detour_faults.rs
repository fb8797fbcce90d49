//! What may go wrong with a detour: wrong attributes, two routers, loops, no way, sudden ends; on nodes
//! that filter by the reverse path as strictly as they can.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use common::detour::{
    LIMIT, OFFICE, PORTWATCH, States, degraded, failed, gather, lose, mend, routers,
    wait_for_degraded,
};
use common::{difference, processes, run};
use lab::flow::{Echo, Prober, Stream};
use lab::portwatch::{self, NodeState};
use lab::protocol::Cable;
use lab::{Error, Lab, holds, ports, scene, stage, status, wait_for, wire};

/// alpha's address on the subnet that is lost, and its resource.
const VIP: &str = "10.1.0.50";
const RESOURCE: &str = "alpha-ip1";
/// Its address on the other subnet.
const OTHER: &str = "10.2.0.50";

/// alpha with both.
fn server() -> String {
    let vips = format!("vips = [\"{VIP}\", \"{OTHER}\"]");
    common::SMALL.replace("vips = [\"10.1.0.50\"]", &vips)
}

#[test]
#[ignore = "needs root"]
fn whatever_goes_wrong_with_a_detour_it_ends_and_leaves_nothing_behind() {
    let lab = stage::up("faults", 3).unwrap();
    filter_strictly(&lab);
    let pristine = States::all(&lab);
    lab.mkfs("d1", "ext4").unwrap();
    scene::apply(&lab, &config(&lab, &server())).unwrap();
    let node = scene::node_of(&lab, "n1", "alpha").unwrap();
    gather(&lab, &node, &[VIP]);
    let before = States::all(&lab);
    let servers = processes(&lab, &node, "alpha");
    let echo = Echo::start(&lab, (&node, "alpha"), VIP, "c1").unwrap();
    let scene = Scene {
        lab: &lab,
        node: &node,
        echo: &echo,
        before: &before,
    };
    let afterwards_as_before = |scenes: &[&dyn Fn()]| {
        for play in scenes {
            play();
            before.wait_for(&lab);
        }
    };
    afterwards_as_before(&[
        &|| scene.wrong_attributes_change_nothing(),
        &|| scene.stale_attributes_are_got_over(),
        &|| scene.of_two_routers_one_withdraws(),
        &|| scene.nothing_goes_round(),
        &|| scene.a_refresh_during_a_detour_leaves_no_complaint_behind(),
        &|| scene.without_a_way_the_address_stays_with_its_server(),
        &|| scene.what_the_cluster_forgets_during_a_detour_is_told_again(),
        &|| scene.an_update_of_pacemaker_in_maintenance_moves_nothing(),
        &|| scene.daemons_are_killed_in_the_middle(),
        &|| scene.agents_are_killed_in_the_middle(),
    ]);
    assert_eq!(
        processes(&lab, &node, "alpha"),
        servers,
        "alpha was touched"
    );
    // From here on it is: the echo ends with its cell.
    afterwards_as_before(&[
        &|| scene.ports_lost_one_after_another_move_the_server(),
        &|| scene.the_server_is_moved(),
        &|| scene.the_server_goes_with_an_address_that_is_to_migrate(),
    ]);
    no_zombies(&lab);
    run(
        &lab,
        &node,
        "crm_resource --meta -r alpha -p target-role -v Stopped; crm_resource --wait",
    );
    pristine.wait_for(&lab);
    lab.down().unwrap();
}

/// However many detours have ended, portwatch has no dead children left.
fn no_zombies(lab: &Lab) {
    let dead = "ps -e -o stat=,ppid=,comm= | awk '/^Z.* berth/'";
    for node in lab.plan().node_names() {
        wait_for(format!("no dead children on {node}"), LIMIT, || {
            let seen = run(lab, &node, dead);
            holds(seen.is_empty(), Error::new(seen))
        })
        .unwrap();
    }
}

fn config(lab: &Lab, server: &str) -> String {
    scene::config(lab, &[PORTWATCH, server])
}

/// As administrators may have it, and some distributions.
fn filter_strictly(lab: &Lab) {
    for node in lab.plan().node_names() {
        let script = "for port in all default eth0 eth1 eth2 eth3; do \
                      sysctl -w net.ipv4.conf.$port.rp_filter=1; done";
        run(lab, &node, script);
    }
}

struct Scene<'l> {
    lab: &'l Lab,
    /// The node with alpha.
    node: &'l str,
    /// alpha's echo.
    echo: &'l Echo,
    before: &'l States,
}

impl Scene<'_> {
    fn stream(&self) -> Stream {
        Stream::start(self.lab, "c1", self.echo.address()).unwrap()
    }

    /// The subnet is lost; returns the router, and the node that is neither.
    fn detour(&self) -> (String, String) {
        lose(self.lab, self.node, Cable::Pulled);
        let router = routers(self.lab, self.node, &[VIP]).remove(0);
        let third = self.third(&router);
        (router, third)
    }

    fn third(&self, router: &str) -> String {
        let mut nodes = self.lab.plan().node_names();
        nodes.retain(|n| n != self.node && n != router);
        nodes.remove(0)
    }

    fn home(&self, streams: &[Stream]) {
        mend(self.lab, self.node, &[VIP]);
        for stream in streams {
            stream.wait_for_progress(LIMIT).unwrap();
            assert_eq!(stream.take().broken, None);
        }
    }

    fn set(&self, node: &str, name: &str, value: &str) {
        let words = ["attrd_updater", "-p", "-n", name, "-N", node, "-U", value];
        let output = self.lab.exec(self.node, &words).unwrap();
        output.check("attrd_updater").unwrap();
    }

    fn delete(&self, node: &str, name: &str) {
        run(
            self.lab,
            self.node,
            &format!("attrd_updater -D -n {name} -N {node}"),
        );
    }

    /// During a detour: what was agreed on holds.
    fn wrong_attributes_change_nothing(&self) {
        let Self { lab, node, .. } = *self;
        let stream = self.stream();
        let (router, third) = self.detour();
        stream.wait_for_progress(LIMIT).unwrap();
        let nodes = lab.plan().node_names();
        let during = States::of(lab, &nodes);
        let number = third.trim_start_matches('n');
        let own = node.trim_start_matches('n');
        let attribute = format!("berth-router-{node}");
        let garbage = "/x".repeat(2000);
        for (i, claim) in [
            "alpha/10.1.0.50/lab/10.9.9.9",
            "alpha/10.1.0.50/nowhere/10.2.0.3",
            "../x/10.1.0.50/lab/10.2.0.3",
            "beta/10.1.0.50/lab/10.2.0.3",
            "alpha/10.1.0.50/lab/fd00:2::3",
            &format!("alpha/10.1.0.50/lab/10.2.0.{own}"),
            // Of an address that this node serves itself.
            &format!("alpha/10.2.0.50/lab/10.2.0.{number}"),
            &garbage,
        ]
        .iter()
        .enumerate()
        {
            // That this can't be followed is known when all has been read.
            let known = format!("10.1.0.{}", 70 + i);
            self.set(
                &third,
                &attribute,
                &format!("{claim} alpha/{known}/nowhere/10.2.0.3"),
            );
            let (what, known) = (format!("{known} to be refused"), known.parse().unwrap());
            let refused = |state: &NodeState| state.refusal_of(&third, known).is_some();
            portwatch::wait_until(lab, node, &what, LIMIT, refused).unwrap();
            stream.wait_for_progress(LIMIT).unwrap();
            during.wait_for(lab);
        }
        // One that could be true, and is later than the router's, is believed for as long as it is there.
        let claim = format!("alpha/{VIP}/lab/10.2.0.{number}");
        self.set(&third, &attribute, &claim);
        let (what, vip) = (format!("{third} to be followed"), VIP.parse().unwrap());
        let followed = |state: &NodeState| state.router_of(vip) == Some(&third);
        portwatch::wait_until(lab, node, &what, LIMIT, followed).unwrap();
        self.delete(&third, &attribute);
        stream.wait_for_progress(LIMIT).unwrap();
        during.wait_for(lab);
        self.set(&third, "berth-cell-alpha", "1");
        stream.wait_for_progress(LIMIT).unwrap();
        let says = format!("routing {VIP} for {node} over lab");
        wait_for_degraded(lab, node, &[(RESOURCE, &router, &says)]);
        during.wait_for(lab);
        self.delete(&third, "berth-cell-alpha");
        self.home(&[stream]);
    }

    /// Before a detour.
    fn stale_attributes_are_got_over(&self) {
        let Self { lab, node, .. } = *self;
        let stream = self.stream();
        let nodes = lab.plan().node_names();
        let others: Vec<&String> = nodes.iter().filter(|n| *n != node).collect();
        // Two nodes say that they have the virtual server.
        self.set(others[0], "berth-cell-alpha", "1");
        lose(lab, node, Cable::Pulled);
        wait_for("an address without a way", LIMIT, || {
            let all = degraded(lab, node);
            let known = |why: &str| why.contains("all say that they have it");
            holds(all.iter().any(|(.., why)| known(why)), format!("{all:?}"))
        })
        .unwrap();
        self.delete(others[0], "berth-cell-alpha");
        routers(lab, node, &[VIP]);
        stream.wait_for_progress(LIMIT).unwrap();
        self.home(&[]);
        self.before.wait_for(lab);
        // One says that it routes, which does not.
        for other in &others {
            let number = other.trim_start_matches('n');
            let claim = format!("alpha/10.1.0.50/lab/10.2.0.{number}");
            let attribute = format!("berth-router-{node}");
            self.set(other, &attribute, &claim);
            let (router, _) = self.detour();
            stream.wait_for_progress(LIMIT).unwrap();
            let left_over = router != **other;
            if left_over {
                self.delete(other, &attribute);
            }
            self.home(&[]);
            self.before.wait_for(lab);
            if left_over {
                break;
            }
        }
        assert_eq!(stream.take().broken, None);
    }

    /// An agent started by hand, in the environment that Pacemaker gives it.
    fn agent(&self, node: &str, (resource, vserver, vip): (&str, &str, &str), action: &str) -> i32 {
        let script = format!(
            "OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
             OCF_RESOURCE_INSTANCE={resource} OCF_RESOURCE_PROVIDER=berth OCF_RESOURCE_TYPE=vip \
             OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_vserver={vserver} OCF_RESKEY_ip={vip} \
             OCF_RESKEY_subnet=office=10.1.0.0/24 OCF_RESKEY_gateway=10.1.0.254 \
             OCF_RESKEY_ports='eth1 eth2' HA_LOGFACILITY=none \
             /usr/lib/ocf/resource.d/berth/vip {action}"
        );
        let output = self.lab.exec(node, &["sh", "-c", &script]).unwrap();
        output.code()
    }

    fn of_two_routers_one_withdraws(&self) {
        let lab = self.lab;
        let stream = self.stream();
        let (router, third) = self.detour();
        stream.wait_for_progress(LIMIT).unwrap();
        let routing = States::of(lab, std::slice::from_ref(&router));
        let idle = States::of(lab, std::slice::from_ref(&third));
        let one = (RESOURCE, "alpha", VIP);
        assert_eq!(
            self.agent(&third, one, "start"),
            1,
            "the address has a user"
        );
        idle.wait_for(lab);
        // It is told once; what is started all the same is meant.
        assert!([0, 190].contains(&self.agent(&third, one, "start")));
        wait_for("two routers", LIMIT, || ports::port_of(lab, &third, VIP)).unwrap();
        let begun = Instant::now();
        let prober = Prober::start(lab, "c1", self.echo.address()).unwrap();
        wait_for("one router", LIMIT, || {
            holds(ports::port_of(lab, &third, VIP).is_err(), "two")
        })
        .unwrap();
        eprintln!("withdrawn after {:.1} s", begun.elapsed().as_secs_f64());
        prober
            .wait_for_answer(Instant::now() + Duration::from_millis(500), LIMIT)
            .unwrap();
        eprintln!(
            "gaps: {:?}",
            prober
                .gaps(begun)
                .iter()
                .map(|g| g.length())
                .collect::<Vec<_>>()
        );
        drop(prober);
        stream.wait_for_progress(LIMIT).unwrap();
        ports::wait_usable(lab, &third, &OFFICE, true, LIMIT).unwrap();
        idle.wait_for(lab);
        routing.wait_for(lab);
        self.home(&[stream]);
    }

    /// Has alpha run on `node`.
    fn move_to(&self, node: &str) {
        let script = format!(
            "crm_resource --move -r alpha -N {node}; crm_resource --wait; crm_resource --clear -r alpha"
        );
        run(self.lab, self.node, &script);
        scene::wait_on(self.lab, self.node, "alpha", node).unwrap();
    }

    /// To a node that has its subnet, be it the router or not: the detour is over.
    fn the_server_is_moved(&self) {
        let Self { lab, node, .. } = *self;
        for to_router in [true, false] {
            let (router, third) = self.detour();
            let target = if to_router { router } else { third };
            self.move_to(&target);
            wait_for("the address beside its server", LIMIT, || {
                ports::port_of(lab, &target, VIP)
            })
            .unwrap();
            run(lab, "c1", &format!("ping -n -c 1 -w 60 {VIP}"));
            for port in OFFICE {
                lab.set_cable(node, port, Cable::Good).unwrap();
            }
            ports::wait_usable(lab, node, &OFFICE, true, LIMIT).unwrap();
            self.move_to(node);
            gather(lab, node, &[VIP]);
            wait_for_degraded(lab, node, &[]);
            self.before.wait_for(lab);
        }
    }

    /// At last none is left for clients to come by.
    fn ports_lost_one_after_another_move_the_server(&self) {
        let Self { lab, node, .. } = *self;
        let stream = self.stream();
        for port in ["eth1", "eth2"] {
            lab.set_cable(node, port, Cable::Pulled).unwrap();
            stream.wait_for_progress(LIMIT).unwrap();
        }
        drop(stream);
        lab.set_cable(node, "eth3", Cable::Pulled).unwrap();
        let target = wait_for("alpha on another node", LIMIT, || {
            let seen = scene::node_of(lab, node, "alpha")?;
            holds(seen != node, lab::Error::new("still there")).map(|()| seen)
        })
        .unwrap();
        for (vip, resource) in [(VIP, RESOURCE), (OTHER, "alpha-ip2")] {
            scene::wait_on(lab, node, resource, &target).unwrap();
            wait_for("its addresses beside it", LIMIT, || {
                ports::port_of(lab, &target, vip)
            })
            .unwrap();
        }
        run(lab, "c1", &format!("ping -n -c 1 -w 60 {VIP}"));
        assert_eq!(failed(lab, node), BTreeSet::new());
        for port in ["eth1", "eth2", "eth3"] {
            lab.set_cable(node, port, Cable::Good).unwrap();
        }
        ports::wait_usable(lab, node, &["eth1", "eth2", "eth3"], true, LIMIT).unwrap();
        self.move_to(node);
        gather(lab, node, &[VIP]);
        wait_for_degraded(lab, node, &[]);
    }

    /// Two nodes that route to each other, as the one was told so before the other.
    fn nothing_goes_round(&self) {
        let lab = self.lab;
        let nodes = lab.plan().node_names();
        let others: Vec<&String> = nodes.iter().filter(|n| *n != self.node).collect();
        let [one, two] = others[..] else {
            panic!("three nodes")
        };
        let ghost = ("ghost", "ghost", "10.1.0.77");
        self.set(two, "berth-cell-ghost", "1");
        assert!([0, 190].contains(&self.agent(one, ghost, "start")));
        self.delete(two, "berth-cell-ghost");
        self.set(one, "berth-cell-ghost", "1");
        lose(lab, two, Cable::Pulled);
        assert!([0, 190].contains(&self.agent(two, ghost, "start")));
        for port in OFFICE {
            lab.set_cable(two, port, Cable::Good).unwrap();
        }
        for node in [one, two] {
            wait_for("both to route", LIMIT, || {
                ports::port_of(lab, node, ghost.2)
            })
            .unwrap();
            let script = format!("ip route get {} | grep -q 'dev eth3'", ghost.2);
            run(lab, node, &script);
        }
        let heard = wire::datagrams(lab, two, "eth3").unwrap();
        let begun = Instant::now();
        let mac = wire::mac(&run(
            lab,
            one,
            "ip -brief link show eth1 | awk '{ print $3 }'",
        ))
        .unwrap();
        let from = wire::mac(&run(
            lab,
            "c1",
            "ip -brief link show eth0 | awk '{ print $3 }'",
        ))
        .unwrap();
        let ends = (
            "10.1.0.101:7".parse().unwrap(),
            "10.1.0.77:8".parse().unwrap(),
        );
        wire::send_datagram(lab, ("c1", "eth0"), (from, mac), ends, b"once").unwrap();
        let is = |seen: &_| *seen == ends;
        wire::wait_to_hear(&heard, begun, LIMIT, is).unwrap();
        // Another one, sent to the next after the first, has nothing between itself and the first.
        let mark = (ends.0, "10.1.0.77:9".parse().unwrap());
        wire::send_datagram(lab, ("c1", "eth0"), (from, mac), mark, b"mark").unwrap();
        wire::wait_to_hear(&heard, begun, LIMIT, |seen| *seen == mark).unwrap();
        let all = heard.since(begun);
        let times = all.iter().filter(|(_, seen)| is(seen)).count();
        assert_eq!(times, 1, "{all:?}");
        for node in [one, two] {
            assert_eq!(self.agent(node, ghost, "stop"), 0);
        }
        self.delete(one, "berth-cell-ghost");
        ports::wait_usable(lab, two, &OFFICE, true, LIMIT).unwrap();
    }

    /// It has the cluster probe what is degraded.
    fn a_refresh_during_a_detour_leaves_no_complaint_behind(&self) {
        let Self { lab, node, .. } = *self;
        let (router, _) = self.detour();
        // What has begun would end after the refresh.
        status::settle(lab, node).unwrap();
        let script = format!("crm_resource --refresh --resource {RESOURCE} --node {router}");
        run(lab, node, &script);
        // A probe that has begun is on record with 193.
        let probe = format!(
            "cibadmin --query --xpath \"//node_state[@uname='{router}']//lrm_resource[@id='{RESOURCE}']\
             /lrm_rsc_op[@operation='monitor'][@interval='0'][@rc-code!='193']\" \
             | grep -o ' rc-code=\"[0-9]*\"' | sort -u"
        );
        let code = wait_for("the probe", LIMIT, || {
            let found = run(lab, node, &probe);
            holds(!found.is_empty(), Error::new("none")).map(|()| found)
        })
        .unwrap();
        assert_eq!(code.trim(), "rc-code=\"0\"");
        self.home(&[]);
        wait_for_degraded(lab, node, &[]);
    }

    fn without_a_way_the_address_stays_with_its_server(&self) {
        let Self { lab, node, .. } = *self;
        let nodes = lab.plan().node_names();
        let others: Vec<&String> = nodes.iter().filter(|n| *n != node).collect();
        for other in &others {
            lab.set_cable(other, "eth3", Cable::Dead).unwrap();
        }
        for other in &others {
            ports::wait_usable(lab, other, &["eth3"], false, LIMIT).unwrap();
        }
        lose(lab, node, Cable::Pulled);
        let nopath = |node: &str| {
            let script = format!("attrd_updater -Q -n berth-nopath-alpha -N {node}; true");
            run(lab, self.node, &script).contains("value=\"1\"")
        };
        for other in &others {
            wait_for("no way to be known", LIMIT, || holds(nopath(other), "none")).unwrap();
        }
        scene::wait_on(lab, node, RESOURCE, node).unwrap();
        assert_eq!(failed(lab, node), BTreeSet::new());
        for other in &others {
            lab.set_cable(other, "eth3", Cable::Good).unwrap();
        }
        for other in &others {
            wait_for("a way to be known", LIMIT, || holds(!nopath(other), "none")).unwrap();
        }
        routers(lab, node, &[VIP]);
        self.home(&[]);
        wait_for_degraded(lab, node, &[]);
    }

    /// What the nodes have told the cluster, but for their load, and who routes.
    fn told(&self) -> String {
        let script = "cibadmin --query --xpath '//transient_attributes' \
             | grep -o 'id=\"status-[0-9]-berth-.*' | grep -v berth-spare | sort; \
             attrd_updater -n berth-cell-alpha -Q -A 2>&1 | sort; true";
        run(self.lab, self.node, script)
    }

    /// What is dampened is on record a moment later, and what another scene has broken elsewhere is good again
    /// after a while. `number` are this node's.
    #[track_caller]
    fn wait_for_good_ports(&self, number: u8) {
        for node in self.lab.plan().node_names() {
            let number = if node == self.node { number } else { 3 };
            let script = format!(
                "cibadmin --query --xpath \"//node_state[@uname='{node}']//nvpair[@name='berth-ports']\""
            );
            wait_for("the good ports to be on record", LIMIT, || {
                let seen = run(self.lab, self.node, &script);
                let is = seen.contains(&format!("value=\"{number}\""));
                holds(is, Error::new(seen))
            })
            .unwrap();
        }
    }

    #[track_caller]
    fn wait_until_told(&self, told: &str) {
        // Once a minute it is looked what is on record.
        wait_for("the attributes to be as they were", LIMIT * 2, || {
            let now = self.told();
            holds(now == told, difference(told, &now))
        })
        .unwrap();
    }

    /// How often resources of alpha have been stopped, on all nodes.
    fn stops(&self) -> Vec<String> {
        let count = "grep -c 'stop operation for alpha' /var/log/pacemaker/pacemaker.log; true";
        let nodes = self.lab.plan().node_names();
        nodes.iter().map(|n| run(self.lab, n, count)).collect()
    }

    /// Pacemaker's daemon for attributes knows of none when it is started again; and who may administer the
    /// cluster may delete one.
    fn what_the_cluster_forgets_during_a_detour_is_told_again(&self) {
        let Self { lab, node, .. } = *self;
        let stream = self.stream();
        let (router, _) = self.detour();
        stream.wait_for_progress(LIMIT).unwrap();
        status::settle(lab, node).unwrap();
        let during = States::all(lab);
        self.wait_for_good_ports(1);
        let (told, stops) = (self.told(), self.stops());
        let kill = |victim: &str| {
            let script = "old=$(pgrep -x pacemaker-attrd); kill -9 $old; \
                          while [ \"$(pgrep -x pacemaker-attrd)\" = $old ]; do sleep 0.01; done";
            let begun = Instant::now();
            run(lab, victim, script);
            self.wait_until_told(&told);
            let took = begun.elapsed().as_secs_f64();
            eprintln!("{victim}: told again after {took:.2} s");
            status::settle(lab, node).unwrap();
            stream.wait_for_progress(LIMIT).unwrap();
        };
        kill(node);
        for (victim, name) in [(node, "berth-net-office"), (&router, "berth-ports")] {
            self.delete(victim, name);
            self.wait_until_told(&told);
            stream.wait_for_progress(LIMIT).unwrap();
        }
        // One that is still known, only not on record.
        let forget = format!(
            "cibadmin --delete --xpath \"//node_state[@uname='{node}']//nvpair[@name='berth-addr-lab']\""
        );
        run(lab, node, &forget);
        self.wait_until_told(&told);
        during.wait_for(lab);
        assert_eq!(self.stops(), stops);
        // For a moment nothing is known of this one, so that another one may be the better router.
        kill(&router);
        routers(lab, node, &[VIP]);
        stream.wait_for_progress(LIMIT).unwrap();
        self.home(&[stream]);
    }

    /// The resources, and portwatch, live on meanwhile.
    fn an_update_of_pacemaker_in_maintenance_moves_nothing(&self) {
        let Self { lab, node, .. } = *self;
        let stream = self.stream();
        self.wait_for_good_ports(3);
        // What was degraded is cleaned up, and the cluster has looked at it anew.
        wait_for_degraded(lab, node, &[]);
        status::settle(lab, node).unwrap();
        let (told, stops) = (self.told(), self.stops());
        let other = self.third(node);
        let maintenance = |on: bool| {
            run(
                lab,
                &other,
                &format!("crm_attribute -n maintenance-mode -v {on}"),
            );
            // Pacemaker may lose an action that it cancels for this, and waits for that up to its time and
            // cluster-delay, 60 s.
            let idle = (0..3).any(|_| status::settle(lab, &other).is_ok());
            assert!(idle, "the cluster is never idle");
        };
        maintenance(true);
        let restart = "pkill -x pacemakerd; while pgrep -x pacemakerd; do sleep 0.1; done > /dev/null; \
                       setsid pacemakerd > /dev/null 2>&1 &";
        run(lab, node, restart);
        lab.wait_for_cluster(&lab.plan().node_names()).unwrap();
        self.wait_until_told(&told);
        maintenance(false);
        stream.wait_for_progress(LIMIT).unwrap();
        self.before.wait_for(lab);
        self.wait_until_told(&told);
        assert_eq!(self.stops(), stops);
        assert_eq!(stream.take().broken, None);
    }

    /// While the subnet is lost, on all nodes; and during the detour.
    fn daemons_are_killed_in_the_middle(&self) {
        let Self { lab, node, .. } = *self;
        let nodes = lab.plan().node_names();
        for (delay, again) in [("0", false), ("0.2", true)] {
            let stream = self.stream();
            self.kill_meanwhile(&format!("sleep {delay}; pkill -9 -x berth-portwatch; true"));
            routers(lab, node, &[VIP]);
            stream.wait_for_progress(LIMIT).unwrap();
            for node in nodes.iter().filter(|_| again) {
                run(lab, node, "pkill -9 -x berth-portwatch; true");
            }
            stream.wait_for_progress(LIMIT).unwrap();
            self.home(&[stream]);
            run(lab, node, "crm_resource --cleanup");
            self.before.wait_for(lab);
        }
    }

    /// Those that start addresses while the subnet is lost. (A node on which one can't be stopped is
    /// fenced.)
    fn agents_are_killed_in_the_middle(&self) {
        let Self { lab, node, .. } = *self;
        let kill = "for i in $(seq 150); do \
                    pkill -9 -f '^/usr/lib/ocf/resource.d/berth/vip start'; sleep 0.01; done; true";
        let stream = self.stream();
        self.kill_meanwhile(kill);
        eprintln!("failed: {:?}", failed(lab, node));
        run(lab, node, "crm_resource --cleanup");
        stream.wait_for_progress(LIMIT).unwrap();
        self.home(&[stream]);
        run(lab, node, "crm_resource --cleanup");
    }

    /// Runs a script on all nodes while the subnet is lost.
    fn kill_meanwhile(&self, script: &str) {
        thread::scope(|scope| {
            for node in self.lab.plan().node_names() {
                scope.spawn(move || run(self.lab, &node, script));
            }
            lose(self.lab, self.node, Cable::Pulled);
        });
    }

    fn the_server_goes_with_an_address_that_is_to_migrate(&self) {
        let Self { lab, node, .. } = *self;
        let migrate = server().replace(
            "\"10.1.0.50\"",
            "{ ip = \"10.1.0.50\", on_subnet_loss = \"migrate\" }",
        );
        scene::apply(lab, &config(lab, &migrate)).unwrap();
        lose(lab, node, Cable::Pulled);
        let target = wait_for("alpha on another node", LIMIT, || {
            let seen = scene::node_of(lab, node, "alpha")?;
            holds(seen != node, lab::Error::new("still there")).map(|()| seen)
        })
        .unwrap();
        for vip in [VIP, OTHER] {
            wait_for("its addresses beside it", LIMIT, || {
                ports::port_of(lab, &target, vip)
            })
            .unwrap();
        }
        run(lab, "c1", &format!("ping -n -c 1 -w 60 {VIP}"));
        for port in OFFICE {
            lab.set_cable(node, port, Cable::Good).unwrap();
        }
        ports::wait_usable(lab, node, &OFFICE, true, LIMIT).unwrap();
        scene::apply(lab, &config(lab, &server())).unwrap();
        self.move_to(node);
        gather(lab, node, &[VIP]);
    }
}
