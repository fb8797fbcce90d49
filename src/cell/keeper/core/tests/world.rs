//! All that a keeper has to do with, made of values: it does what the core decides, and looks at each effect whether it
//! may be.

use std::collections::VecDeque;

use super::*;
use crate::types::ResourceId;

mod effects;

/// A child that mounts.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) resource: ResourceId,
    pub(crate) killed: bool,
    /// What it has come to is told: it is yet to die.
    pub(crate) ended: bool,
}

/// The cell's PID 1 and what it has.
#[derive(Debug, Default)]
pub(crate) struct Init {
    pub(crate) connected: bool,
    pub(crate) ready: bool,
    pub(crate) killed: bool,
    /// Orders that it has not carried out, in their order.
    pub(crate) orders: VecDeque<(u64, Order)>,
    /// Where file systems are attached, or are to be.
    pub(crate) attached: BTreeSet<PathBuf>,
}

/// An agent that has asked for something.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) request: Request,
    pub(crate) asked: Instant,
    pub(crate) reply: Option<Reply>,
    /// It was hung up on, or has hung up.
    pub(crate) gone: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Instant,
    pub(crate) agents: BTreeMap<ClientId, Agent>,
    pub(crate) mounters: BTreeMap<MounterId, Child>,
    /// Mounts in no mount table: whose.
    pub(crate) mounts: BTreeMap<MounterId, ResourceId>,
    pub(crate) repairs: BTreeMap<ResourceId, Stage>,
    pub(crate) cell: Option<Init>,
    /// How many cells have ended.
    pub(crate) buried: usize,
    pub(crate) admitting: bool,
    pub(crate) groups: (bool, bool),
    /// Why limits are not in force.
    pub(crate) missing: Option<String>,
    /// What can't be started or given, until it is taken out.
    pub(crate) refuses: bool,
    /// Failures that Pacemaker was told of.
    pub(crate) reported: Vec<(String, &'static str)>,
    /// What it was to forget.
    pub(crate) cleaned: Vec<ResourceId>,
    /// Whether there is a sentinel.
    pub(crate) sentinel: bool,
    /// Who is watched by the sentinel.
    pub(crate) watched: Vec<ResourceId>,
    pub(crate) retired: bool,
    /// Whether nobody was a member any more when agents were told.
    is_last: bool,
    /// How many events come before the next turn, beside its own.
    pub(crate) more: usize,
    pub(crate) log: Vec<(Level, String)>,
    /// All that was done since the last look, in a word each.
    pub(crate) done: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            core: Core::new("alpha".into(), now),
            now,
            agents: BTreeMap::new(),
            mounters: BTreeMap::new(),
            mounts: BTreeMap::new(),
            repairs: BTreeMap::new(),
            cell: None,
            buried: 0,
            admitting: false,
            groups: (true, true),
            missing: None,
            refuses: false,
            reported: Vec::new(),
            cleaned: Vec::new(),
            sentinel: true,
            watched: Vec::new(),
            retired: false,
            is_last: false,
            more: 0,
            log: Vec::new(),
            done: Vec::new(),
        }
    }

    fn act(&mut self, decide: impl FnOnce(&mut Core, Instant, &mut Effects)) -> bool {
        let mut effects = Effects::default();
        decide(&mut self.core, self.now, &mut effects);
        let mut left: VecDeque<Effect> = effects.into_iter().collect();
        let mut told = false;
        while let Some(effect) = left.pop_front() {
            for event in self.execute(effect) {
                let mut effects = Effects::default();
                self.core.on(event, self.now, &mut effects);
                left.extend(effects);
                told = true;
            }
        }
        told
    }

    /// Something happens, and the keeper has its turn, unless more is to happen before it.
    pub(crate) fn tell(&mut self, event: Event) {
        let asked = match &event {
            Event::Request(client, request) => match &**request {
                Request::Status { resource } => Some((*client, resource.clone())),
                _ => None,
            },
            _ => None,
        };
        self.act(|core, now, effects| core.on(event, now, effects));
        if let Some((client, resource)) = asked {
            self.check_status(client, &resource);
        }
        match self.more {
            0 => self.turn(),
            _ => self.more -= 1,
        }
    }

    /// The rest of a turn of the keeper's loop.
    pub(crate) fn turn(&mut self) {
        self.more = 0;
        let (made, settled) = self.groups;
        let groups = Event::Groups {
            made,
            settled,
            missing: self.missing.clone(),
        };
        self.act(|core, now, effects| core.on(groups, now, effects));
        let mut rounds = 0;
        while self.act(Core::reconcile) {
            rounds += 1;
            assert!(rounds < 20, "it does not come to rest");
        }
        self.is_last = self.core.is_empty();
        self.act(Core::answer);
        if !self.hang_up() {
            self.check();
        }
    }

    /// An agent that was answered hangs up, which is a turn of the keeper's. Says whether there was one.
    fn hang_up(&mut self) -> bool {
        let mut agents = self.agents.iter_mut();
        let told = agents.find(|(_, agent)| agent.reply.is_some() && !agent.gone);
        let Some((client, agent)) = told else {
            return false;
        };
        agent.gone = true;
        let client = *client;
        self.tell(Event::ClientGone(client));
        true
    }

    /// Time passes, and the keeper has its turns at the times that it has asked for.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.core.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.turn();
            turns += 1;
            assert!(turns < 1000, "it is busy without end");
        }
        self.now = end;
        self.turn();
    }

    /// An agent asks for this.
    pub(crate) fn ask(&mut self, request: Request) -> ClientId {
        let client = ClientId(self.agents.len() as u64);
        let agent = Agent {
            request: request.clone(),
            asked: self.now,
            reply: None,
            gone: false,
        };
        self.agents.insert(client, agent);
        let limit = self.limit(&request);
        self.tell(Event::Request(client, Box::new(request)));
        if let Some((resource, kill_at)) = limit {
            let held = self.core.volumes.get(&resource);
            let held = held.and_then(|held| held.leaving);
            let servers = self.core.servers.as_ref();
            let servers = servers.filter(|servers| servers.member.resource == resource);
            let servers = servers.and_then(|servers| Some(servers.leaving?.1));
            assert!(held.or(servers).is_none_or(|at| at == kill_at));
        }
        client
    }

    /// If this begins a stop: of which resource, and when the cell is killed for it.
    fn limit(&self, request: &Request) -> Option<(ResourceId, Instant)> {
        let (resource, budget) = match request {
            Request::Detach { resource, budget } => {
                let held = self.core.volumes.get(resource)?;
                (held.leaving.is_none().then_some(resource)?, *budget)
            }
            Request::Unserve {
                resource, budget, ..
            } => {
                let servers = self.core.servers.as_ref()?;
                (servers.leaving.is_none().then_some(resource)?, *budget)
            }
            _ => return None,
        };
        // Half of the time of an action, of which the keeper was given two thirds.
        Some((resource.clone(), self.now + budget * 3 / 4))
    }

    pub(crate) fn reply(&self, client: ClientId) -> Option<&Reply> {
        self.agents[&client].reply.as_ref()
    }

    /// An agent asks for this, and is answered at once.
    pub(crate) fn answer_to(&mut self, request: Request) -> Reply {
        self.more = 0;
        let client = self.ask(request);
        self.reply(client).cloned().expect("an answer at once")
    }

    pub(crate) fn condition(&mut self, resource: &str) -> Condition {
        condition(&self.answer_to(status(resource))).clone()
    }

    /// What was done since it was asked last, but for what says nothing.
    pub(crate) fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    /// The child that mounts the file system of this resource and has not come to anything.
    pub(crate) fn mounter(&self, resource: &str) -> MounterId {
        let mut children = self.mounters.iter();
        let child = children.find(|(_, child)| child.resource == resource && !child.ended);
        *child.expect("a child that mounts").0
    }

    /// That child comes to this.
    pub(crate) fn mount_ends(&mut self, mounter: MounterId, outcome: Result<Mounted, String>) {
        let child = self.mounters.get_mut(&mounter).unwrap();
        child.ended = true;
        if matches!(outcome, Ok(Mounted::Done(_))) {
            self.mounts.insert(mounter, child.resource.clone());
        }
        self.tell(Event::MountEnded { mounter, outcome });
    }

    pub(crate) fn mounter_dies(&mut self, mounter: MounterId) {
        self.mounters.remove(&mounter);
        self.tell(Event::MounterDead(mounter));
    }

    /// That child comes to this and is reaped.
    pub(crate) fn mounted(&mut self, resource: &str, outcome: Mounted) {
        let mounter = self.mounter(resource);
        self.mount_ends(mounter, Ok(outcome));
        self.mounter_dies(mounter);
    }

    pub(crate) fn repair_ends(
        &mut self,
        resource: &str,
        outcome: Result<Decision, (Cause, String)>,
    ) {
        let stage = self.repairs.remove(resource).expect("a repair");
        self.tell(Event::RepairEnded {
            resource: resource.into(),
            stage,
            outcome,
        });
    }

    pub(crate) fn say(&mut self, event: protocol::Event) {
        if matches!(event, protocol::Event::Ready) {
            self.cell.as_mut().expect("a cell").ready = true;
        }
        self.tell(Event::Cell(event));
    }

    /// PID 1 builds the cell.
    pub(crate) fn build(&mut self) {
        self.say(protocol::Event::Separate);
        self.say(protocol::Event::Ready);
    }

    /// PID 1 has carried out the oldest order, or has not been able to.
    pub(crate) fn obey(
        &mut self,
        result: Result<Vec<crate::cell::refused::Refused>, String>,
    ) -> Order {
        let cell = self.cell.as_mut().expect("a cell");
        let (number, order) = cell.orders.pop_front().expect("an order");
        match (&order, &result) {
            (Order::Detach { directory, .. }, Ok(_)) | (Order::Attach { directory }, Err(_)) => {
                cell.attached.remove(directory);
            }
            _ => {}
        }
        self.say(protocol::Event::Done { number, result });
        order
    }

    /// PID 1 carries out all orders that it has and gets, and the cell lets in whom it is to.
    pub(crate) fn obey_all(&mut self) {
        loop {
            if self.admitting {
                self.admitted(Admission::Done);
            } else if self.cell.as_ref().is_some_and(|c| !c.orders.is_empty()) {
                self.obey(Ok(vec![]));
            } else {
                return;
            }
        }
    }

    pub(crate) fn admitted(&mut self, admission: Admission) {
        self.admitting = false;
        self.tell(Event::Admitted(admission));
    }

    pub(crate) fn cell_dies(&mut self) {
        assert!(self.cell.is_some());
        let before = self.buried;
        self.tell(Event::CellDead);
        assert_eq!(self.buried, before + 1);
    }

    /// The sentinel dies, if there is one and the keeper still looks after it.
    pub(crate) fn sentinel_dies(&mut self) {
        if self.sentinel && !self.retired {
            self.sentinel = false;
            self.watched.clear();
            self.tell(Event::SentinelDead);
        }
    }

    /// A file system is put in service.
    pub(crate) fn attach(&mut self, resource: &str) {
        let client = self.ask(attach(resource));
        self.mounted(resource, found(resource));
        if !self.cell.as_ref().expect("a cell").ready {
            self.build();
        }
        self.obey_all();
        let reply = self.reply(client).expect("an answer");
        assert_eq!(*condition(reply), Condition::Running);
    }
}
