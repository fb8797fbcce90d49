//! Tests of what is told of a node, of how much of it, and of what other versions make of it.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::*;
use crate::plan::detour::overview::{ForeignClaim, OngoingSearch, Rivalry, Seeker};
use crate::plan::mover::{Duty, Recorded};
use crate::plan::port::Standing;
use crate::plan::vip::record::{VipSpec, detour_name};
use crate::plan::vip::{Link, Object, Observed, Watched, cell_link};
use crate::portwatch::protocol::Reply;
use crate::runtime::channel::MESSAGE_LIMIT;

/// All that a state tells which is one of several.
pub(crate) const KINDS: [&str; 24] = [
    "good",
    "flapping",
    "suspect",
    "held",
    "no carrier",
    "silent",
    "missing",
    "part of",
    "answers",
    "in doubt",
    "only elsewhere",
    "nowhere",
    "home",
    "router",
    "detour",
    "detour without a router",
    "stranded",
    "ending",
    "sought by an agent",
    "sought by a resource",
    "sought by nobody",
    "suspected",
    "asked",
    "meant",
];

/// What there is of that in this one.
pub(crate) fn kinds_of(state: &NodeState) -> Vec<&'static str> {
    let ports = state.ports.values().map(|port| match &port.condition {
        Condition::Good => "good",
        Condition::Flapping => "flapping",
        Condition::Suspect => "suspect",
        Condition::Held { .. } => "held",
        Condition::Failed { why } => match why {
            Failure::Carrier => "no carrier",
            Failure::Silent => "silent",
            Failure::Unknown => "failed for an unknown reason",
        },
        Condition::Missing => "missing",
        Condition::PartOf { .. } => "part of",
        Condition::Unknown => "an unknown condition",
    });
    let subnets = state.subnets.values().map(|subnet| match subnet.hearing {
        Hearing::Answers => "answers",
        Hearing::InDoubt => "in doubt",
        Hearing::OnlyElsewhere => "only elsewhere",
        Hearing::Nowhere => "nowhere",
        Hearing::Unknown => "an unknown hearing",
    });
    let vips = state.vips.values().map(|vip| match &vip.role {
        RoleState::Home => "home",
        RoleState::Router { .. } => "router",
        RoleState::Detour { router: Some(_) } => "detour",
        RoleState::Detour { router: None } => "detour without a router",
        RoleState::Stranded { .. } => "stranded",
        RoleState::Ending { .. } => "ending",
        RoleState::Unknown => "an unknown role",
    });
    let searches = state.detours.searches.iter();
    let searches = searches.map(|search| match search.seeker {
        Seeker::Agent => "sought by an agent",
        Seeker::Resource { .. } => "sought by a resource",
        Seeker::Nobody => "sought by nobody",
        Seeker::Unknown => "sought by somebody unknown",
    });
    let rivalries = state.detours.rivalries.values();
    let rivalries = rivalries.map(|rivalry| match rivalry {
        Rivalry::Suspected => "suspected",
        Rivalry::Asked => "asked",
        Rivalry::Meant => "meant",
        Rivalry::Unknown => "an unknown rivalry",
    });
    let all = ports.chain(subnets).chain(vips);
    all.chain(searches).chain(rivalries).collect()
}

fn port(subnet: &str, condition: Condition) -> PortState {
    PortState {
        subnet: subnet.into(),
        condition,
        good: true,
        speed_bits_per_second: None,
        load_bits_per_second: BitRate::NONE,
        targets: Vec::new(),
    }
}

fn vip_at(last: u8, port: &str) -> VipState {
    VipState {
        address: [10, 1, 0, last].into(),
        vserver: "alpha".into(),
        role: RoleState::Home,
        serving: true,
        degraded: false,
        port: Some(port.into()),
        load_bits_per_second: BitRate::NONE,
        claimed_by: None,
    }
}

fn read<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"))
}

#[test]
fn what_a_later_version_says_besides_is_skipped_and_what_it_says_otherwise_is_unknown() {
    let state: NodeState = read(
        r#"{"node":"n1","later":{"a":[1]},"attributes":{},"trouble":null,"unpublished":null,"omitted":0,
        "ports":{"eth1":{"subnet":"office","condition":{"is":"melted","degrees":90},"good":false,"later":1,
            "speed_bits_per_second":null,"load_bits_per_second":0,"targets":[]}},
        "subnets":{"office":{"nets":[],"lost_ms_ago":null,"hearing":"whispers"}},
        "vips":{"ip1":{"address":"10.1.0.50","vserver":"alpha","role":{"is":"guest","of":"n2"},"serving":true,
            "degraded":false,"port":"eth1","load_bits_per_second":0,"claimed_by":null}},
        "detours":{"searches":[{"seeker":{"is":"person","name":"x"},"vserver":"alpha","vip":"10.1.0.50",
            "node":null,"age_ms":0}],"claims":[],"unreached":{},"rivalries":{"ip1":"lost"},"later":1}}"#,
    );
    assert_eq!(
        kinds_of(&state),
        [
            "an unknown condition",
            "an unknown hearing",
            "an unknown role",
            "sought by somebody unknown",
            "an unknown rivalry",
        ]
    );
    let failed: Condition = read(r#"{"is":"failed","why":"burnt"}"#);
    let why = Failure::Unknown;
    assert_eq!(failed, Condition::Failed { why });
}

#[test]
fn a_rate_is_its_bits_a_second() {
    let mut port = port("office", Condition::Good);
    port.speed_bits_per_second = Some(BitRate::megabits(1000));
    port.load_bits_per_second = BitRate::bytes(3);
    let json = serde_json::to_value(&port).unwrap();
    assert_eq!(json["speed_bits_per_second"], 1_000_000_000);
    assert_eq!(json["load_bits_per_second"], 24);
}

#[test]
fn a_monitor_is_answered_what_the_state_tells() {
    let why = Failure::Silent;
    let state = NodeState {
        ports: [
            ("eth1", port("office", Condition::Failed { why })),
            ("eth2", port("office", Condition::Good)),
            ("eth3", port("lab", Condition::Flapping)),
            ("eth4", port("store", Condition::Suspect)),
        ]
        .map(|(name, port)| (name.into(), port))
        .into(),
        vips: [("a", 50, "eth2"), ("b", 51, "eth2"), ("@51", 51, "eth2")]
            .map(|(name, last, port)| (name.to_owned(), vip_at(last, port)))
            .into(),
        unpublished: Some("why".into()),
        ..NodeState::default()
    };
    let state = state.with_trouble();
    let trouble = "eth1 silent, eth3 flapping, 2 VIPs on eth2";
    assert_eq!(state.trouble.as_deref(), Some(trouble));
    assert_eq!(state.clone().bounded(), state, "nothing is left out");
    let status = Reply::Status {
        trouble: Some(trouble.into()),
        unpublished: Some("why".into()),
    };
    assert_eq!(Reply::status(state), status);
    let well = NodeState::default().with_trouble();
    let status = Reply::Status {
        trouble: None,
        unpublished: None,
    };
    assert_eq!(Reply::status(well), status);
}

fn record(last: u8, role: Role) -> Record {
    let spec = VipSpec {
        vserver: "alpha".into(),
        vip: [10, 1, 0, last].into(),
        subnet: None,
        gateway: None,
        ports: None,
        routed: false,
        reroute: true,
    };
    Record {
        serving: true,
        ..Record::new(&spec, role)
    }
}

/// A node with alpha's cell and eth1, which answers for these VIPs.
fn seen(vips: &[u8]) -> Observed {
    let watched = Watched {
        standing: Standing::Good,
        load: 0,
        nets: vec![("10.1.0.0/24".parse().unwrap(), None)],
    };
    let link = |name: IfName| Link {
        name,
        up: true,
        carrier: true,
        eligible: true,
        addresses: Vec::new(),
    };
    let proxies = vips.iter().map(|last| {
        let vip = IpAddr::from([10, 1, 0, *last]);
        Object::Proxy("eth1".into(), vip)
    });
    Observed {
        links: vec![link("eth1".into()), link(cell_link(&"alpha".into()))],
        watched: [("eth1".into(), watched)].into(),
        objects: proxies.collect(),
        ..Observed::default()
    }
}

#[test]
fn a_vip_is_told_with_its_role_its_port_and_what_it_moves() {
    let hop = RouterHop {
        node: "n2".into(),
        net: "10.2.0.0/24".parse().unwrap(),
        ports: vec!["eth3".into()],
        router: [10, 2, 0, 2].into(),
    };
    let detour = detour_name([10, 1, 0, 52].into());
    let records: BTreeMap<String, Record> = [
        ("ip0", record(50, Role::Home)),
        ("ip1", record(51, Role::Stranded("no way".into()))),
        (&detour, record(52, Role::Detour(Some(hop)))),
    ]
    .map(|(name, record)| (name.to_owned(), record))
    .into();
    let (mut mover, now) = (Mover::default(), Instant::now());
    let served = Recorded {
        request: records["ip0"].request(),
        serving: true,
        duty: Duty::Serve,
    };
    mover.survey(&[served], &seen(&[50]), &[]);
    let vip: IpAddr = [10, 1, 0, 50].into();
    mover.measured([(vip, 0)].into(), now);
    mover.measured([(vip, 5000)].into(), now + Duration::from_secs(5));
    let told = vips(&records, &mover);
    let home = VipState {
        load_bits_per_second: BitRate::bytes(1000),
        ..vip_at(50, "eth1")
    };
    assert_eq!(told["ip0"], home);
    let why = "no way".to_owned();
    assert_eq!(told["ip1"].role, RoleState::Stranded { why });
    assert_eq!(told["ip1"].port, None);
    let router = HopState {
        node: "n2".into(),
        address: [10, 2, 0, 2].into(),
        ports: vec!["eth3".into()],
    };
    let router = Some(router);
    assert_eq!(told[&detour].role, RoleState::Detour { router });
}

/// `count` of everything, with names as long as they can be and texts that are longer.
fn excessive(count: usize) -> NodeState {
    let name = |n: usize| format!("{n:0>255}");
    let interface = |n: usize| IfName::from(format!("{n:0>15}").as_str());
    let label = |n: usize| Label::from(format!("{n:0>32}").as_str());
    let node = || NodeName::from(name(1).as_str());
    let vserver = |n: usize| VserverName::from(format!("v{n:0>12}").as_str());
    let address: IpAddr = "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap();
    // A byte of it takes the most in a message.
    let text = || "\u{1}".repeat(5000);
    let age_ms = Milliseconds(u64::MAX);
    let target = TargetState {
        address,
        answered_ms_ago: Some(age_ms),
    };
    let port = PortState {
        targets: vec![target; count],
        ..port(&label(1), Condition::Held { left_ms: age_ms })
    };
    let subnet = SubnetState {
        nets: vec![address.into(); count],
        lost_ms_ago: Some(age_ms),
        hearing: Hearing::OnlyElsewhere,
    };
    let vip = VipState {
        role: RoleState::Stranded { why: text() },
        ..vip_at(1, "eth1")
    };
    let search = OngoingSearch {
        seeker: Seeker::Resource { name: name(1) },
        vserver: vserver(1),
        vip: address,
        node: Some(node()),
        age_ms,
    };
    let claim = ForeignClaim {
        node: node(),
        vserver: vserver(1),
        vip: address,
        subnet: label(1),
        router: address,
        ending: false,
        age_ms,
        refused: Some(text()),
    };
    let attribute = AttributeState {
        value: Some(text()),
        told: false,
    };
    let all = || (0..count).map(name);
    NodeState {
        node: Some(node()),
        ports: (0..count).map(|n| (interface(n), port.clone())).collect(),
        subnets: (0..count).map(|n| (label(n), subnet.clone())).collect(),
        vips: all().map(|name| (name, vip.clone())).collect(),
        detours: Overview {
            searches: vec![search; count],
            claims: vec![claim; count],
            unreached: (0..count).map(|n| (vserver(n), node())).collect(),
            rivalries: all().map(|n| (n, Rivalry::Suspected)).collect(),
        },
        attributes: all().map(|name| (name, attribute.clone())).collect(),
        trouble: Some(text()),
        unpublished: Some(text()),
        omitted: 0,
    }
}

#[test]
fn of_too_much_as_much_is_told_as_fits() {
    for count in [1, 2, 7, 100, 500] {
        let told = excessive(count).bounded();
        let message = Reply::State(Box::new(told.clone()));
        let length = serde_json::to_vec(&message).unwrap().len();
        assert!(length <= MESSAGE_LIMIT, "{count}: {length} bytes");
        assert_eq!(told.omitted == 0, count < 100, "{count}");
        let left = told.vips.len() + told.attributes.len() + told.detours.claims.len();
        assert!(left >= 3 * count.min(7), "{count}: {left} are left");
        assert!(told.vips.contains_key(&"0".repeat(255)), "the first");
    }
    let mut many = excessive(0);
    many.vips = (0..1000)
        .map(|n| (format!("alpha-ip{n}"), vip_at(1, "eth1")))
        .collect();
    assert_eq!(many.bounded().omitted, 0, "what a node may well have");
}

#[test]
fn what_is_left_out_is_counted() {
    let count = 200;
    let mut state = excessive(0);
    let why = "x".repeat(3000);
    state.attributes = (0..count * 10)
        .map(|n| {
            let value = Some(why.clone());
            (n.to_string(), AttributeState { value, told: true })
        })
        .collect();
    let told = state.bounded();
    assert_eq!(told.attributes.len() + told.omitted, count * 10);
    assert!(told.omitted > 0 && told.attributes.len() >= count);
}

#[test]
fn a_text_that_is_cut_shows_it_and_stays_a_text() {
    let told = |text: &str| {
        let state = NodeState {
            unpublished: Some(text.to_owned()),
            ..NodeState::default()
        };
        state.bounded().unpublished.unwrap()
    };
    assert_eq!(told("why"), "why");
    let umlauts = format!("a{}", "ä".repeat(1000));
    let cut = told(&umlauts);
    let kept = cut.strip_suffix('…').unwrap();
    assert!(umlauts.starts_with(kept) && kept.len() > 100);
}
