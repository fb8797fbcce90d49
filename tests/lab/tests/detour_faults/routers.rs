//! Nodes that route though they should not.

use std::time::{Duration, Instant};

use lab::flow::Prober;
use lab::protocol::Cable;
use lab::{holds, ports, wait_for, wire};

use super::common::detour::{LIMIT, OFFICE, States, lose};
use super::common::run;
use super::{RESOURCE, Stage, VIP};

pub(crate) fn of_two_routers_one_withdraws(stage: &Stage) {
    let lab = &stage.lab;
    let stream = stage.stream();
    let (router, third) = stage.detour();
    stream.wait_for_progress(LIMIT).unwrap();
    let routing = States::of(lab, std::slice::from_ref(&router));
    let idle = States::of(lab, std::slice::from_ref(&third));
    let one = (RESOURCE, "alpha", VIP);
    assert_eq!(
        agent(stage, &third, one, "start"),
        1,
        "the address has a user"
    );
    idle.wait_for(lab);
    // It is told once; what is started all the same is meant.
    assert!([0, 190].contains(&agent(stage, &third, one, "start")));
    wait_for("two routers", LIMIT, || ports::port_of(lab, &third, VIP)).unwrap();
    let begun = Instant::now();
    let prober = Prober::start(lab, "c1", stage.echo()).unwrap();
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
    stage.home(&[stream]);
}

/// Two nodes that route to each other, as the one was told so before the other.
pub(crate) fn nothing_goes_round(stage: &Stage) {
    let lab = &stage.lab;
    let nodes = lab.plan().node_names();
    let others: Vec<&String> = nodes.iter().filter(|n| *n != &stage.node).collect();
    let [one, two] = others[..] else {
        panic!("three nodes")
    };
    let ghost = ("ghost", "ghost", "10.1.0.77");
    stage.set(two, "berth-cell-ghost", "1");
    assert!([0, 190].contains(&agent(stage, one, ghost, "start")));
    stage.delete(two, "berth-cell-ghost");
    stage.set(one, "berth-cell-ghost", "1");
    lose(lab, two, Cable::Pulled);
    assert!([0, 190].contains(&agent(stage, two, ghost, "start")));
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
        assert_eq!(agent(stage, node, ghost, "stop"), 0);
    }
    stage.delete(one, "berth-cell-ghost");
    ports::wait_usable(lab, two, &OFFICE, true, LIMIT).unwrap();
}

/// An agent started by hand, in the environment that Pacemaker gives it.
fn agent(
    stage: &Stage,
    node: &str,
    (resource, vserver, vip): (&str, &str, &str),
    action: &str,
) -> i32 {
    let script = format!(
        "OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
         OCF_RESOURCE_INSTANCE={resource} OCF_RESOURCE_PROVIDER=berth OCF_RESOURCE_TYPE=vip \
         OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_vserver={vserver} OCF_RESKEY_ip={vip} \
         OCF_RESKEY_subnet=office=10.1.0.0/24 OCF_RESKEY_gateway=10.1.0.254 \
         OCF_RESKEY_ports='eth1 eth2' HA_LOGFACILITY=none \
         /usr/lib/ocf/resource.d/berth/vip {action}"
    );
    let output = stage.lab.exec(node, &["sh", "-c", &script]).unwrap();
    output.code()
}
