//! Start, monitor and stop: what they find, what they leave, and that they do not disturb each other.

use std::os::fd::AsFd;
use std::time::Duration;

use berth::ocf::State;

use super::{NONE, VIPS};
use crate::network::{Network, differences, pings};

#[test]
#[ignore = "needs root"]
fn stopping_leaves_the_node_as_it_was() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let before = net.dump();
    let wishes: Vec<_> = VIPS.iter().map(|vip| alpha.wide_spec(vip)).collect();
    for _ in 0..2 {
        for spec in &wishes {
            for _ in 0..2 {
                assert_eq!(net.start(&alpha, spec).unwrap(), State::Running);
            }
        }
        for spec in &wishes {
            assert_eq!(net.stop(&alpha, spec), State::Stopped);
        }
        assert_eq!(differences(&net.dump(), &before), NONE);
    }
    let left: Vec<_> = std::fs::read_dir(net.runtime.path()).unwrap().collect();
    assert_eq!(
        left.len(),
        3,
        "the lock, the spare file and the empty directory: {left:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn what_others_take_away_is_named_and_a_restart_mends_it() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let before = net.dump();
    let spec = alpha.wide_spec("10.1.0.50");
    for (sabotage, words) in [
        (
            "ip neigh del proxy 10.1.0.50 dev a1",
            "proxy entry 10.1.0.50 on a1 is missing",
        ),
        (
            "ip route del 10.1.0.50 table 190 metric 10",
            "route 10.1.0.50/32 dev b-alpha table 190 is missing",
        ),
        ("ip rule del pref 200", "rule 200 from 10.1.0.50"),
        (
            "nft delete element inet berth own4 '{ \"b-alpha\" . 10.1.0.50 }'",
            "nft element own b-alpha . 10.1.0.50 is missing",
        ),
        (
            "nft flush chain inet berth forward",
            "nftables table berth lacks rules",
        ),
        (
            "nft insert rule inet berth forward4 drop",
            "nftables table berth lacks rules",
        ),
        ("nft flush ruleset", "nftables table berth is missing"),
        (
            "echo 0 > /proc/sys/net/ipv4/conf/a1/forwarding",
            "setting ipv4/conf/a1/forwarding is 0, not 1",
        ),
    ] {
        assert_eq!(
            net.start(&alpha, &spec).unwrap(),
            State::Running,
            "{sabotage}"
        );
        // Whatever it may keep in mind for the next one.
        assert_eq!(net.monitor(&alpha, &spec), State::Running);
        net.node.sh(sabotage);
        match net.monitor(&alpha, &spec) {
            State::Failed(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{sabotage}: {other:?}"),
        }
    }
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    alpha.namespace.ip("addr del 10.1.0.50/32 dev eth0");
    let reason = "address 10.1.0.50 in the cell is missing (and 1 more)".to_owned();
    assert_eq!(net.monitor(&alpha, &spec), State::Failed(reason));
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    net.node
        .sh("nft flush ruleset; ip rule del pref 100; echo 0 > /proc/sys/net/ipv4/ip_forward");
    net.stop(&alpha, &spec);
    assert_eq!(differences(&net.dump(), &before), NONE);
}

#[test]
#[ignore = "needs root"]
fn a_vip_of_another_vserver_is_neither_taken_nor_stopped() {
    let net = Network::new();
    let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
    let (first, second) = (alpha.spec("10.1.0.50"), beta.spec("10.1.0.50"));
    net.start(&alpha, &first).unwrap();
    let error = net.start(&beta, &second).unwrap_err().to_string();
    assert_eq!(
        error,
        "parameter ip: 10.1.0.50 is already in use by vserver alpha on this node"
    );
    // A resource of its own, of which nothing is on record.
    let (resource, cell) = ("10.1.0.50 of beta", Some(beta.namespace.as_fd()));
    let monitored = net.service(resource, |s| s.monitor(&second, cell, &|_| ()));
    assert_eq!(monitored.unwrap(), State::Stopped);
    let stopped = net.service(resource, |s| s.stop(&second.vserver, second.vip, cell));
    assert_eq!(stopped.unwrap(), State::Stopped);
    assert_eq!(net.monitor(&alpha, &first), State::Running);
    let error = net.start(&beta, &beta.spec("10.1.0.1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter ip: 10.1.0.1 is an address of this node's own interface a0"
    );
    let error = net.start(&beta, &beta.spec("10.9.0.1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter ip: 10.9.0.1 is in no subnet of this node (10.1.0.0/24, 10.2.0.0/24)"
    );
}

#[test]
#[ignore = "needs root"]
fn stop_cleans_up_after_a_cell_that_is_gone() {
    let net = Network::new();
    let before = net.dump();
    let spec = {
        let alpha = net.cell("alpha");
        let spec = alpha.wide_spec("2001:db8:1::50");
        net.start(&alpha, &spec).unwrap();
        net.node.ip("link del b-alpha");
        spec
    };
    let state = net
        .service("x", |s| s.monitor(&spec, None, &|_| ()))
        .unwrap();
    let reason = "vserver alpha's cell does not run on this node".to_owned();
    assert_eq!(state, State::Failed(reason));
    let state = net
        .service("x", |s| s.stop(&spec.vserver, spec.vip, None))
        .unwrap();
    assert_eq!(state, State::Stopped);
    let state = net
        .service("x", |s| s.monitor(&spec, None, &|_| ()))
        .unwrap();
    assert_eq!(state, State::Stopped);
    assert_eq!(differences(&net.dump(), &before), NONE);
}

#[test]
#[ignore = "needs root"]
fn vips_that_start_and_stop_at_the_same_moment_do_not_disturb_each_other() {
    let net = Network::new();
    let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
    let before = net.dump();
    let cells = [&alpha, &beta];
    let all: Vec<_> = (50..58)
        .map(|n| {
            let cell = cells[n % 2];
            let vip = [format!("10.1.0.{n}"), format!("2001:db8:1::{n}")][n / 2 % 2].clone();
            (cell, cell.wide_spec(&vip))
        })
        .collect();
    std::thread::scope(|scope| {
        for (cell, spec) in &all {
            scope.spawn(|| assert_eq!(net.start(cell, spec).unwrap(), State::Running));
        }
    });
    for (cell, spec) in &all {
        assert_eq!(net.monitor(cell, spec), State::Running);
        assert!(pings(&net.client_a, &spec.vip.to_string()));
    }
    std::thread::scope(|scope| {
        for (cell, spec) in &all[1..] {
            scope.spawn(|| assert_eq!(net.stop(cell, spec), State::Stopped));
        }
    });
    let (cell, spec) = &all[0];
    assert_eq!(net.monitor(cell, spec), State::Running);
    assert!(pings(&net.client_a, &spec.vip.to_string()));
    net.stop(cell, spec);
    assert_eq!(differences(&net.dump(), &before), NONE);
}

#[test]
#[ignore = "needs root"]
fn a_monitor_costs_little() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let wishes: Vec<_> = VIPS.iter().map(|vip| alpha.wide_spec(vip)).collect();
    for spec in &wishes {
        net.start(&alpha, spec).unwrap();
    }
    let rounds = 100;
    let spent = net
        .service("x", |service| {
            let begun = processor_time();
            for _ in 0..rounds {
                let cell = Some(alpha.namespace.as_fd());
                assert_eq!(service.monitor(&wishes[0], cell, &|_| ())?, State::Running);
            }
            Ok(processor_time() - begun)
        })
        .unwrap();
    let each = spent / rounds;
    println!("a monitor without its process: {each:?} of processor time");
    // The aim is 2 ms for the whole process of a release build.
    assert!(each < Duration::from_millis(4), "{each:?}");
}

/// What this thread has spent, in user mode and in the kernel.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().into()
}
