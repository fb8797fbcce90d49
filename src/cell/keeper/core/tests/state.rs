//! What is told of the cell, as it is after what has happened.

use super::*;
use crate::cell::probe::Protocol;
use crate::cell::refused::Refused;
use crate::cell::state::{ExportState, Fault, HomeState, ServerPhase, ServersPhase};
use crate::plan::repair::Finding;

impl World {
    /// What the keeper tells who asks how all is.
    fn state(&mut self) -> CellState {
        match self.answer_to(Request::State) {
            Reply::State(state) => *state,
            other => panic!("no state: {other:?}"),
        }
    }

    fn volume_state(&mut self, resource: &str) -> VolumeState {
        let state = self.state();
        state.volume(resource).cloned().expect("a file system")
    }

    fn phase(&mut self, resource: &str) -> VolumePhase {
        self.volume_state(resource).phase
    }

    fn servers_state(&mut self) -> ServersState {
        self.state().servers.expect("servers")
    }

    /// How each of the servers stands.
    fn servers(&mut self) -> Vec<(String, ServerPhase)> {
        let servers = self.servers_state().servers.into_iter();
        servers.map(|server| (server.name, server.phase)).collect()
    }

    /// PID 1 carries out orders until it is to start a server.
    fn obey_until_launch(&mut self) {
        self.admitted(Admission::Done);
        let launches = |world: &Self| {
            let orders = &world.cell.as_ref().unwrap().orders;
            matches!(orders.front(), Some((_, Order::Launch { .. })))
        };
        while !launches(self) {
            self.obey(Ok(vec![]));
        }
    }
}

fn with_command() -> Request {
    Request::Serve {
        member: member("alpha"),
        spec: ServerSpec {
            commands: vec!["sleep 9".to_owned()],
            ..spec()
        },
        home: None,
        budget: BUDGET,
    }
}

#[test]
fn a_file_system_is_followed_on_its_way_up_and_down() {
    let mut world = World::new();
    let state = world.state();
    assert_eq!((state.phase, state.init), (CellPhase::Absent, None));
    assert_eq!((state.vserver.as_str(), state.members), ("alpha", vec![]));

    world.ask(attach("one"));
    let told = world.volume_state("one");
    assert_eq!((told.phase, told.found), (VolumePhase::Mounting, None));
    assert_eq!(told.device, "/dev/one");
    world.mounted("one", found("one"));
    let told = world.volume_state("one");
    assert_eq!(told.phase, VolumePhase::Unattached);
    assert_eq!(told.found, Some(PathBuf::from("/dev/one")));
    assert_eq!(told.fstype, Some(FsKind::Ext4));
    let state = world.state();
    assert_eq!((state.phase, state.init), (CellPhase::Building, Some(77)));
    world.build();
    assert_eq!(world.phase("one"), VolumePhase::Attaching);
    world.obey(Ok(vec![]));
    let state = world.state();
    assert_eq!(state.phase, CellPhase::Ready);
    assert_eq!(state.condition("one"), Some(&Condition::Running));
    let told = world.volume_state("one");
    assert_eq!((told.phase, told.leaves), (VolumePhase::Attached, false));
    assert_eq!(told.directory, directory("one"));

    world.ask(detach("one"));
    let told = world.volume_state("one");
    assert_eq!((told.phase, told.leaves), (VolumePhase::Detaching, true));
    world.obey(Ok(vec![]));
    let state = world.state();
    assert_eq!((state.phase, state.members), (CellPhase::Ending, vec![]));
}

#[test]
fn a_repair_is_told_with_its_stage_its_percent_and_what_it_is_for() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    let told = world.volume_state("one");
    let VolumePhase::Repairing(progress) = told.phase else {
        panic!("{told:?}");
    };
    assert_eq!(progress.stage, Some(Stage::Preserve));
    assert_eq!(told.defect, Some(Defect::Noted));
    assert_eq!(told.found, Some(PathBuf::from("/dev/one")));

    let progress = RepairProgress::new(Stage::Preen, Some(43));
    world.tell(Event::RepairGoesOn {
        resource: "one".into(),
        progress: progress.clone(),
    });
    assert_eq!(world.phase("one"), VolumePhase::Repairing(progress));
    let words = Condition::Degraded("repairing 43 %, access blocked".to_owned());
    assert_eq!(world.condition("one"), words);

    world.repair_ends("one", Ok(Decision::Attach));
    let told = world.volume_state("one");
    assert_eq!(told.phase, VolumePhase::Mounting);
    assert_eq!(
        told.degraded.as_deref(),
        Some("being attached after its repair")
    );
    assert_eq!(told.defect, Some(Defect::Noted));
    world.mounted("one", found("one"));
    assert_eq!(world.volume_state("one").defect, None);
    world.build();
    world.obey_all();
    let told = world.volume_state("one");
    assert_eq!((told.phase, told.degraded), (VolumePhase::Attached, None));
}

#[test]
fn what_keeps_a_file_system_from_service_is_told_as_what_it_is() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", Mounted::BeingChecked("b".to_owned()));
    let node = "b".to_owned();
    assert_eq!(world.phase("one"), VolumePhase::BeingChecked { node });
    let defect = Defect::Unmountable(Examined {
        finding: Finding::Damage { log: false },
        said: "structure needs cleaning".to_owned(),
    });
    let unsound = Mounted::Unsound {
        path: PathBuf::from("/dev/one"),
        kind: FsKind::Xfs,
        mmp: false,
        defect: defect.clone(),
    };
    world.mounted("one", unsound);
    let told = world.volume_state("one");
    assert_eq!(
        (told.fstype, told.defect),
        (Some(FsKind::Xfs), Some(defect))
    );

    world.repair_ends("one", Ok(Decision::Block("too bad".to_owned())));
    assert_eq!(world.phase("one"), VolumePhase::Examining);
    world.mounted("one", Mounted::Unmended("too bad".to_owned(), true));
    let why = "too bad".to_owned();
    assert_eq!(world.phase("one"), VolumePhase::Blocked { why });

    world.ask(attach("two"));
    world.mounted("two", damaged("two"));
    let why = "gone".to_owned();
    world.repair_ends("two", Ok(Decision::Wait(why.clone())));
    assert_eq!(world.phase("two"), VolumePhase::Waiting { why });
    world.pass(Duration::from_secs(5));
    assert_eq!(world.phase("two"), VolumePhase::Mounting);
    world.mounted("two", Mounted::Elsewhere("mounted on b".to_owned()));
    let fault = Fault {
        cause: Some(Cause::Failed),
        why: "mounted on b".to_owned(),
    };
    assert_eq!(world.phase("two"), VolumePhase::Failed(fault));
}

#[test]
fn servers_are_told_one_by_one_with_what_they_wait_for() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    world.ask(with_command());
    let told = world.servers_state();
    assert_eq!(told.phase, ServersPhase::Waiting);
    let home = HomeState::Awaited {
        why: "saving, access blocked".to_owned(),
        lasts: true,
    };
    assert_eq!((told.home, told.late), (home, true));
    let all = |smb, command| vec![("smb".to_owned(), smb), ("command 1".to_owned(), command)];
    let (waiting, starting) = (ServerPhase::Waiting, ServerPhase::Starting);
    let running = ServerPhase::Running;
    assert_eq!(world.servers(), all(waiting.clone(), waiting.clone()));

    world.repair_ends("one", Ok(Decision::Attach));
    world.mounted("one", found("one"));
    world.build();
    world.obey(Ok(vec![]));
    let directory = directory("one");
    assert_eq!(
        world.servers_state().home,
        HomeState::Attached { directory }
    );
    assert_eq!(world.servers(), all(waiting.clone(), waiting.clone()));
    world.obey_until_launch();
    assert_eq!(world.servers(), all(starting.clone(), waiting));
    world.obey(Ok(vec![]));
    assert_eq!(world.servers(), all(running.clone(), starting));
    world.obey_all();
    assert_eq!(world.servers_state().phase, ServersPhase::Running);
    assert_eq!(world.servers(), all(running.clone(), running));

    world.say(protocol::Event::Died {
        server: "smb".to_owned(),
        how: "signal 9".to_owned(),
    });
    let told = world.servers_state();
    assert_eq!(told.phase, ServersPhase::Halting);
    let why = "server smb has ended: signal 9".to_owned();
    assert_eq!(told.fault, Some((Cause::Failed, why).into()));
    let failed = ServerPhase::Failed {
        why: "signal 9".to_owned(),
    };
    assert_eq!(world.servers(), all(failed.clone(), ServerPhase::Ending));
    world.obey_all();
    assert_eq!(world.servers(), all(failed, ServerPhase::Ended));
}

#[test]
fn a_server_that_can_not_be_started_is_told_from_those_that_were() {
    let mut world = World::new();
    world.attach("one");
    world.ask(with_command());
    world.obey_until_launch();
    world.obey(Ok(vec![]));
    world.obey(Err("not found".to_owned()));
    let told = world.servers();
    let why = "not found".to_owned();
    let failed = ("command 1".to_owned(), ServerPhase::Failed { why });
    assert_eq!(told, [("smb".to_owned(), ServerPhase::Ending), failed]);
}

#[test]
fn servers_that_are_stopped_on_their_way_up_are_not_being_started() {
    let mut world = World::new();
    world.attach("one");
    world.ask(with_command());
    world.obey_until_launch();
    world.ask(unserve());
    let told = world.servers_state();
    assert_eq!((told.phase, told.leaves), (ServersPhase::Halting, true));
    let phases = told.servers.into_iter().map(|server| server.phase);
    assert!(phases.eq([ServerPhase::Ending, ServerPhase::Ending]));
}

#[test]
fn what_is_exported_is_told_and_what_of_it_is_not_served() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.obey_all();
    assert_eq!(world.servers_state().exports, []);
    world.ask(export("one"));
    while !matches!(
        world.cell.as_ref().unwrap().orders.front(),
        Some((_, Order::Inspect { .. }))
    ) {
        if world.admitting {
            world.admitted(Admission::Done);
        } else {
            world.obey(Ok(vec![]));
        }
    }
    world.obey(Ok(vec![Refused {
        directory: "/srv/one".to_owned(),
        protocol: Protocol::Smb,
        definite: true,
        why: "no such share".to_owned(),
    }]));
    world.obey_all();
    let told = world.servers_state();
    let offered = ExportState {
        server: "smb".to_owned(),
        directory: "/srv/one".to_owned(),
        name: "one".to_owned(),
    };
    assert_eq!(told.exports, [offered]);
    let unserved: Vec<(&str, &str)> = told
        .unserved
        .iter()
        .map(|one| (one.directory.as_str(), one.why.as_str()))
        .collect();
    assert_eq!(unserved, [("/srv/one", "no such share")]);
    let told = world.volume_state("one");
    assert_eq!(told.phase, VolumePhase::Attached);
    assert_eq!(told.degraded.as_deref(), Some("no such share"));
}

#[test]
fn limits_are_told_with_what_they_lack() {
    let mut world = World::new();
    world.attach("one");
    assert_eq!(world.state().limits, None);
    world.groups = (true, false);
    world.ask(serve(None));
    let limits = world.state().limits.unwrap();
    assert_eq!(limits.wanted, Some(Limits::default()));
    assert!(limits.pending);
    world.groups = (true, true);
    world.missing = Some("no cgroup v2 file system is mounted".to_owned());
    world.turn();
    let limits = world.state().limits.unwrap();
    assert_eq!((limits.pending, limits.missing), (false, world.missing));
}

#[test]
fn who_asks_how_all_is_changes_nothing() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.obey_all();
    world.pass(Duration::from_secs(60));
    world.take_done();
    world.state();
    assert_eq!(world.take_done(), ["reply"]);
    assert_eq!(world.cleaned, [""; 0]);
}
