//! Loads that lie unevenly on the ports of a subnet are evened out, and nobody notices.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use common::pinging::Pinging;
use common::run;
use lab::protocol::Cable;
use lab::{Lab, holds, ports, scene, stage, wait_for};

const VIPS: [&str; 2] = ["10.1.0.50", "10.1.0.51"];
/// Both are more than the threshold of one percent of a virtual cable's 10 Gbit/s, on any machine.
const SPEED: &str = "300M";
const SECONDS: u32 = 40;
const LIMIT: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(2);

#[test]
#[ignore = "needs root"]
fn one_of_two_busy_addresses_on_one_port_moves_to_the_other_and_loses_no_packet() {
    let lab = stage::up("balance", 2).unwrap();
    let settings = "[portwatch]\nrecover_after = 2\nbalance = 1\n";
    let alpha = scene::ALPHA.replace("\"10.2.0.50\"", "\"10.1.0.51\"");
    let node = scene::serve(&lab, &[settings, &alpha]).unwrap();
    lab.set_cable(&node, "eth2", Cable::Pulled).unwrap();
    for vip in VIPS {
        ports::wait_at(&lab, &node, (vip, "eth1"), LIMIT).unwrap();
    }
    lab.set_cable(&node, "eth2", Cable::Good).unwrap();
    ports::wait_usable(&lab, &node, &["eth2"], true, LIMIT).unwrap();

    let mark = ports::log_mark(&lab, &node).unwrap();
    let moves = || ports::moves(&ports::log_since(&lab, &node, mark).unwrap());
    assert!(moves().is_empty(), "without load nothing moves");
    for (vip, port) in VIPS.iter().zip([5201, 5202]) {
        let serve = format!("berth exec alpha -- iperf3 -s -D -1 -B {vip} -p {port}");
        run(&lab, &node, &serve);
    }
    let pings = VIPS.map(|vip| Pinging::begin(&lab, "c1", vip, PACE));
    let before = counted(&lab, &node);
    let sent = thread::scope(|scope| {
        let loads = [(VIPS[0], 5201), (VIPS[1], 5202)].map(|(vip, port)| {
            let lab = &lab;
            scope.spawn(move || {
                let script = format!("iperf3 -c {vip} -p {port} -t {SECONDS} -b {SPEED} -J");
                let words = ["sh", "-c", &script];
                let output = lab.exec_within("c1", &words, LIMIT * 2).unwrap();
                received(&output.check("iperf3").unwrap().stdout)
            })
        });
        wait_for("an address to move", LIMIT, || {
            let moves = moves();
            holds(!moves.is_empty(), format!("{moves:?}"))
        })
        .unwrap();
        // The load goes on for several times as long as it takes to decide on a move.
        loads.map(|load| load.join().unwrap())
    });
    let counted: Vec<f64> = counted(&lab, &node)
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    eprintln!("received: {sent:?}, counted: {counted:?}");
    for (sent, counted) in sent.iter().zip(&counted) {
        let ratio = counted / sent;
        assert!((0.95..1.2).contains(&ratio), "{ratio}");
    }
    let moves = moves();
    assert_eq!(moves.values().sum::<usize>(), 1, "{moves:?}");
    let mut at: Vec<String> = VIPS
        .iter()
        .map(|vip| ports::port_of(&lab, &node, vip).unwrap())
        .collect();
    at.sort();
    assert_eq!(at, ["eth1", "eth2"]);
    for (vip, pings) in VIPS.iter().zip(pings) {
        let pings = pings.end();
        eprintln!("{vip}: {pings:?}");
        assert_eq!(pings.lost(), 0, "{vip}: {pings:?}");
    }
    lab.down().unwrap();
}

/// What a measurement says that the server has received.
fn received(text: &str) -> f64 {
    let report: serde_json::Value = serde_json::from_str(text).unwrap();
    report["end"]["sum_received"]["bytes"].as_f64().unwrap()
}

/// What the kernel has counted on the way to each VIP.
fn counted(lab: &Lab, node: &str) -> [f64; 2] {
    let text = run(lab, node, "nft -j list set inet berth to4");
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of = |vip: &str| {
        let is = |element: &&serde_json::Value| {
            let address = element["elem"]["val"]["concat"][0].as_str();
            address.and_then(|a| a.parse::<IpAddr>().ok()) == vip.parse().ok()
        };
        let sets = all["nftables"].as_array().unwrap().iter();
        let elements = sets.filter_map(|o| o["set"]["elem"].as_array()).flatten();
        let found = elements.clone().find(is);
        found.unwrap()["elem"]["counter"]["bytes"].as_f64().unwrap()
    };
    VIPS.map(of)
}
