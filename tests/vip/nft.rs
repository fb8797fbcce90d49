//! The nftables tables against the kernel, in namespaces of their own, checked with `nft` itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::namespace::Namespace;
use crate::network::{PATIENCE, port};
use berth::sys::nft::{CellFilter, Element, Passage, Socket, Standing};
use berth::types::{Family, Mac};
use lab::{holds, wait_for};

/// A namespace with the tables in it.
fn node() -> (Namespace, Socket) {
    let node = Namespace::new();
    let mut socket = Socket::in_netns(&node).unwrap();
    create(&node, &mut socket);
    (node, socket)
}

fn create(node: &Namespace, socket: &mut Socket) {
    let deadline = Instant::now() + Duration::from_secs(20);
    node.inside(|| socket.create(true, deadline)).unwrap();
}

fn elements() -> Vec<Element> {
    let mut all = vec![
        Element::Port(port("a0")),
        Element::Cell(port("b-alpha")),
        source("10.1.0.50"),
    ];
    for text in ["10.1.0.50", "2001:db8::50"] {
        let ip: IpAddr = text.parse().unwrap();
        all.extend([
            Element::ClosedPort(Family::of(&ip), port("a0")),
            Element::Host(ip),
            Element::Vip(ip),
            Element::CellSource(port("b-alpha"), ip),
            Element::VipTarget(ip, port("b-alpha")),
            Element::NotFrom(port("c0"), ip),
            Element::RemoteSource(port("c0"), ip, Mac([2, 0, 0, 0, 0, 0xab])),
        ]);
    }
    all
}

fn source(vip: &str) -> Element {
    Element::Source {
        port: port("a0"),
        subnet: "10.1.0.0/23".parse().unwrap(),
        vip: vip.parse().unwrap(),
    }
}

#[test]
#[ignore = "needs root"]
fn elements_go_in_and_come_out_unchanged() {
    let (node, mut socket) = node();
    let all = elements();
    for _ in 0..2 {
        socket.change(&[], &all).unwrap();
    }
    assert_eq!(
        socket.elements(&Family::BOTH).unwrap(),
        all.iter().cloned().collect()
    );
    let shown = node.sh("nft list ruleset");
    for words in [
        "elements = { 10.1.0.50 . \"b-alpha\" counter packets 0 bytes 0 }",
        "elements = { \"b-alpha\" . 2001:db8::50 counter packets 0 bytes 0 }",
        "elements = { \"a0\" . 10.1.0.0/23 : 10.1.0.50 }",
        "elements = { \"c0\" . 10.1.0.50 }",
        "elements = { \"c0\" . 2001:db8::50 . 02:00:00:00:00:ab counter packets 0 bytes 0 }",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    // In one transaction the old value goes and the new one comes.
    socket
        .change(&[source("10.1.0.50")], &[source("10.1.0.51")])
        .unwrap();
    assert!(
        socket
            .elements(&Family::BOTH)
            .unwrap()
            .contains(&source("10.1.0.51"))
    );
    let mut all: Vec<Element> = all;
    all.push(Element::Vip("10.9.9.9".parse().unwrap()));
    all[2] = source("10.1.0.51");
    for _ in 0..2 {
        socket.change(&all, &[]).unwrap();
        assert!(socket.elements(&Family::BOTH).unwrap().is_empty());
    }
}

#[test]
#[ignore = "needs root"]
fn a_thousand_elements_fit_into_one_transaction() {
    let (_node, mut socket) = node();
    let vips: Vec<Element> = (0..1000u32)
        .map(|n| Element::Vip(IpAddr::from((0x0a01_0000 + n).to_be_bytes())))
        .collect();
    socket.change(&[], &vips).unwrap();
    assert_eq!(socket.elements(&Family::BOTH).unwrap().len(), 1000);
    socket.change(&vips, &[]).unwrap();
    assert!(socket.elements(&Family::BOTH).unwrap().is_empty());
}

#[test]
#[ignore = "needs root"]
fn damage_is_seen_and_mended_without_losing_elements() {
    let (node, mut socket) = node();
    socket.change(&[], &elements()).unwrap();
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
    node.sh("nft flush chain inet berth forward");
    assert_eq!(socket.standing().unwrap(), Standing::Damaged);
    create(&node, &mut socket);
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
    assert_eq!(
        socket.elements(&Family::BOTH).unwrap().len(),
        elements().len()
    );
    node.sh("nft flush ruleset");
    assert_eq!(socket.standing().unwrap(), Standing::Absent);
    assert!(socket.elements(&Family::BOTH).unwrap().is_empty());
    socket.change(&elements(), &[]).unwrap();
    let error = socket.change(&[], &elements()).unwrap_err().to_string();
    assert!(error.starts_with("add nft element ports a0: "), "{error}");
}

#[test]
#[ignore = "needs root"]
fn rules_that_somebody_has_changed_are_no_longer_whole() {
    let (node, mut socket) = node();
    let change = |script: &str| node.sh(&format!("set -e\n{script}"));
    let first = "$(nft -a list chain inet berth forward4 | sed -n 's/.*handle //p' | sed -n 2p)";
    for script in [
        format!("nft replace rule inet berth forward4 handle {first} accept"),
        "handle=$(nft -a list chain arp berth out | sed -n 's/.*source.*handle //p')\n\
             comment=$(nft list chain arp berth out | sed -n 's/.*comment \"\\(.*\\)\"/\\1/p')\n\
             nft replace rule arp berth out handle $handle accept comment \"\\\"$comment\\\"\""
            .to_owned(),
        "nft 'chain inet berth input { policy drop; }'".to_owned(),
        "nft add rule inet berth into6 accept\n\
         nft delete rule inet berth into4 handle \
         $(nft -a list chain inet berth into4 | sed -n 's/.*handle //p' | sed -n 2p)"
            .to_owned(),
    ] {
        assert_eq!(socket.standing().unwrap(), Standing::Whole);
        change(&script);
        assert_eq!(socket.standing().unwrap(), Standing::Damaged, "{script}");
        create(&node, &mut socket);
    }
    // Elements come and go without a trace in it.
    socket.change(&[], &elements()).unwrap();
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
    socket.change(&elements(), &[]).unwrap();
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
    // One table made anew is as it was, though the kernel lists it after the other.
    let ruleset = node.sh("nft list table inet berth");
    node.sh("nft delete table inet berth");
    create(&node, &mut socket);
    assert_eq!(node.sh("nft list table inet berth"), ruleset);
    // Whoever makes them is ended before they are sealed.
    let seal = "nft list chains inet | sed -n 's/.*chain \\(seal_[0-9a-f]*\\) .*/\\1/p'";
    assert_eq!(node.sh(seal).lines().count(), 1, "{}", node.sh(seal));
    node.sh(&format!("nft delete chain inet berth $({seal})"));
    assert_eq!(socket.standing().unwrap(), Standing::Outdated);
    create(&node, &mut socket);
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
}

#[test]
#[ignore = "needs root"]
fn chains_that_others_have_put_into_the_tables_go_when_these_are_made_anew() {
    let (node, mut socket) = node();
    socket.change(&[], &elements()).unwrap();
    let own = node.sh("nft list chains");
    for chains in [
        "chain inet berth mine { type filter hook forward priority -1; policy drop; }",
        "chain inet berth one; add chain inet berth two; add rule inet berth one jump two; \
         add chain inet berth three { type filter hook input priority 5; }; add rule inet berth three jump one",
        "chain arp berth mine { type filter hook input priority 0; policy drop; }; \
         add rule arp berth mine accept",
    ] {
        node.sh(&format!("nft 'add {chains}'"));
        assert_eq!(socket.standing().unwrap(), Standing::Damaged, "{chains}");
        create(&node, &mut socket);
        assert_eq!(socket.standing().unwrap(), Standing::Whole, "{chains}");
        assert_eq!(node.sh("nft list chains"), own);
    }
    let left = socket.elements(&Family::BOTH).unwrap().len();
    assert_eq!(left, elements().len());
    // What can't go is empty, and doesn't keep the tables from being made.
    node.sh("nft 'add chain inet berth theirs; add rule inet berth theirs drop; \
             add map inet berth leads { type inet_service : verdict; elements = { 25 : jump theirs }; }'");
    create(&node, &mut socket);
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
    assert!(!node.sh("nft list chain inet berth theirs").contains("drop"));
}

#[test]
#[ignore = "needs root"]
fn rules_of_another_version_serve_until_they_are_made_anew() {
    let (node, mut socket) = node();
    socket.change(&[], &elements()).unwrap();
    let rule = "arp operation request arp saddr ip set oifname . arp daddr ip map @source";
    for (comment, more, standing) in [
        ("", "", Standing::Outdated),
        (
            "comment \"rules of berth 44 1 00000000\"",
            "",
            Standing::Outdated,
        ),
        (
            "comment \"rules of berth 46 1 00000000\"",
            "add rule inet berth input accept; add rule inet berth input accept",
            Standing::Outdated,
        ),
        (
            "comment \"rules of berth 50 1 00000000\"",
            "",
            Standing::Damaged,
        ),
        ("comment \"rules of berth\"", "", Standing::Outdated),
    ] {
        node.sh(&format!(
            "nft 'flush chain arp berth out; add rule arp berth out {rule} {comment}; {more}'"
        ));
        assert_eq!(socket.standing().unwrap(), standing, "{comment}");
        create(&node, &mut socket);
        assert_eq!(socket.standing().unwrap(), Standing::Whole);
        let left = socket.elements(&Family::BOTH).unwrap().len();
        assert_eq!(left, elements().len());
    }
}

/// What a set counts and holds, line by line as nft tells it.
fn held(node: &Namespace, set: &str) -> Vec<String> {
    let text = node.sh(&format!("nft list set inet berth {set}"));
    let lines = text.lines().skip_while(|line| !line.contains("elements"));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// Between two versions either may make the tables anew over the other's: the new one after an upgrade, the old one
/// while its daemon still runs, or after a downgrade.
#[test]
#[ignore = "needs root"]
fn each_version_finds_its_elements_in_the_tables_that_the_other_has_made() {
    let node = Namespace::new();
    let before = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vip/tables_before.nft");
    let load = format!("nft -f {before}");
    node.sh(&load);
    let mut socket = Socket::in_netns(&node).unwrap();
    assert_eq!(socket.standing().unwrap(), Standing::Outdated);
    let all: BTreeSet<Element> = elements().into_iter().collect();
    socket.change(&[], &elements()).unwrap();
    // What was counted tells an element that stayed from one that was taken away and added anew.
    node.sh(
        "nft 'delete element inet berth to4 { 10.1.0.50 . \"b-alpha\" }; \
         add element inet berth to4 { 10.1.0.50 . \"b-alpha\" counter packets 7 bytes 700 }'",
    );
    let counted = held(&node, "to4");
    assert!(counted.concat().contains("packets 7 bytes 700"));
    for _ in 0..2 {
        create(&node, &mut socket);
        assert_eq!(socket.standing().unwrap(), Standing::Whole);
        assert_eq!(socket.elements(&Family::BOTH).unwrap(), all);
        assert_eq!(held(&node, "to4"), counted);
        node.sh(&load);
        assert_eq!(socket.standing().unwrap(), Standing::Outdated);
        assert_eq!(socket.elements(&Family::BOTH).unwrap(), all);
        assert_eq!(held(&node, "to4"), counted);
    }
}

#[test]
#[ignore = "needs root"]
fn every_set_says_what_it_is() {
    let (node, _socket) = node();
    let shown = node.sh("nft list ruleset");
    let mut lines = shown.lines().map(str::trim);
    let mut sets = 0;
    while let Some(name) = lines.find(|line| line.starts_with("set ") || line.starts_with("map ")) {
        let mut inside = lines.by_ref().take_while(|line| *line != "}");
        assert!(inside.any(|line| line.starts_with("comment ")), "{name}");
        sets += 1;
    }
    assert_eq!(sets, 17);
}

#[test]
#[ignore = "needs root"]
fn deleting_the_tables_leaves_those_of_others() {
    let (node, mut socket) = node();
    node.sh("nft add table inet theirs");
    for _ in 0..2 {
        socket.delete().unwrap();
        assert_eq!(socket.standing().unwrap(), Standing::Absent);
    }
    assert_eq!(node.sh("nft list tables").trim(), "table inet theirs");
}

/// The processes whose parent this one is that are called so, the dead included.
fn children(name: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let is_ours = |status: &String| {
        let says = |key: &str, value: &str| {
            let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
            lines.any(|pair| pair == (key, value))
        };
        says("PPid", &own) && says("Name", name)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let statuses = all.filter_map(|p| fs::read_to_string(p.path().join("status")).ok());
    statuses.filter(is_ours).collect()
}

/// The daemon that watches ports closes one for every detour that ends.
#[test]
#[ignore = "needs root"]
fn closing_aside_leaves_no_child_behind() {
    // A child has the name of the thread that it was made by.
    rustix::thread::set_name(c"nft-aside").unwrap();
    let (_node, mut socket) = node();
    socket.change(&[], &elements()).unwrap();
    for _ in 0..3 {
        socket.close_aside();
        socket = Socket::new().unwrap();
    }
    assert_eq!(children("nft-aside"), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn each_change_makes_another_generation_and_looking_makes_none() {
    let (node, mut socket) = node();
    let mut seen = vec![];
    let mut next = |socket: &mut Socket, changed: &str| {
        let now = socket.generation().unwrap();
        let now = now.expect("this kernel tells namespaces apart");
        assert_eq!(socket.standing().unwrap(), socket.standing().unwrap());
        socket.elements(&Family::BOTH).unwrap();
        assert_eq!(socket.generation().unwrap().as_ref(), Some(&now));
        assert!(!seen.contains(&now), "{changed}: {now} after {seen:?}");
        seen.push(now);
    };
    next(&mut socket, "created");
    socket.change(&[], &elements()).unwrap();
    next(&mut socket, "elements");
    for change in [
        "add table ip theirs",
        "add chain ip theirs forward { type filter hook forward priority 0; policy drop; }",
        "add rule inet berth input accept",
        "flush chain inet berth forward",
        "flush ruleset",
    ] {
        node.sh(&format!("nft '{change}'"));
        next(&mut socket, change);
    }
    // The same number of changes elsewhere is not the same.
    let (_other, mut socket) = self::node();
    next(&mut socket, "another namespace");
}

#[test]
#[ignore = "needs root"]
fn a_cells_filter_is_its_makers_alone_and_no_firewall_of_others() {
    let (node, mut socket) = node();
    let filter = node.inside(|| CellFilter::new("alpha", "b-alpha")).unwrap();
    assert!(filter.is_owned());
    let text = node.sh("nft list table inet berth-cell-alpha");
    for part in [
        "flags owner",
        "iifname != \"b-alpha\" accept",
        "fib saddr . iif oif",
        "icmpv6 type packet-too-big accept",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Another one may be made while the first is still there, such as by the next keeper.
    let next = node.inside(|| CellFilter::new("alpha", "b-alpha")).unwrap();
    assert_eq!(
        node.sh("nft list tables | grep -c berth-cell-alpha").trim(),
        "2"
    );
    assert_eq!(socket.standing().unwrap(), Standing::Whole);
    let passage = Passage {
        family: Family::V4,
        port: ("a0", 0),
        inward: ("b-alpha", 0),
    };
    assert_eq!(socket.barriers(&[passage]).unwrap(), []);
    node.sh("nft flush ruleset");
    assert_eq!(socket.standing().unwrap(), Standing::Absent);
    assert_eq!(
        node.sh("nft list tables | grep -c berth-cell-alpha").trim(),
        "2"
    );
    let begun = Instant::now();
    drop((filter, next));
    println!("two filters ended in {:?}", begun.elapsed());
    // What another test starts at this moment has a copy of each descriptor until it executes its program.
    wait_for("the end of the filters", PATIENCE, || {
        let left = node.sh("nft list tables");
        holds(left.is_empty(), left)
    })
    .unwrap();
    // What somebody has made of this name is no obstacle.
    node.sh("nft add table inet berth-cell-alpha");
    let filter = node.inside(|| CellFilter::new("alpha", "b-alpha"));
    assert!(filter.unwrap().is_owned());
}
