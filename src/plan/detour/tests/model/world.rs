//! The nodes, what is on its way between them, and what may happen to it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::plan::neighbour::Reply;

/// Something on its way.
#[derive(Debug, Clone)]
pub(crate) enum Message {
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
pub(crate) struct Member {
    pub(crate) core: Detours,
    pub(crate) saved: Saved,
    pub(crate) view: NodeView,
    pub(crate) records: BTreeMap<String, Record>,
    /// What it has published.
    pub(crate) wanted: BTreeMap<Attribute, String>,
    /// Whether others reach it.
    pub(crate) cut: bool,
    /// Whether the cluster has stopped the address here, and nobody started it since.
    pub(crate) stopped: bool,
    /// Counts its lives: what was on its way to an earlier one is lost.
    pub(crate) life: u32,
    /// Agents that wait for a path.
    pub(crate) asked: BTreeSet<Asker>,
}

/// All of it.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) members: Vec<Member>,
    pub(crate) attributes: BTreeMap<(Attribute, usize), String>,
    /// What is on its way, by when it arrives: to which life of which node.
    pub(crate) messages: BTreeMap<(Instant, u64), (usize, u32, Message)>,
    pub(crate) sent: u64,
    /// Where the cluster has the address and the virtual server.
    pub(crate) placed: usize,
    pub(crate) server: usize,
    /// Where somebody has started the address by hand.
    pub(crate) by_hand: Option<usize>,
    /// Whether things go wrong: messages are late or lost, locks taken, changes refused.
    pub(crate) wrong: bool,
    pub(crate) random: u64,
    pub(crate) asker: Asker,
    /// What has come for the VIP whose routing ends, in bytes.
    pub(crate) bytes: u64,
    /// How often each node has queried for the cell.
    pub(crate) cell_queries: usize,
}

impl World {
    /// The virtual server and its address are on n1.
    pub(crate) fn new(seed: u64) -> Self {
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
            bytes: 0,
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

    pub(crate) fn send(&mut self, to: usize, message: Message, at_most: u64) {
        let late = if self.wrong { at_most } else { at_most.min(20) };
        let at = self.now + Duration::from_millis(1 + self.random(late.max(1)));
        let life = self.members[to].life;
        self.sent += 1;
        self.messages.insert((at, self.sent), (to, life, message));
    }

    pub(crate) fn look(&mut self, n: usize) {
        let (records, view) = (
            self.members[n].records.clone(),
            self.members[n].view.clone(),
        );
        self.on(n, Event::Node { records, view });
    }

    pub(crate) fn on(&mut self, n: usize, event: Event) {
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
            Effect::Measure => {
                // Clients go on for a while.
                self.bytes += u64::from(self.is_unlucky(90));
                return Some(Event::Traffic([(vip(), self.bytes)].into()));
            }
            Effect::Answer(asker, path) => {
                let known = self.members[n].asked.remove(&asker);
                assert!(known, "nobody has asked");
                self.answered(n, path);
            }
            Effect::ReleaseCell(_)
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
        let withdraws = now.is_some_and(|record| matches!(record.role, Role::Router(_)));
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
        if self.by_hand == Some(n) && after.is_none() && withdraws {
            self.by_hand = None;
        }
        self.write(n, instance, after);
        Outcome::Done
    }

    /// The node's portwatch sees a change in a moment.
    pub(crate) fn write(&mut self, n: usize, name: &str, record: Option<Record>) {
        match record {
            Some(record) => drop(self.members[n].records.insert(name.to_owned(), record)),
            None => drop(self.members[n].records.remove(name)),
        }
        self.send(n, Message::Look, 1);
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
                let values = all.map(|((_, of), text)| (NODES[*of].into(), text.clone()));
                let event = Event::Attribute(attribute.clone(), values.collect());
                self.on(n, event);
            }
            Message::Locate(resource) => {
                let nodes = vec![NODES[self.placed].into()];
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

    /// Whether a message still arrives: agents live on when portwatch is started anew.
    fn is_for(&self, n: usize, life: u32, message: &Message) -> bool {
        self.members[n].life == life || matches!(message, Message::Started(_))
    }

    /// Lets time pass, with all that happens meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) {
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
                Some((n, life, message)) if self.is_for(n, life, &message) => {
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
}
