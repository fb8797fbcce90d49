//! What may go wrong with a detour: wrong attributes, two routers, loops, no way, sudden ends; on nodes
//! that filter by the reverse path as strictly as they can. Whatever it is, the detour ends and leaves nothing behind.

#![allow(clippy::unwrap_used)]

mod attributes;
#[path = "../common/mod.rs"]
mod common;
mod killed;
mod pacemaker;
mod routers;
mod server;

use std::cell::RefCell;
use std::net::SocketAddr;

use common::detour::{LIMIT, PORTWATCH, States, gather, lose, mend};
use common::{processes, run};
use lab::flow::{Echo, Stream};
use lab::protocol::Cable;
use lab::{Error, Lab, holds, scene, stage, wait_for};

/// alpha's address on the subnet that is lost, and its resource.
const VIP: &str = "10.1.0.50";
const RESOURCE: &str = "alpha-ip1";
/// Its address on the other subnet.
const OTHER: &str = "10.2.0.50";

lab::scenes! {
    Stage:
    attributes::wrong_attributes_change_nothing,
    attributes::stale_attributes_are_got_over,
    routers::of_two_routers_one_withdraws,
    routers::nothing_goes_round,
    pacemaker::a_refresh_during_a_detour_leaves_no_complaint_behind,
    server::without_a_way_the_address_stays_with_its_server,
    pacemaker::what_the_cluster_forgets_during_a_detour_is_told_again,
    pacemaker::an_update_of_pacemaker_in_maintenance_moves_nothing,
    killed::daemons_are_killed_in_the_middle,
    killed::agents_are_killed_in_the_middle,
    server::ports_lost_one_after_another_move_the_server,
    server::the_server_is_moved,
    server::the_server_goes_with_an_address_that_is_to_migrate,
    server::nothing_is_left_of_one_that_is_stopped,
}

/// alpha on a node, and its address on the subnet that is lost at the last port of that.
struct Stage {
    /// alpha's, once a scene has wanted it and as long as alpha is not moved.
    echo: RefCell<Option<Echo>>,
    lab: Lab,
    /// The node with alpha.
    node: String,
    /// What the nodes had before alpha.
    pristine: States,
    /// What they have with it.
    before: States,
    /// What alpha consists of.
    servers: RefCell<Vec<(String, u32)>>,
}

impl stage::Stage for Stage {
    fn build() -> Self {
        let lab = stage::up("faults", 3).unwrap();
        filter_strictly(&lab);
        let pristine = States::all(&lab);
        lab.mkfs("d1", "ext4").unwrap();
        scene::apply(&lab, &config(&lab, &server())).unwrap();
        let node = scene::node_of(&lab, "n1", "alpha").unwrap();
        gather(&lab, &node, &[VIP]);
        Self {
            echo: RefCell::new(None),
            pristine,
            before: States::all(&lab),
            servers: RefCell::new(processes(&lab, &node, "alpha")),
            lab,
            node,
        }
    }

    fn check(&self) {
        self.before.wait_for(&self.lab);
        let now = processes(&self.lab, &self.node, "alpha");
        assert_eq!(now, *self.servers.borrow(), "alpha was touched");
        no_zombies(&self.lab);
    }

    fn clear(self) {
        drop(self.echo);
        self.lab.down().unwrap();
    }
}

/// As administrators may have it, and some distributions.
fn filter_strictly(lab: &Lab) {
    for node in lab.plan().node_names() {
        let script = "for port in all default eth0 eth1 eth2 eth3; do \
                      sysctl -w net.ipv4.conf.$port.rp_filter=1; done";
        run(lab, &node, script);
    }
}

/// alpha with both addresses.
fn server() -> String {
    let vips = format!("vips = [\"{VIP}\", \"{OTHER}\"]");
    common::SMALL.replace("vips = [\"10.1.0.50\"]", &vips)
}

fn config(lab: &Lab, server: &str) -> String {
    scene::config(lab, &[PORTWATCH, server])
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

impl Stage {
    /// Where something in alpha's cell answers.
    fn echo(&self) -> SocketAddr {
        let start = || Echo::start(&self.lab, (&self.node, "alpha"), VIP, "c1").unwrap();
        let mut echo = self.echo.borrow_mut();
        echo.get_or_insert_with(start).address()
    }

    fn stream(&self) -> Stream {
        Stream::start(&self.lab, "c1", self.echo()).unwrap()
    }

    /// The subnet is lost; returns the router, and the node that is neither.
    fn detour(&self) -> (String, String) {
        lose(&self.lab, &self.node, Cable::Pulled);
        let router = common::detour::routers(&self.lab, &self.node, &[VIP]).remove(0);
        let third = self.third(&router);
        (router, third)
    }

    fn third(&self, router: &str) -> String {
        let mut nodes = self.lab.plan().node_names();
        nodes.retain(|n| *n != self.node && n != router);
        nodes.remove(0)
    }

    fn home(&self, streams: &[Stream]) {
        mend(&self.lab, &self.node, &[VIP]);
        for stream in streams {
            stream.wait_for_progress(LIMIT).unwrap();
            assert_eq!(stream.take().broken, None);
        }
    }

    fn set(&self, node: &str, name: &str, value: &str) {
        let words = ["attrd_updater", "-p", "-n", name, "-N", node, "-U", value];
        let output = self.lab.exec(&self.node, &words).unwrap();
        output.check("attrd_updater").unwrap();
    }

    fn delete(&self, node: &str, name: &str) {
        run(
            &self.lab,
            &self.node,
            &format!("attrd_updater -D -n {name} -N {node}"),
        );
    }

    /// Has alpha run on `node`.
    fn move_to(&self, node: &str) {
        let script = format!(
            "crm_resource --move -r alpha -N {node}; crm_resource --wait; crm_resource --clear -r alpha"
        );
        run(&self.lab, &self.node, &script);
        scene::wait_on(&self.lab, &self.node, "alpha", node).unwrap();
    }

    /// Has alpha, which was moved away, where it was. The echo has ended with its cell there.
    fn move_back(&self) {
        self.move_to(&self.node);
        gather(&self.lab, &self.node, &[VIP]);
        self.echo.replace(None);
        self.servers
            .replace(processes(&self.lab, &self.node, "alpha"));
    }
}
