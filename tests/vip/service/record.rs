//! What is kept in the runtime directory of a VIP and of the node's settings, full or lost.

use berth::ocf::State;

use super::{NONE, VIPS, assert_served};
use crate::namespace::{SmallRoom, with_own_mounts};
use crate::network::{Network, differences};

#[test]
#[ignore = "needs root"]
fn a_full_runtime_directory_fails_neither_start_nor_stop() {
    with_own_mounts(|| {
        let net = Network::new();
        let alpha = net.cell("alpha");
        let before = net.dump();
        let room = SmallRoom::over(net.runtime.path());
        for vip in VIPS {
            let spec = alpha.wide_spec(vip);
            // Full when it stops: the record takes its spare room.
            net.start(&alpha, &spec).unwrap();
            room.fill();
            assert_eq!(net.monitor(&alpha, &spec), State::Running);
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
            assert_eq!(differences(&net.dump(), &before), NONE);
            room.free();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_address_started_without_room_for_its_record_is_served_and_says_so() {
    with_own_mounts(|| {
        for vip in VIPS {
            let net = Network::new();
            let alpha = net.cell("alpha");
            let spec = alpha.wide_spec(vip);
            let room = SmallRoom::over(net.runtime.path());
            room.fill();
            let put_on_record =
                |state| net.service(vip, |s| s.put_on_record(&spec, state)).unwrap();
            let degraded = |state: State| match state {
                State::Degraded(why) => {
                    let says =
                        format!("{vip} is served, but stays on its port if that fails: write ");
                    assert!(why.starts_with(&says), "{why}");
                    assert!(why.contains("No space left on device"), "{why}");
                }
                other => panic!("{other:?}"),
            };
            degraded(net.start(&alpha, &spec).unwrap());
            degraded(put_on_record(net.monitor(&alpha, &spec)));
            assert_served(&net, &alpha, vip);
            // That the port forwarded nothing before is told by the filter.
            let forwards = |port: &str| {
                let key = match vip.contains(':') {
                    true => format!("/proc/sys/net/ipv6/conf/{port}/force_forwarding"),
                    false => format!("/proc/sys/net/ipv4/conf/{port}/forwarding"),
                };
                net.node.sh(&format!("cat {key}")).trim() == "1"
            };
            assert!(forwards("a1"));
            degraded(net.start(&alpha, &spec).unwrap());
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
            assert!(!forwards("a0") && !forwards("a1"));
            // With room again it goes on record by itself.
            degraded(net.start(&alpha, &spec).unwrap());
            room.free();
            let state = put_on_record(net.monitor(&alpha, &spec));
            assert_eq!(state, State::Running);
            let cleaned = net.service(vip, |s| s.note(&State::Running)).unwrap();
            assert!(cleaned, "what the cluster shows is of the past");
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        }
    });
}

#[test]
#[ignore = "needs root"]
fn settings_of_which_nothing_is_known_any_more_count_as_berths() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let settings = net.runtime.path().join("vip.settings");
    let no_ways = "nft flush ruleset; \
        for option in -4 -6; do ip $option route flush table all proto 190; \
        ip $option neigh show proxy | while read ip dev port rest; do ip neigh del proxy $ip dev $port; done; done";
    for (vip, switch, set) in [
        (VIPS[0], "ipv4/conf/a1/forwarding", "shut4"),
        (VIPS[1], "ipv6/conf/a1/force_forwarding", "shut6"),
    ] {
        let (spec, switch) = (alpha.wide_spec(vip), format!("cat /proc/sys/net/{switch}"));
        for flush in ["true", "nft flush ruleset", no_ways] {
            for lose in ["{", ""] {
                net.start(&alpha, &spec).unwrap();
                match lose {
                    "" => std::fs::remove_file(&settings).unwrap(),
                    text => std::fs::write(&settings, text).unwrap(),
                }
                net.node.sh(flush);
                // The node's own traffic passes no port that berth opened.
                net.start(&alpha, &spec).unwrap();
                let shut = net.node.sh(&format!("nft list set inet berth {set}"));
                assert!(shut.contains("\"a1\""), "{lose} {flush}: {shut}");
                assert_eq!(net.node.sh(&switch).trim(), "1");
                assert_eq!(net.stop(&alpha, &spec), State::Stopped);
                assert_eq!(net.node.sh(&switch).trim(), "0", "{lose} {flush}");
            }
        }
    }
}
