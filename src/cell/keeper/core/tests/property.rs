//! Whatever happens in whatever order: what [`World`] asserts of each effect and after each turn holds, and all comes
//! to its end.

use proptest::prelude::*;

use super::*;
use crate::types::ResourceId;

/// Something that may happen, where it can; the numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Attach(usize),
    Detach(usize, u64),
    Export(usize, bool),
    Serve(Option<usize>),
    Unserve(u64),
    Status(usize),
    State,
    RepairGoesOn(usize, u8),
    Inspect,
    Limit,
    Find,
    HangUp(usize),
    MountEnds(usize, usize),
    MounterDies(usize),
    RepairEnds(usize, usize),
    Build,
    Broken,
    Obey(bool),
    ServerDies,
    Garbled,
    CellDies,
    Admitted(usize),
    Groups(bool),
    SentinelDies,
    Refuse(bool),
    Pass(u64),
    /// So many of the next events come in one turn.
    Together(usize),
    Shutdown,
}

const RESOURCES: [&str; 3] = ["one", "two", "three"];

fn step() -> impl Strategy<Value = Step> {
    let seconds = || prop_oneof![Just(9u64), Just(20), Just(40)];
    let resource = || 0..RESOURCES.len();
    prop_oneof![
        6 => resource().prop_map(Step::Attach),
        4 => (resource(), seconds()).prop_map(|(r, s)| Step::Detach(r, s)),
        2 => (resource(), any::<bool>()).prop_map(|(r, on)| Step::Export(r, on)),
        3 => prop::option::of(resource()).prop_map(Step::Serve),
        2 => seconds().prop_map(Step::Unserve),
        3 => (0..=RESOURCES.len()).prop_map(Step::Status),
        1 => Just(Step::State),
        2 => (any::<usize>(), 0..=100u8).prop_map(|(at, percent)| Step::RepairGoesOn(at, percent)),
        1 => Just(Step::Inspect),
        1 => Just(Step::Limit),
        1 => Just(Step::Find),
        1 => any::<usize>().prop_map(Step::HangUp),
        8 => (any::<usize>(), 0..16usize).prop_map(|(at, how)| Step::MountEnds(at, how)),
        6 => any::<usize>().prop_map(Step::MounterDies),
        4 => (any::<usize>(), 0..5usize).prop_map(|(at, how)| Step::RepairEnds(at, how)),
        5 => Just(Step::Build),
        1 => Just(Step::Broken),
        16 => prop::bool::weighted(0.9).prop_map(Step::Obey),
        1 => Just(Step::ServerDies),
        1 => Just(Step::Garbled),
        2 => Just(Step::CellDies),
        5 => (0..8usize).prop_map(Step::Admitted),
        1 => any::<bool>().prop_map(Step::Groups),
        1 => Just(Step::SentinelDies),
        2 => prop::bool::weighted(0.3).prop_map(Step::Refuse),
        5 => (0..15u64).prop_map(Step::Pass),
        5 => (1..4usize).prop_map(Step::Together),
        1 => prop::bool::weighted(0.2).prop_map(|down| {
            if down { Step::Shutdown } else { Step::Pass(1) }
        }),
    ]
}

/// Who Pacemaker was told is degraded, and has not been told otherwise of.
#[derive(Debug, Default)]
struct Degraded(BTreeSet<ResourceId>);

impl Degraded {
    /// Takes note of what a monitor was told, and whether what went was cleaned up.
    fn follow(&mut self, world: &mut World, resource: &str) {
        match world.condition(resource) {
            Condition::Degraded(_) => {
                self.0.insert(resource.into());
            }
            Condition::Running => {
                let was = self.0.remove(resource);
                let cleaned = world.cleaned.iter().any(|of| of == resource);
                assert!(!was || cleaned, "{resource} is shown as degraded");
            }
            _ => {}
        }
    }

    /// Who is no member any more was cleaned up after, if it was stopped.
    fn check(&mut self, world: &mut World) {
        let cleaned: Vec<ResourceId> = std::mem::take(&mut world.cleaned);
        self.0.retain(|resource| !cleaned.contains(resource));
        let core = &world.core;
        for resource in &self.0 {
            let noted = core.degraded.contains(resource);
            assert!(noted, "it is forgotten that {resource} is degraded");
        }
    }
}

fn outcome(resource: &str, how: usize) -> Result<Mounted, String> {
    let why = || "on purpose".to_owned();
    match how {
        0..=7 => Ok(found(resource)),
        8..=10 => Ok(damaged(resource)),
        11 => Ok(Mounted::BeingChecked(why())),
        12 => Ok(Mounted::Unmended(why(), true)),
        13 => Ok(Mounted::Unmended(why(), false)),
        14 => Ok(Mounted::Refused(Cause::Node, why())),
        _ => Err(why()),
    }
}

fn decision(how: usize) -> Result<Decision, (Cause, String)> {
    let why = "on purpose".to_owned();
    match how {
        0 | 1 => Ok(Decision::Attach),
        2 => Ok(Decision::Block(why)),
        3 => Ok(Decision::Wait(why)),
        _ => Err((Cause::Failed, why)),
    }
}

/// One of them.
fn pick<T: Copy>(all: impl Iterator<Item = T>, at: usize) -> Option<T> {
    let all: Vec<T> = all.collect();
    (!all.is_empty()).then(|| all[at % all.len()])
}

fn take(world: &mut World, degraded: &mut Degraded, step: Step) {
    match step {
        Step::Attach(at) => {
            world.ask(attach(RESOURCES[at]));
        }
        Step::Detach(at, budget) => {
            world.ask(Request::Detach {
                resource: RESOURCES[at].into(),
                budget: Duration::from_secs(budget),
            });
        }
        Step::Export(at, on) => {
            let resource = RESOURCES[at];
            let export = exported(resource);
            world.ask(Request::Export {
                resource: resource.into(),
                export: if on { export } else { Exported::default() },
                budget: BUDGET,
            });
        }
        Step::Serve(home) => {
            world.ask(serve(home.map(|at| RESOURCES[at])));
        }
        Step::Unserve(budget) => {
            world.ask(Request::Unserve {
                resource: "alpha".into(),
                patience: BUDGET,
                budget: Duration::from_secs(budget),
            });
        }
        Step::Status(at) => {
            let resource = RESOURCES.get(at).unwrap_or(&"alpha");
            degraded.follow(world, resource);
        }
        Step::State => {
            world.ask(Request::State);
        }
        Step::RepairGoesOn(at, percent) => {
            let repairs = world
                .repairs
                .iter()
                .map(|(resource, stage)| (resource.clone(), *stage));
            let repairs: Vec<(ResourceId, Stage)> = repairs.collect();
            if let Some(at) = pick(0..repairs.len(), at) {
                let (resource, stage) = repairs[at].clone();
                let progress = RepairProgress::new(stage, Some(percent));
                world.tell(Event::RepairGoesOn { resource, progress });
            }
        }
        Step::Inspect => {
            world.ask(Request::Inspect {
                resource: "alpha".into(),
                budget: BUDGET,
            });
        }
        Step::Limit => {
            world.ask(Request::Limit {
                resource: "alpha".into(),
                limits: Limits::default(),
                budget: BUDGET,
            });
        }
        Step::Find => {
            world.ask(Request::Find);
        }
        Step::HangUp(at) => {
            let waiting = world.agents.iter().filter(|(_, agent)| !agent.gone);
            if let Some(client) = pick(waiting.map(|(client, _)| *client), at) {
                world.agents.get_mut(&client).unwrap().gone = true;
                world.tell(Event::ClientGone(client));
            }
        }
        Step::MountEnds(at, how) if world.groups.0 => {
            let works = world.mounters.iter().filter(|(_, child)| !child.ended);
            if let Some(mounter) = pick(works.map(|(mounter, _)| *mounter), at) {
                let resource = world.mounters[&mounter].resource.clone();
                world.mount_ends(mounter, outcome(&resource, how));
            }
        }
        Step::MounterDies(at) => {
            let ended = world.mounters.iter().filter(|(_, child)| child.ended);
            if let Some(mounter) = pick(ended.map(|(mounter, _)| *mounter), at) {
                world.mounter_dies(mounter);
            }
        }
        Step::RepairEnds(at, how) => {
            let resources: Vec<ResourceId> = world.repairs.keys().cloned().collect();
            if let Some(at) = pick(0..resources.len(), at) {
                world.repair_ends(&resources[at], decision(how));
            }
        }
        Step::Build if world.cell.as_ref().is_some_and(|c| !c.ready) => world.build(),
        Step::Broken if world.cell.as_ref().is_some_and(|c| !c.ready) => {
            world.say(protocol::Event::Broken("on purpose".to_owned()));
        }
        Step::Obey(well) if world.cell.as_ref().is_some_and(|c| !c.orders.is_empty()) => {
            let why = || "on purpose".to_owned();
            world.obey(if well { Ok(vec![]) } else { Err(why()) });
        }
        Step::ServerDies if world.cell.as_ref().is_some_and(|c| c.ready) => {
            world.say(protocol::Event::Died {
                server: "smbd".to_owned(),
                how: "on purpose".to_owned(),
            });
        }
        Step::Garbled if world.cell.is_some() => {
            world.tell(Event::CellGarbled("on purpose".to_owned()));
        }
        Step::CellDies if world.cell.is_some() => lose_cell(world),
        Step::Admitted(how) if world.admitting => world.admitted(match how {
            0 => Admission::Failed(Cause::Failed, "on purpose".to_owned()),
            1 => Admission::Late("on purpose".to_owned()),
            2 => Admission::Unlimited("on purpose".to_owned()),
            _ => Admission::Done,
        }),
        Step::Groups(settled) => {
            world.groups = (true, settled);
            world.turn();
        }
        Step::SentinelDies => world.sentinel_dies(),
        Step::Refuse(refuses) => world.refuses = refuses,
        Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
        Step::Together(more) => world.more = more,
        Step::Shutdown => world.tell(Event::Shutdown),
        _ => {}
    }
    degraded.check(world);
}

/// The cell dies: all who were to stay in it are reported, each once, and nobody else.
fn lose_cell(world: &mut World) {
    let core = &world.core;
    let stays = |held: &&Volume| held.is_in_cell() && held.leaving.is_none();
    let volumes = core.volumes.values().filter(stays).map(|h| &h.member);
    let stays = |servers: &&Servers| servers.leaving.is_none() && servers.fault().is_none();
    let servers = core.servers.iter().filter(stays).map(|s| &s.member);
    let lost: Vec<String> = volumes
        .chain(servers)
        .map(|m| m.resource.to_string())
        .collect();
    world.reported.clear();
    world.cell_dies();
    let reported = world.reported.iter().map(|(resource, _)| resource.clone());
    assert_eq!(reported.collect::<Vec<_>>(), lost);
}

/// What was killed dies, and the node goes down: all agents are told or hung up on, and the keeper ends.
fn end(world: &mut World) {
    (world.groups, world.refuses, world.more) = ((true, true), false, 0);
    world.tell(Event::Shutdown);
    for _ in 0..200 {
        if world.core.is_over() {
            break;
        }
        let killed = world.cell.as_ref().is_some_and(|cell| cell.killed);
        let works = |(mounter, child): (&MounterId, &world::Child)| {
            (!child.ended && child.killed).then_some(*mounter)
        };
        let ended = |(mounter, child): (&MounterId, &world::Child)| child.ended.then_some(*mounter);
        if let Some(mounter) = world.mounters.iter().find_map(works) {
            world.mount_ends(mounter, Err("killed".to_owned()));
        } else if let Some(mounter) = world.mounters.iter().find_map(ended) {
            world.mounter_dies(mounter);
        } else if killed {
            world.cell_dies();
        } else {
            world.pass(Duration::from_secs(1));
        }
    }
    assert!(world.core.is_over(), "{world:#?}");
    assert!(world.retired && world.cell.is_none());
    assert!(world.mounts.is_empty() && world.repairs.is_empty());
    let mut agents = world.agents.values();
    assert!(agents.all(|agent| agent.gone), "not all are told");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_are_told_the_truth_and_all_ends(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut world, mut degraded) = (World::new(), Degraded::default());
        for step in steps {
            take(&mut world, &mut degraded, step);
        }
        end(&mut world);
    }
}
