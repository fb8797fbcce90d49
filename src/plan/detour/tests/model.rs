//! Three nodes, the network between them, the cluster's attributes, and a cluster that starts, stops and moves: what
//! may go wrong goes wrong at random, and when it is over, exactly one node answers for the VIP.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// How long everything may take to fall into place, once nothing goes wrong any more: the longest is what a VIP needs
/// that has lost its router.
const SETTLING: Duration = Duration::from_secs(150);
/// For how long it is looked whether that is all.
const WATCHED: Duration = Duration::from_secs(30);

/// Something that goes wrong, or is done.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The cluster moves the address to this node.
    Move(usize),
    /// The cluster moves the virtual server to this node, and has its address follow or not.
    MoveServer(usize, bool),
    /// The address is started on this node by hand, beside the one that the cluster knows.
    StartByHand(usize),
    /// The agent is killed while it starts the address.
    KillStart,
    /// portwatch of this node is started anew.
    Restart(usize),
    /// This node is fenced, and comes back.
    Fence(usize),
    /// The cluster forgets this node's attributes, for a while.
    Forget(usize),
    /// This node is not reached by others, or is again.
    Cut(usize, bool),
    /// The subnet with the clients is lost on this node, or is back.
    Lose(usize, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..NODES.len();
    prop_oneof![
        4 => node().prop_map(Act::Move),
        1 => (node(), any::<bool>()).prop_map(|(n, stays)| Act::MoveServer(n, stays)),
        2 => node().prop_map(Act::StartByHand),
        1 => Just(Act::KillStart),
        1 => node().prop_map(Act::Restart),
        1 => node().prop_map(Act::Fence),
        2 => node().prop_map(Act::Forget),
        2 => (node(), any::<bool>()).prop_map(|(n, on)| Act::Cut(n, on)),
        1 => (node(), any::<bool>()).prop_map(|(n, on)| Act::Lose(n, on)),
    ]
}

/// Something on its way.
#[derive(Debug, Clone)]
enum Message {
    /// An event for a node's portwatch.
    Event(Event),
    /// The node's portwatch sees that a record has changed.
    Look,
    /// The cluster takes note of an attribute of a node, as that is by then.
    Publish(Attribute),
    /// The cluster answers a node.
    Query(Attribute),
    /// The cluster says where a resource is.
    Locate(String),
    /// A node tells the cluster again what it has forgotten.
    PublishAll,
    /// The agent has done the rest of a start.
    Started(Record),
}

/// One of the nodes.
struct Member {
    core: Detours,
    saved: Saved,
    view: NodeView,
    records: BTreeMap<String, Record>,
    /// What it has published.
    wanted: BTreeMap<Attribute, String>,
    /// Whether others reach it.
    cut: bool,
    /// Whether the cluster has stopped the address here, and nobody started it since.
    stopped: bool,
    /// Counts its lives: what was on its way to an earlier one is lost.
    life: u32,
    /// Agents that wait for a path.
    asked: BTreeSet<Asker>,
}

struct World {
    now: Instant,
    members: Vec<Member>,
    attributes: BTreeMap<(Attribute, usize), String>,
    /// What is on its way, by when it arrives: to which life of which node.
    messages: BTreeMap<(Instant, u64), (usize, u32, Message)>,
    sent: u64,
    /// Where the cluster has the address and the virtual server.
    placed: usize,
    server: usize,
    /// Where somebody has started the address by hand.
    by_hand: Option<usize>,
    /// Whether things go wrong: messages are late or lost, locks taken, changes refused.
    wrong: bool,
    random: u64,
    asker: Asker,
    /// How often each node has queried for the cell.
    cell_queries: usize,
}

impl World {
    /// The virtual server and its address are on n1.
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let member = |name: &&str| {
            let view = view(name, &[]);
            Member {
                core: Detours::new(Saved::default(), view.clone(), now),
                saved: Saved::default(),
                view,
                records: BTreeMap::new(),
                wanted: BTreeMap::new(),
                cut: false,
                stopped: true,
                life: 0,
                asked: BTreeSet::new(),
            }
        };
        let mut world = Self {
            now,
            members: NODES.iter().map(member).collect(),
            attributes: BTreeMap::new(),
            messages: BTreeMap::new(),
            sent: 0,
            placed: 0,
            server: 0,
            by_hand: None,
            wrong: true,
            random: seed | 1,
            asker: 0,
            cell_queries: 0,
        };
        world.members[0].view.cells.insert("alpha".into());
        world.start(0);
        (0..NODES.len()).for_each(|n| world.look(n));
        world
    }

    /// A number below `limit`, of xorshift64.
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn is_unlucky(&mut self, percent: u64) -> bool {
        self.wrong && self.random(100) < percent
    }

    fn send(&mut self, to: usize, message: Message, at_most: u64) {
        let late = if self.wrong { at_most } else { at_most.min(20) };
        let at = self.now + Duration::from_millis(1 + self.random(late.max(1)));
        let life = self.members[to].life;
        self.sent += 1;
        self.messages.insert((at, self.sent), (to, life, message));
    }

    fn look(&mut self, n: usize) {
        let (records, view) = (
            self.members[n].records.clone(),
            self.members[n].view.clone(),
        );
        self.on(n, Event::Node { records, view });
    }

    fn on(&mut self, n: usize, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = Vec::new();
            let now = self.now;
            self.members[n].core.on(event, now, &mut effects);
            for effect in effects {
                events.extend(self.perform(n, effect));
            }
        }
    }

    fn perform(&mut self, n: usize, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Probe(probe) => {
                let to = NODES.iter().position(|node| address(node) == probe.target);
                let to = to.expect("a node is probed");
                let lost = self.members[to].cut || self.members[n].cut || self.is_unlucky(20);
                let reply = Reply {
                    link: probe.link,
                    ip: probe.target,
                    from: mac(NODES[to]),
                    to: probe.mac,
                };
                if !lost {
                    self.send(n, Message::Event(Event::Reply(reply)), 60);
                }
            }
            Effect::Query(attribute) => {
                self.cell_queries += usize::from(matches!(attribute, Attribute::Cell(_)));
                self.send(n, Message::Query(attribute), 400);
            }
            Effect::Publish(attribute, value) => {
                match &value {
                    Some(text) => drop(
                        self.members[n]
                            .wanted
                            .insert(attribute.clone(), text.clone()),
                    ),
                    None => drop(self.members[n].wanted.remove(&attribute)),
                }
                self.send(n, Message::Publish(attribute), 300);
            }
            Effect::Save(saved) => self.members[n].saved = saved,
            Effect::Reconcile(reconcile) => {
                let Reconcile { instance, change } = *reconcile;
                let outcome = self.reconcile(n, &instance, change);
                // It is often known at once, and told before anything else.
                let event = Event::Reconciled { instance, outcome };
                if !self.is_unlucky(20) {
                    return Some(event);
                }
                self.send(n, Message::Event(event), 50);
            }
            Effect::FindCell(vserver) => {
                let there = self.members[n].view.cells.contains(&vserver);
                let found = match there && !self.is_unlucky(20) {
                    true => Ok(()),
                    false => Err(format!("{vserver}'s cell has ended")),
                };
                self.send(n, Message::Event(Event::CellFound(vserver, found)), 100);
            }
            Effect::Locate(resource) => self.send(n, Message::Locate(resource), 500),
            Effect::Measure => return Some(Event::Traffic(BTreeMap::new())),
            Effect::Answer(asker, path) => {
                let known = self.members[n].asked.remove(&asker);
                assert!(known, "nobody has asked");
                self.answered(n, path);
            }
            Effect::ReleaseCells
            | Effect::CleanUp { .. }
            | Effect::Announce(_)
            | Effect::EndRouting(_)
            | Effect::Log(..) => {}
        }
        None
    }

    /// As the shell does it: only if the record is what it was.
    fn reconcile(&mut self, n: usize, instance: &str, change: Change) -> Outcome {
        if self.is_unlucky(20) {
            return Outcome::Busy;
        }
        if self.is_unlucky(5) {
            return Outcome::Failed("the kernel refuses".into());
        }
        let server = self.server;
        let member = &mut self.members[n];
        let now = member.records.get(instance);
        let is_other =
            |(name, record): (&String, &Record)| name != instance && record.spec.vip == vip();
        let alone = !member.records.iter().any(is_other);
        let after = match change {
            Change::Route { before, path } if now == Some(&before) && alone => {
                assert!(!member.stopped, "routed again although it was stopped");
                Some(record(Role::Router(path)))
            }
            Change::Follow { before, hop, .. } if now == before.as_ref() && alone => {
                assert_eq!(n, server, "followed where the cell is not");
                Some(record(Role::Detour(Some(hop))))
            }
            Change::GiveUp { before, why } if now == Some(&before) => {
                assert!(!member.stopped, "on record again although it was stopped");
                Some(record(Role::Stranded(why)))
            }
            Change::Clear { before, .. } | Change::Forget { before } if now == Some(&before) => {
                None
            }
            _ => return Outcome::Stale,
        };
        if self.by_hand == Some(n) && after.is_none() {
            self.by_hand = None;
        }
        self.write(n, instance, after);
        Outcome::Done
    }

    /// The node's portwatch sees a change in a moment.
    fn write(&mut self, n: usize, name: &str, record: Option<Record>) {
        match record {
            Some(record) => drop(self.members[n].records.insert(name.to_owned(), record)),
            None => drop(self.members[n].records.remove(name)),
        }
        self.send(n, Message::Look, 1);
    }

    /// The vip agent's start.
    fn start(&mut self, n: usize) {
        self.members[n].stopped = false;
        if self.server == n {
            let detour = crate::plan::vip::record::detour_name(vip());
            self.write(n, RESOURCE, Some(record(Role::Home)));
            self.write(n, &detour, None);
            return;
        }
        self.asker += 1;
        let asker = self.asker;
        self.members[n].asked.insert(asker);
        self.on(
            n,
            Event::PathWanted {
                asker,
                vserver: "alpha".into(),
                vip: vip(),
            },
        );
    }

    /// It goes on when it knows the path.
    fn answered(&mut self, n: usize, path: Result<TransitPath, String>) {
        if self.members[n].stopped || self.server == n {
            return;
        }
        match path {
            Ok(path) => {
                let done = record(Role::Router(path));
                let begun = Record {
                    serving: false,
                    ..done.clone()
                };
                self.write(n, RESOURCE, Some(begun));
                self.send(n, Message::Started(done), 100);
            }
            Err(why) => self.write(n, RESOURCE, Some(record(Role::Stranded(why)))),
        }
    }

    /// The vip agent's stop: what connections need is handed over to portwatch.
    fn stop(&mut self, n: usize) {
        self.members[n].stopped = true;
        let Some(before) = self.members[n].records.get(RESOURCE).cloned() else {
            return;
        };
        let kept = |role| Record {
            serving: false,
            ..Record::new(&before.spec, role)
        };
        match &before.role {
            Role::Router(path) | Role::Ending(path) => {
                self.write(n, RESOURCE, Some(kept(Role::Ending(path.clone()))));
            }
            Role::Home if self.server == n => {
                let detour = crate::plan::vip::record::detour_name(vip());
                self.write(n, &detour, Some(kept(Role::Detour(None))));
                self.write(n, RESOURCE, None);
            }
            _ => self.write(n, RESOURCE, None),
        }
    }

    fn place(&mut self, n: usize) {
        if self.placed != n {
            self.stop(self.placed);
        }
        self.placed = n;
        if self.by_hand == Some(n) {
            self.by_hand = None;
        }
        self.start(n);
    }

    fn act(&mut self, act: Act) {
        match act {
            // Nobody but another router would tell the one that was started by hand.
            Act::Move(n) if self.by_hand.is_none() || n != self.server => self.place(n),
            Act::MoveServer(n, stays) if self.by_hand.is_none() => {
                let placed = self.placed;
                if n != self.server {
                    self.stop(placed);
                    self.members[self.server].view.cells.clear();
                    self.look(self.server);
                    self.server = n;
                    self.members[n].view.cells.insert("alpha".into());
                    self.look(n);
                    self.place(if stays { placed } else { n });
                }
            }
            Act::StartByHand(n) => {
                let routes = self.placed != self.server && self.by_hand.is_none();
                if routes && n != self.placed && n != self.server {
                    self.by_hand = Some(n);
                    self.start(n);
                }
            }
            Act::KillStart => {
                let placed = self.placed;
                self.messages
                    .retain(|_, (to, _, m)| *to != placed || !matches!(m, Message::Started(_)));
            }
            Act::Restart(n) => self.restart(n),
            Act::Fence(n) if n != self.server => self.fence(n),
            Act::Forget(n) => {
                self.attributes.retain(|(_, of), _| *of != n);
                self.send(n, Message::PublishAll, 5000);
            }
            Act::Cut(n, cut) => self.members[n].cut = cut,
            Act::Lose(n, lost) => {
                self.members[n].view.lost_subnet = lost;
                self.look(n);
            }
            Act::Move(_) | Act::MoveServer(..) | Act::Fence(_) => {}
        }
    }

    fn restart(&mut self, n: usize) {
        let now = self.now;
        let member = &mut self.members[n];
        member.life += 1;
        // The agents see that it is gone, and fail: the cluster starts the address again.
        let failed = !std::mem::take(&mut member.asked).is_empty();
        member.core = Detours::new(member.saved.clone(), member.view.clone(), now);
        // The publisher has told the cluster all that it was told by then, or the next one does.
        self.send(n, Message::PublishAll, 100);
        self.look(n);
        if failed && self.placed == n {
            self.start(n);
        }
    }

    /// All that it has is gone with it; the cluster has the address elsewhere, on the virtual server's node.
    fn fence(&mut self, n: usize) {
        let member = &mut self.members[n];
        member.records.clear();
        member.saved = Saved::default();
        member.wanted.clear();
        member.asked.clear();
        member.stopped = true;
        if self.by_hand == Some(n) {
            self.by_hand = None;
        }
        self.attributes.retain(|(_, of), _| *of != n);
        self.restart(n);
        if self.placed == n && self.by_hand.is_none() {
            self.placed = self.server;
            self.start(self.server);
        } else if self.placed == n {
            self.start(n);
        }
    }

    fn deliver(&mut self, n: usize, message: Message) {
        match message {
            Message::Event(event) => self.on(n, event),
            Message::Look => self.look(n),
            Message::Publish(attribute) => match self.members[n].wanted.get(&attribute).cloned() {
                Some(text) => drop(self.attributes.insert((attribute, n), text)),
                None => drop(self.attributes.remove(&(attribute, n))),
            },
            Message::PublishAll => {
                let wanted = self.members[n].wanted.clone();
                self.attributes.retain(|(_, of), _| *of != n);
                let all = wanted.into_iter().map(|(name, text)| ((name, n), text));
                self.attributes.extend(all);
            }
            Message::Query(attribute) => {
                // As the daemon has it: a node's own value matters for cells only.
                let own = matches!(attribute, Attribute::Cell(_));
                let all = self.attributes.iter();
                let all = all.filter(|((name, of), _)| *name == attribute && (own || *of != n));
                let values = all.map(|((_, of), text)| (NODES[*of].to_owned(), text.clone()));
                let event = Event::Attribute(attribute.clone(), values.collect());
                self.on(n, event);
            }
            Message::Locate(resource) => {
                let nodes = vec![NODES[self.placed].to_owned()];
                self.on(n, Event::Located { resource, nodes });
            }
            Message::Started(record) => {
                if !self.members[n].stopped && self.server != n {
                    self.write(n, RESOURCE, Some(record));
                }
            }
        }
        self.on(n, Event::Tick);
    }

    /// Lets time pass, with all that happens meanwhile.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let message = self.messages.keys().next().map(|(at, _)| *at);
            let cores = self.members.iter().filter_map(|member| member.core.next());
            let Some(next) = cores.chain(message).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = next.max(self.now);
            let due = self
                .messages
                .first_entry()
                .filter(|e| e.key().0 <= self.now);
            match due.map(|entry| entry.remove()) {
                Some((n, life, message)) if self.members[n].life == life => {
                    self.deliver(n, message);
                }
                Some(_) => {}
                None => {
                    for n in 0..self.members.len() {
                        self.on(n, Event::Tick);
                    }
                    let next = self.members.iter().filter_map(|member| member.core.next());
                    assert!(next.min().is_none_or(|at| at > self.now), "it spins");
                }
            }
        }
        self.now = end;
    }

    /// Nothing goes wrong any more, and the cluster has looked that the address is started where it has it.
    fn calm_down(&mut self) {
        self.wrong = false;
        for n in 0..self.members.len() {
            self.members[n].cut = false;
            self.look(n);
        }
        self.pass(Duration::from_secs(10));
        let placed = self.placed;
        let serves = |record: &Record| {
            record.serving && !matches!(record.role, Role::Ending(_) | Role::Detour(_))
        };
        if !self.members[placed]
            .records
            .get(RESOURCE)
            .is_some_and(serves)
        {
            self.stop(placed);
            self.start(placed);
        }
        self.pass(SETTLING);
    }

    /// The nodes that answer for the VIP.
    fn answering(&self) -> Vec<usize> {
        let answers =
            |record: &Record| record.serving && matches!(record.role, Role::Home | Role::Router(_));
        let all = self.members.iter().enumerate();
        all.filter(|(_, member)| member.records.values().any(answers))
            .map(|(n, _)| n)
            .collect()
    }

    fn check(&mut self) {
        assert_eq!(self.answering(), [self.placed], "who answers");
        for (n, member) in self.members.iter().enumerate() {
            let roles: Vec<&Role> = member.records.values().map(|r| &r.role).collect();
            let claims = self.attributes.keys();
            let claims =
                claims.filter(|(name, of)| matches!(name, Attribute::Router(_)) && *of == n);
            let routes = n == self.placed && n != self.server;
            assert_eq!(claims.count(), usize::from(routes), "claims of {n}");
            match &roles[..] {
                [Role::Home] => assert!(n == self.placed && n == self.server),
                [Role::Router(path)] => assert!(routes && path.node == NODES[self.server]),
                [Role::Detour(Some(hop))] => {
                    assert!(n == self.server && hop.node == NODES[self.placed]);
                }
                [] => assert!(n != self.placed && n != self.server || n == self.server),
                _ => panic!("{n} has {roles:?}"),
            }
            if n == self.server && n != self.placed {
                assert_eq!(roles.len(), 1, "its cell's packets have no way");
            }
            let cells = self.attributes.contains_key(&(cell(), n));
            assert_eq!(cells, n == self.server, "the cell at {n}");
            assert!(member.asked.is_empty(), "an agent waits for ever");
            let nopath = Attribute::NoPath("alpha".into());
            assert!(
                !self.attributes.contains_key(&(nopath, n)),
                "no path at {n}"
            );
        }
        // No search goes on: only the router looks, and calmly.
        self.cell_queries = 0;
        self.pass(WATCHED);
        let routers = usize::from(self.placed != self.server);
        let limit = routers * 7;
        assert!(self.cell_queries <= limit, "{} queries", self.cell_queries);
        assert_eq!(self.answering(), [self.placed], "who answers later");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_one_node_answers_in_the_end(
        seed in any::<u64>(),
        acts in prop::collection::vec((0..4000_u64, act()), 0..16),
    ) {
        let mut world = World::new(seed);
        world.pass(Duration::from_secs(1));
        for (pause, act) in acts {
            world.act(act);
            world.pass(Duration::from_millis(pause));
        }
        world.calm_down();
        world.check();
    }
}
