//! A VIP whose subnet has no port left on its node is reached by a port of another subnet, as a real
//! routing daemon announces.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::pinging::Pinging;
use common::{STATE, difference, processes, run};
use lab::protocol::Cable;
use lab::stage::{self, Spent};
use lab::{Lab, holds, scene, status, wait_for};

/// What administrators are shown.
const NODE: &str = include_str!("../../../examples/bird.conf");
/// The router between the subnets: eth0 is its port of office, eth1 that of lab.
const ROUTER: &str = "\
log stderr all;
protocol device { }
protocol kernel {
    ipv4 { import none; export where source ~ [ RTS_OSPF_EXT1, RTS_OSPF_EXT2 ]; };
}
protocol kernel {
    ipv6 { import none; export where source ~ [ RTS_OSPF_EXT1, RTS_OSPF_EXT2 ]; };
}
protocol ospf v2 {
    tick 1;
    ipv4 { import where net ~ [ 10.1.0.0/24{32,32}, 10.2.0.0/24{32,32} ]; export none; };
    area 0 {
        interface \"eth0\" { cost 10; hello 1; dead 4; wait 2; check link; };
        interface \"eth1\" { cost 100; hello 1; dead 4; wait 2; check link; };
    };
}
protocol ospf v3 {
    tick 1;
    ipv6 { import where net ~ [ fd00:1::/64{128,128}, fd00:2::/64{128,128} ]; export none; };
    area 0 {
        interface \"eth0\" { cost 10; hello 1; dead 4; wait 2; check link; };
        interface \"eth1\" { cost 100; hello 1; dead 4; wait 2; check link; };
    };
}
";
/// What the routers need, as the example says.
const ROUTER_SETTINGS: &str = "sysctl -w net.ipv4.conf.eth0.proxy_arp=1 \
    net.ipv4.conf.all.send_redirects=0 \
    net.ipv4.conf.eth0.send_redirects=0 net.ipv4.conf.eth1.send_redirects=0";
/// A client on the VIP's own subnet asks for it again a few seconds after the last sign of life.
const IMPATIENT: &str = "sysctl -w net.ipv4.neigh.eth0.base_reachable_time_ms=1000 \
    net.ipv4.neigh.eth0.delay_first_probe_time=1";

/// Time for OSPF to notice, and for clients.
const LIMIT: Duration = Duration::from_secs(90);
const PACE: Duration = Duration::from_millis(20);

lab::scenes! {
    Stage:
    an_address_is_reached_by_another_subnet_while_its_own_is_lost_and_then_goes_home,
    the_next_node_takes_it_from_a_router_that_has_not_heard,
}

/// alpha on a node with one port of its addresses' subnet, so that there is only one way home.
struct Stage {
    lab: Lab,
    node: String,
    /// What the node has.
    state: String,
    /// What alpha consists of.
    servers: Vec<(String, u32)>,
}

impl stage::Stage for Stage {
    fn build() -> Self {
        let lab = stage::up("route", 2).unwrap();
        let announced = "vips = [{ ip = \"10.1.0.50\", announce = \"route\" }, \
                         { ip = \"fd00:1::50\", announce = \"route\" }, \"10.2.0.51\"]";
        let alpha = scene::ALPHA.replace("vips = [\"10.1.0.50\", \"10.2.0.50\"]", announced);
        assert!(alpha.contains(announced));
        let node = scene::serve(&lab, &["[portwatch]\nrecover_after = 2\n", &alpha]).unwrap();
        for machine in ["n1", "n2"] {
            route(&lab, machine, NODE);
        }
        route(&lab, "router", ROUTER);
        run(&lab, "router", ROUTER_SETTINGS);
        run(&lab, "c1", IMPATIENT);
        wait_for_routes(&lab, "dev eth0");
        lab.set_cable(&node, "eth2", Cable::Pulled).unwrap();
        wait_for("all to be on eth1", LIMIT, || {
            let proxies = run(&lab, &node, "ip neigh show proxy; ip -6 neigh show proxy");
            holds(!proxies.contains(" eth2 "), proxies.clone())
        })
        .unwrap();
        Self {
            state: run(&lab, &node, STATE),
            servers: processes(&lab, &node, "alpha"),
            lab,
            node,
        }
    }

    fn check(&self) {
        self.assert_untouched();
    }

    fn clear(self) {
        self.lab.down().unwrap();
    }
}

impl Stage {
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(processes(&self.lab, &self.node, "alpha"), self.servers);
    }
}

/// Waits until the router has both routes by one of its ports.
fn wait_for_routes(lab: &Lab, out: &str) {
    wait_for(format!("both routes by {out}"), LIMIT, || {
        let script = "ip route show proto bird; ip -6 route show proto bird";
        let routes = run(lab, "router", script);
        let by = |vip: &str| {
            let is = |line: &str| line.starts_with(vip) && line.contains(out);
            routes.lines().any(is)
        };
        holds(by("10.1.0.50 ") && by("fd00:1::50 "), routes.clone())
    })
    .unwrap();
}

fn an_address_is_reached_by_another_subnet_while_its_own_is_lost_and_then_goes_home(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    // The other VIPs are not told of.
    let routes = run(lab, "router", "ip route show proto bird");
    assert_eq!(routes.lines().count(), 1, "{routes}");

    let begin = |machine, vip| Pinging::begin(lab, machine, vip, PACE);
    let clients = [
        ("behind the router, IPv4", begin("c2", "10.1.0.50")),
        ("behind the router, IPv6", begin("c2", "fd00:1::50")),
        ("on the subnet", begin("c1", "10.1.0.50")),
    ];
    lab.set_cable(node, "eth1", Cable::Pulled).unwrap();
    wait_for_routes(lab, "dev eth1");
    for (_, pinging) in &clients {
        pinging.wait_for_answers(50, LIMIT);
    }
    let ways = run(lab, node, "ip route show table all dev eth3 proto 190");
    assert!(ways.contains("default via 10.2.0.254"), "{ways}");
    scene::wait_on(lab, node, "alpha", node).unwrap();
    stage.assert_untouched();

    let answered: Vec<usize> = clients.iter().map(|(_, p)| p.answered()).collect();
    lab.set_cable(node, "eth1", Cable::Good).unwrap();
    wait_for("everything to be as it was", LIMIT, || {
        let now = run(lab, node, STATE);
        holds(now == stage.state, difference(&stage.state, &now))
    })
    .unwrap();
    wait_for_routes(lab, "dev eth0");
    for ((who, pinging), before) in clients.into_iter().zip(answered) {
        pinging.wait_for_answers(50, LIMIT);
        let all = pinging.answered();
        let pings = pinging.end();
        eprintln!("{who}: {pings:?}, {} after the return", all - before);
        // There was one gap, when the subnet was lost, and none at the return.
        let lost = PACE * u32::try_from(pings.lost()).unwrap();
        assert!(lost <= pings.outage + PACE * 3, "{who}: {pings:?}");
    }
}

/// The router goes on answering for the address, which is nobody else's all the same.
fn the_next_node_takes_it_from_a_router_that_has_not_heard(stage: &Stage) -> Spent {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    lab.set_cable(node, "eth1", Cable::Pulled).unwrap();
    wait_for_routes(lab, "dev eth1");
    let router = |script: &str| run(lab, "router", script);
    router("sysctl -w net.ipv4.neigh.eth0.proxy_delay=0; kill -STOP $(cat /run/bird.pid)");
    let target = if node == "n1" { "n2" } else { "n1" };
    let words = format!("crm_resource --move -r alpha -N {target}; crm_resource --wait");
    run(lab, node, &words);
    for resource in ["alpha-ip1", "alpha-ip2"] {
        scene::wait_on(lab, target, resource, target).unwrap();
    }
    router("kill -CONT $(cat /run/bird.pid)");
    wait_for_routes(lab, "dev eth0");
    let complaints = status::complaints(lab, target).unwrap();
    assert!(complaints.iter().all(|c| c.degraded), "{complaints:?}");
    Pinging::begin(lab, "c2", "10.1.0.50", PACE).end();
    Spent
}

/// Starts BIRD.
fn route(lab: &Lab, machine: &str, config: &str) {
    lab.write(machine, "/run/bird.conf", config).unwrap();
    let script = "bird -c /run/bird.conf -s /run/bird.ctl -P /run/bird.pid";
    run(lab, machine, script);
}
