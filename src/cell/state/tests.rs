use super::*;
use crate::formats;
use crate::plan::repair::Stage;

/// All that may be told of a cell and has a word of its own.
const WORDS: [&str; 40] = [
    "cell absent",
    "cell building",
    "cell ready",
    "cell ending",
    "cell unknown",
    "mounting",
    "being checked",
    "examining",
    "repairing",
    "so far",
    "unattached",
    "attaching",
    "attached",
    "detaching",
    "blocked",
    "to be tried again",
    "failed",
    "leaving",
    "degraded",
    "damage noted",
    "check cut off",
    "not mountable",
    "servers waiting",
    "servers starting",
    "servers running",
    "servers halting",
    "servers halted",
    "home attached",
    "home awaited",
    "home missing",
    "server waiting",
    "server starting",
    "server running",
    "server ending",
    "server ended",
    "server failed",
    "exported",
    "unserved",
    "limited",
    "left out",
];

fn of_volume(volume: &VolumeState) -> Vec<&'static str> {
    let mut words = vec![match &volume.phase {
        VolumePhase::Mounting => "mounting",
        VolumePhase::BeingChecked { .. } => "being checked",
        VolumePhase::Examining => "examining",
        VolumePhase::Repairing(_) => "repairing",
        VolumePhase::Unattached => "unattached",
        VolumePhase::Attaching => "attaching",
        VolumePhase::Attached => "attached",
        VolumePhase::Detaching => "detaching",
        VolumePhase::Blocked { .. } => "blocked",
        VolumePhase::Waiting { .. } => "to be tried again",
        VolumePhase::Failed(_) => "failed",
        VolumePhase::Unknown => panic!("this version wrote {volume:?}"),
    }];
    if let VolumePhase::Repairing(RepairProgress { percent, .. }) = &volume.phase {
        words.extend(percent.map(|_| "so far"));
    }
    words.extend(volume.leaves.then_some("leaving"));
    words.extend(volume.degraded.as_ref().map(|_| "degraded"));
    words.extend(volume.defect.as_ref().map(|defect| match defect {
        Defect::Noted => "damage noted",
        Defect::CutOff(_) => "check cut off",
        Defect::Unmountable(_) => "not mountable",
    }));
    words
}

fn of_servers(servers: &ServersState) -> Vec<&'static str> {
    let mut words = vec![
        match servers.phase {
            ServersPhase::Waiting => "servers waiting",
            ServersPhase::Starting => "servers starting",
            ServersPhase::Running => "servers running",
            ServersPhase::Halting => "servers halting",
            ServersPhase::Halted => "servers halted",
            ServersPhase::Unknown => panic!("this version wrote {servers:?}"),
        },
        match servers.home {
            HomeState::Attached { .. } => "home attached",
            HomeState::Awaited { .. } => "home awaited",
            HomeState::Missing(_) => "home missing",
            HomeState::Unknown => panic!("this version wrote {servers:?}"),
        },
    ];
    words.extend(servers.servers.iter().map(|server| match server.phase {
        ServerPhase::Waiting => "server waiting",
        ServerPhase::Starting => "server starting",
        ServerPhase::Running => "server running",
        ServerPhase::Ending => "server ending",
        ServerPhase::Ended => "server ended",
        ServerPhase::Failed { .. } => "server failed",
        ServerPhase::Unknown => panic!("this version wrote {servers:?}"),
    }));
    words.extend(servers.exports.iter().map(|_| "exported"));
    words.extend(servers.unserved.iter().map(|_| "unserved"));
    words
}

fn words(state: &CellState) -> Vec<&'static str> {
    let mut words = vec![match state.phase {
        CellPhase::Absent => "cell absent",
        CellPhase::Building => "cell building",
        CellPhase::Ready => "cell ready",
        CellPhase::Ending => "cell ending",
        CellPhase::Unknown => "cell unknown",
    }];
    words.extend(state.volumes.iter().flat_map(of_volume));
    words.extend(state.servers.iter().flat_map(of_servers));
    words.extend(state.limits.as_ref().map(|_| "limited"));
    words.extend((state.left_out > 0).then_some("left out"));
    words
}

#[test]
fn cells_are_told_of_in_words_that_all_versions_read() {
    formats::check_each("cell-state.jsonl", &WORDS, words);
}

#[test]
fn what_a_later_version_says_is_unknown_and_all_else_is_read() {
    let text = r#"{
        "vserver": "alpha", "phase": "frozen", "init": 7, "weather": {"is": "fine"},
        "members": [
            {"resource": "one", "condition": {"Suspended": "why"}},
            {"resource": "two", "condition": {"Degraded": "why"}, "since": 7}
        ],
        "volumes": [
            {"resource": "one", "device": "/dev/one", "found": "/dev/dm-1", "directory": "/one", "fstype": "bcachefs",
             "phase": {"is": "scrubbing", "pass": {"number": 2}}, "defect": {"Rotten": {"bits": 3}}},
            {"resource": "two", "device": "/dev/two", "found": null, "directory": "/two", "fstype": "xfs",
             "phase": {"is": "repairing", "stage": "defragment", "what": "tidying", "percent": 7, "left": 9},
             "leaves": false, "degraded": null, "defect": "Noted"},
            {"resource": "three", "device": "/dev/three", "directory": "/three",
             "phase": {"is": "failed", "cause": "Weather", "why": "rain"}}
        ],
        "servers": {
            "resource": "alpha", "phase": "draining", "home": {"is": "mirrored", "at": ["/one", "/two"]},
            "servers": [{"name": "nfs", "phase": {"is": "paused", "by": "whom"}, "pid": 7}],
            "fault": {"cause": "Weather", "why": "rain"}
        },
        "limits": {"wanted": {"gpus": 2}}
    }"#;
    let state: CellState = serde_json::from_str(text).unwrap();
    assert_eq!(state.phase, CellPhase::Unknown);
    assert_eq!(state.condition("one"), None);
    let degraded = Condition::Degraded("why".to_owned());
    assert_eq!(state.condition("two"), Some(&degraded));

    let one = state.volume("one").unwrap();
    assert_eq!((&one.phase, one.fstype), (&VolumePhase::Unknown, None));
    assert_eq!(one.defect, None);
    assert_eq!(one.found.as_deref(), Some("/dev/dm-1".as_ref()));
    let two = state.volume("two").unwrap();
    let progress = RepairProgress {
        stage: None,
        what: "tidying".to_owned(),
        percent: Some(7),
    };
    assert_eq!(two.phase, VolumePhase::Repairing(progress));
    assert_eq!(two.defect, Some(Defect::Noted));
    let fault = Fault {
        cause: None,
        why: "rain".to_owned(),
    };
    let three = state.volume("three").unwrap();
    assert_eq!(three.phase, VolumePhase::Failed(fault.clone()));

    let servers = state.servers.unwrap();
    assert_eq!(servers.phase, ServersPhase::Unknown);
    assert_eq!(servers.home, HomeState::Unknown);
    assert_eq!(servers.servers[0].phase, ServerPhase::Unknown);
    assert_eq!(servers.fault, Some(fault));
    assert_eq!(state.limits.unwrap().wanted, None);
}

#[test]
fn the_words_of_a_repair_tell_how_far_it_is() {
    for (stage, percent, what) in [
        (
            Stage::Preserve,
            None,
            "saving its metadata before the repair",
        ),
        (
            Stage::Note,
            None,
            "clearing the mark of a check that was cut off",
        ),
        (
            Stage::Release,
            None,
            "clearing the mark of a check that was cut off",
        ),
        (Stage::Preen, None, "repairing"),
        (Stage::Full, Some(43), "repairing 43 %"),
    ] {
        let progress = RepairProgress::new(stage, percent);
        assert_eq!(progress.what, what);
        let degraded = Condition::Degraded(format!("{what}, access blocked"));
        let phase = VolumePhase::Repairing(progress);
        assert_eq!(phase.condition(false, None), degraded);
    }
}

fn volume(resource: &str) -> VolumeState {
    VolumeState {
        resource: resource.to_owned(),
        device: "/dev/x".to_owned(),
        found: None,
        directory: "/x".into(),
        fstype: None,
        phase: VolumePhase::Attached,
        leaves: false,
        degraded: None,
        defect: None,
    }
}

#[test]
fn what_a_message_has_no_room_for_is_left_out_and_counted() {
    let resources: Vec<String> = (0..100).map(|n| format!("data{n}")).collect();
    let members = resources.iter().map(|resource| MemberState {
        resource: resource.clone(),
        condition: Some(Condition::Running),
    });
    let state = CellState {
        vserver: "alpha".to_owned(),
        phase: CellPhase::Ready,
        members: members.collect(),
        volumes: resources.iter().map(|r| volume(r)).collect(),
        servers: Some(ServersState {
            resource: "alpha".to_owned(),
            phase: ServersPhase::Running,
            leaves: false,
            late: false,
            home: HomeState::Unknown,
            servers: vec![],
            exports: vec![],
            unserved: vec![Unserved {
                directory: "/x".to_owned(),
                why: "why".repeat(1000),
            }],
            fault: None,
            unchanged: None,
            shut: None,
        }),
        ..CellState::default()
    };
    let length = |state: &CellState| serde_json::to_vec(state).unwrap().len();
    assert_eq!(state.clone().within(2 * length(&state)), state);
    for limit in [0, 500, 5_000, 10_000, 20_000] {
        let told = state.clone().within(limit);
        assert!(length(&told) <= limit + 200, "{limit}: {}", length(&told));
        let kept = told.members.len() + told.volumes.len();
        let servers = told.servers.as_ref();
        let unserved = servers.map_or(1, |servers| 1 - servers.unserved.len());
        assert_eq!(told.left_out, 200 - kept + unserved, "{limit}");
        assert!(told.volumes.len() < 100 || limit == 20_000);
    }
    let told = state.clone().within(500);
    assert_eq!(told.condition("data0"), Some(&Condition::Running));
    assert_eq!(
        told.condition("data99"),
        None,
        "who is left out is not gone"
    );
    assert_eq!(state.condition("other"), Some(&Condition::Absent));
}

#[test]
fn one_long_text_leaves_room_for_all_others() {
    let volumes = ["one", "two", "three"].map(volume);
    let mut state = CellState {
        volumes: volumes.to_vec(),
        ..CellState::default()
    };
    state.volumes[0].degraded = Some("why".repeat(1000));
    let told = state.within(2000);
    assert_eq!((told.volumes.as_slice(), told.left_out), (&volumes[1..], 1));
}
