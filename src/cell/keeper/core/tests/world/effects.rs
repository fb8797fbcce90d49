//! What the world does for the keeper, and what it does not let pass.

use super::*;

impl World {
    /// Does this, if it may be; what comes of it at once.
    pub(crate) fn execute(&mut self, effect: Effect) -> Vec<Event> {
        self.note(&effect);
        match effect {
            Effect::Mount {
                mounter, member, ..
            } => {
                if self.refuses {
                    let why = "no room".to_owned();
                    return vec![Event::NoMounter { mounter, why }];
                }
                let child = Child {
                    resource: member.resource,
                    killed: false,
                    ended: false,
                };
                assert!(self.mounters.insert(mounter, child).is_none());
            }
            Effect::KillMounter(mounter) => {
                if let Some(child) = self.mounters.get_mut(&mounter) {
                    child.killed = true;
                }
            }
            Effect::DropMount(mounter) => {
                let mount = self.mounts.remove(&mounter);
                assert!(mount.is_some(), "there is no such mount");
            }
            Effect::Repair(repair) => {
                let resource = repair.resource;
                if self.refuses {
                    let (cause, why) = (Cause::Missing, "not installed".to_owned());
                    return vec![Event::NoRepair {
                        resource,
                        cause,
                        why,
                    }];
                }
                let before = self.repairs.insert(resource.clone(), repair.stage);
                assert!(before.is_none(), "two repairs of {resource}");
                let progress = RepairProgress {
                    what: "saving".to_owned(),
                    ..RepairProgress::new(repair.stage, None)
                };
                return vec![Event::RepairGoesOn { resource, progress }];
            }
            Effect::CutOff(resource) => {
                let repair = self.repairs.remove(&resource);
                assert!(repair.is_some(), "there is no such repair");
            }
            Effect::SpawnCell => {
                assert!(self.cell.is_none(), "a second cell");
                if self.refuses {
                    return vec![Event::NoCell("no room".to_owned())];
                }
                self.cell = Some(Init::default());
                return vec![Event::CellSpawned(77)];
            }
            Effect::Connect => {
                let cell = self.cell.as_mut().expect("a cell");
                if self.refuses {
                    return vec![Event::NotConnected("no room".to_owned())];
                }
                cell.connected = true;
                return vec![Event::CellConnected];
            }
            Effect::Order {
                number,
                order,
                mount,
            } => return self.give(number, order, mount),
            Effect::KillCell => self.cell.as_mut().expect("a cell").killed = true,
            Effect::BuryCell => {
                self.cell = None;
                self.admitting = false;
                self.buried += 1;
            }
            Effect::Admit { .. } => {
                assert!(!self.admitting, "two changes at a time");
                if self.refuses {
                    let failed = Admission::Failed(Cause::Failed, "no room".to_owned());
                    return vec![Event::Admitted(failed)];
                }
                self.admitting = true;
            }
            Effect::Look(_) => return vec![Event::Own(Default::default())],
            Effect::Reply(client, reply) => self.take_reply(client, reply),
            Effect::HangUp(client) => {
                let agent = self.agents.get_mut(&client).expect("an agent");
                assert!(!agent.gone && agent.reply.is_none());
                agent.gone = true;
            }
            Effect::Report { members, why } => {
                let resources = members
                    .into_iter()
                    .map(|member| (member.resource.into(), why));
                self.reported.extend(resources);
            }
            Effect::CleanUp(member) | Effect::CleanUpLater(member) => {
                self.cleaned.push(member.resource);
            }
            Effect::SpawnSentinel => {
                assert!(!self.sentinel, "a second sentinel");
                if self.refuses {
                    return vec![Event::NoSentinel("no room".to_owned())];
                }
                self.sentinel = true;
            }
            Effect::Watch(members) if self.sentinel => {
                self.watched = members.into_iter().map(|m| m.resource).collect();
            }
            Effect::Watch(_) => {}
            Effect::Retire => {
                assert!(!self.retired, "it retires once");
                self.retired = true;
            }
            Effect::Log(level, line) => self.log.push((level, line)),
            Effect::ShowNames { .. } | Effect::Limit(_) | Effect::Announce { .. } => {}
        }
        vec![]
    }

    fn give(&mut self, number: u64, order: Order, mount: Option<MounterId>) -> Vec<Event> {
        let cell = self.cell.as_mut().expect("a cell");
        assert!(cell.ready, "an order to a cell that is being built");
        if self.refuses {
            let why = "no room".to_owned();
            return vec![Event::NotOrdered { number, why }];
        }
        assert!(!cell.orders.iter().any(|(n, _)| *n == number));
        if let Order::Attach { directory } = &order {
            let mount = mount.expect("a mount goes along");
            let resource = self.mounts.remove(&mount).expect("it is there");
            assert!(self.core.volumes[&resource].leaving.is_none(), "{order:?}");
            assert_eq!(self.core.volumes[&resource].volume.directory, *directory);
            let is_new = cell.attached.insert(directory.clone());
            assert!(is_new, "{resource} is attached already");
        }
        cell.orders.push_back((number, order));
        vec![]
    }

    /// Nothing is begun by a keeper that is on its way out.
    fn note(&mut self, effect: &Effect) {
        let word = match effect {
            Effect::Mount { member, task, .. } => format!("{task:?} {}", member.resource),
            Effect::KillMounter(_) => "kill mounter".to_owned(),
            Effect::DropMount(_) => "drop mount".to_owned(),
            Effect::Repair(repair) => format!("repair {}", repair.resource),
            Effect::CutOff(resource) => format!("cut off {resource}"),
            Effect::SpawnCell => "spawn cell".to_owned(),
            Effect::KillCell => "kill cell".to_owned(),
            Effect::Order { order, .. } => match order {
                Order::Attach { .. } => "attach".to_owned(),
                Order::Detach { .. } => "detach".to_owned(),
                Order::Halt { .. } => "halt".to_owned(),
                Order::Launch { server, .. } => format!("launch {server}"),
                Order::Prepare { .. } => "prepare".to_owned(),
                Order::Configure { .. } => "configure".to_owned(),
                Order::Inspect { .. } => "inspect".to_owned(),
                Order::Run { .. } | Order::Reload { .. } => "change".to_owned(),
                Order::Show { .. } => "show".to_owned(),
            },
            Effect::Admit { .. } => "admit".to_owned(),
            Effect::SpawnSentinel => "spawn sentinel".to_owned(),
            Effect::Retire => "retire".to_owned(),
            Effect::Reply(..) => "reply".to_owned(),
            _ => return,
        };
        let begins = matches!(
            effect,
            Effect::Mount { .. }
                | Effect::Repair(_)
                | Effect::SpawnCell
                | Effect::Order { .. }
                | Effect::Admit { .. }
                | Effect::SpawnSentinel
        );
        assert!(!(self.retired && begins), "{word}, on its way out");
        let resource = match effect {
            Effect::Mount { member, .. } => Some(&member.resource),
            Effect::Repair(repair) => Some(&repair.resource),
            _ => None,
        };
        let held = resource.and_then(|resource| self.core.volumes.get(resource));
        let leaves = held.is_some_and(|held| held.leaving.is_some());
        assert!(!leaves, "{word}, which is being stopped");
        self.done.push(word);
    }

    fn take_reply(&mut self, client: ClientId, reply: Reply) {
        let agent = self.agents.get_mut(&client).expect("an agent");
        assert!(!agent.gone && agent.reply.is_none(), "a second answer");
        agent.reply = Some(reply.clone());
        let resource = match &agent.request {
            Request::Detach { resource, .. } | Request::Unserve { resource, .. } => {
                resource.clone()
            }
            _ => return,
        };
        if matches!(reply, Reply::Refused { .. }) {
            return;
        }
        assert_eq!(*condition(&reply), Condition::Absent, "{resource}");
        self.assert_free(&resource);
    }

    /// Nothing of this resource has its device, or anything else of it.
    fn assert_free(&self, resource: &str) {
        let mut mounters = self.mounters.values();
        assert!(
            !mounters.any(|child| child.resource == resource),
            "a child may still have the device of {resource}"
        );
        let mut mounts = self.mounts.values();
        assert!(
            !mounts.any(|of| of == resource),
            "{resource} is still mounted"
        );
        assert!(
            !self.repairs.contains_key(resource),
            "{resource} is being repaired"
        );
        if let Some(cell) = &self.cell {
            assert!(!cell.attached.contains(&directory(resource)));
            assert!(!self.is_last, "the last one is told when all is gone");
        }
    }

    /// What a monitor is told is what the state says.
    pub(crate) fn check_status(&self, client: ClientId, resource: &str) {
        let Until::Now(reply) = &self.core.waiting[&client].0 else {
            panic!("it is not answered at once");
        };
        let state = self.core.state();
        assert_eq!(state.condition(resource), Some(condition(reply)));
        self.check_state(&state);
    }

    /// What holds of a state whenever it is told: another process reads what was meant, and it agrees with what the
    /// world has.
    fn check_state(&self, state: &CellState) {
        let text = serde_json::to_string(state).unwrap();
        assert_eq!(serde_json::from_str::<CellState>(&text).unwrap(), *state);
        assert!(text.len() < MESSAGE_LIMIT / 2);
        for member in &state.members {
            let of_volume = state.volume(&member.resource).map(VolumeState::condition);
            let servers = state.servers.iter();
            let of_servers = servers.filter(|s| s.resource == member.resource);
            let of_servers = of_servers.map(ServersState::condition).next();
            assert_eq!(member.condition, of_volume.or(of_servers), "{member:?}");
        }
        let count = state.volumes.len() + state.servers.iter().len();
        assert_eq!(state.members.len(), count);

        let cell = self.cell.as_ref();
        assert_eq!(state.init.is_some(), cell.is_some());
        let is_ready = cell.is_some_and(|cell| cell.ready && !cell.killed) && !self.retired;
        assert_eq!(
            state.phase == CellPhase::Ready,
            is_ready,
            "{:?}",
            state.phase
        );
        for volume in &state.volumes {
            let is_repaired = matches!(volume.phase, VolumePhase::Repairing(_));
            let repair = self.repairs.get(volume.resource.as_str());
            assert_eq!(repair.is_some(), is_repaired, "{volume:?}");
            if is_repaired {
                assert!(volume.found.is_some() && volume.defect.is_some());
            }
            let has = cell.is_some_and(|cell| cell.attached.contains(&volume.directory));
            assert!(has || volume.phase != VolumePhase::Attached, "{volume:?}");
            if matches!(volume.phase, VolumePhase::Attached | VolumePhase::Attaching) {
                assert_eq!((&volume.defect, volume.found.is_some()), (&None, true));
            }
        }
    }

    /// What has to hold after each turn.
    pub(crate) fn check(&self) {
        self.check_state(&self.core.state());
        let core = &self.core;
        for agent in self.agents.values() {
            let waits = !agent.gone && agent.reply.is_none();
            let budget = match &agent.request {
                Request::Detach { budget, .. }
                | Request::Unserve { budget, .. }
                | Request::Attach { budget, .. }
                | Request::Serve { budget, .. }
                | Request::Export { budget, .. }
                | Request::Limit { budget, .. }
                | Request::Inspect { budget, .. } => *budget,
                _ => Duration::from_secs(5),
            };
            assert!(!waits || self.now < agent.asked + budget, "{agent:?}");
        }
        let in_cell = core.volumes.values().filter(|held| held.is_in_cell());
        let volumes = in_cell.filter_map(|held| held.leaving);
        let servers = core.servers.iter().filter(|servers| !servers.is_halted());
        let servers = servers.filter_map(|servers| Some(servers.leaving?.1));
        if volumes.chain(servers).any(|kill_at| kill_at <= self.now) {
            // Where something was not told to end yet, the next turn comes at once.
            let ends = self.cell.as_ref().is_none_or(|cell| cell.killed)
                || core.due().is_some_and(|due| due <= self.now);
            assert!(ends, "what is to end does not: {core:?}");
        }
        if core.is_empty() && core.idle_until.is_none() {
            assert!(self.retired, "the last member has left");
        }
        for (mounter, resource) in &self.mounts {
            let held = core.volumes.get(resource);
            let loose = held.is_some_and(|held| held.phase == Phase::Unattached(*mounter));
            assert!(loose, "the mount of {resource} is forgotten");
        }
        for resource in self.repairs.keys() {
            let held = core.volumes.get(resource);
            let repaired = held.is_some_and(|held| matches!(held.phase, Phase::Repairing(_)));
            assert!(repaired, "the repair of {resource} is forgotten");
        }
        if self.cell.is_some() != core.cell.is_some() {
            panic!("the cell is forgotten");
        }
        let watched = core.watched().into_iter().map(|member| member.resource);
        if self.sentinel {
            assert_eq!(self.watched, watched.collect::<Vec<_>>(), "the sentinel's");
        }
        let comes = core.sentinel_at.is_some() || self.retired;
        assert!(self.sentinel || comes, "no sentinel comes");
    }
}
