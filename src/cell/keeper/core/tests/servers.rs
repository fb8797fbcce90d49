//! Servers start when their home is there, take up what changes, and end.

use super::*;
use crate::cell::refused::Refused;
use crate::cell::service;

/// A world with a file system in service, and servers that run.
fn serving() -> World {
    let mut world = World::new();
    world.attach("one");
    let start = world.ask(serve(None));
    world.obey_all();
    let reply = world.reply(start).unwrap();
    assert_eq!(*condition(reply), Condition::Running);
    world.take_done();
    world
}

fn launches() -> Vec<String> {
    let launches = service::launches(&spec()).into_iter();
    launches.map(|l| format!("launch {}", l.name)).collect()
}

#[test]
fn clients_are_let_in_before_servers_start() {
    let mut world = World::new();
    world.attach("one");
    world.take_done();
    let start = world.ask(serve(None));
    assert_eq!(world.take_done(), ["admit", "prepare"]);
    world.obey(Ok(vec![]));
    assert_eq!(world.take_done(), ["configure"]);
    world.obey(Ok(vec![]));
    assert_eq!(world.take_done(), [""; 0], "nobody is let in yet");
    world.admitted(Admission::Done);
    assert_eq!(world.take_done(), launches());
    world.obey_all();
    assert_eq!(*condition(world.reply(start).unwrap()), Condition::Running);
}

#[test]
fn servers_that_nobody_can_be_let_in_to_are_not_started() {
    let mut world = World::new();
    world.attach("one");
    let start = world.ask(serve(None));
    let missing = Admission::Failed(Cause::Missing, "nft: not installed".to_owned());
    world.admitted(missing);
    world.obey(Ok(vec![]));
    world.obey(Ok(vec![]));
    let reply = world.reply(start).unwrap();
    assert_eq!(refusal(reply), (Cause::Missing, "nft: not installed"));
    let done = world.take_done();
    assert!(!done.iter().any(|d| d.starts_with("launch")), "{done:?}");
}

#[test]
fn a_change_of_what_is_let_in_that_was_late_is_tried_again_at_once() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.take_done();
    world.admitted(Admission::Late("nft takes long".to_owned()));
    assert_eq!(world.take_done(), ["admit"]);
}

#[test]
fn nothing_of_them_starts_before_the_limits_are_in_force() {
    let mut world = World::new();
    world.attach("one");
    world.groups = (true, false);
    world.take_done();
    let start = world.ask(serve(None));
    assert_eq!(world.take_done(), ["admit"]);
    world.groups = (true, true);
    world.turn();
    assert_eq!(world.take_done(), ["prepare"]);
    world.obey_all();
    assert!(world.reply(start).is_some());

    world.groups = (true, false);
    let limit = world.ask(Request::Limit {
        resource: "alpha".into(),
        limits: Limits::default(),
        budget: BUDGET,
    });
    assert_eq!(world.reply(limit), None);
    // What is to end does not wait for that.
    world.ask(unserve());
    assert_eq!(world.take_done().last().unwrap(), "halt");
    world.groups = (true, true);
    world.turn();
    assert!(world.reply(limit).is_some());
}

#[test]
fn a_home_must_be_told_from_others_and_be_there() {
    let mut world = World::new();
    world.attach("one");
    world.attach("two");
    let reply = world.answer_to(serve(None));
    let text = "parameter home: must name one of several file systems: /srv/one, /srv/two";
    assert_eq!(refusal(&reply), (Cause::Parameters, text));
    let reply = world.answer_to(serve(Some("other")));
    let text = "parameter home: no file system is attached at /srv/other";
    assert_eq!(refusal(&reply), (Cause::Failed, text));
    let start = world.ask(serve(Some("two")));
    world.obey_all();
    assert_eq!(*condition(world.reply(start).unwrap()), Condition::Running);
}

#[test]
fn servers_whose_home_is_being_repaired_are_started_when_it_is_in_service() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    let start = world.ask(serve(None));
    let why = "waiting for home: saving, access blocked".to_owned();
    assert_eq!(
        *condition(world.reply(start).unwrap()),
        Condition::Degraded(why)
    );
    world.repair_ends("one", Ok(Decision::Attach));
    world.mounted("one", found("one"));
    world.build();
    world.obey(Ok(vec![]));
    let why = "being started, now that home is in service".to_owned();
    assert_eq!(world.condition("alpha"), Condition::Degraded(why));
    world.obey_all();
    assert_eq!(world.condition("alpha"), Condition::Running);
    assert_eq!(world.cleaned, ["alpha"]);
}

#[test]
fn servers_that_fail_after_their_start_was_answered_are_reported() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    world.ask(serve(None));
    world.repair_ends("one", Ok(Decision::Attach));
    world.mounted("one", found("one"));
    world.build();
    world.obey(Ok(vec![]));
    world.obey(Err("no room".to_owned()));
    let why = "its servers could not be started";
    assert_eq!(world.reported, [("alpha".to_owned(), why)]);
    assert_eq!(
        world.condition("alpha"),
        Condition::Failed("no room".to_owned())
    );
}

#[test]
fn servers_that_can_not_be_started_are_refused_ended_and_forgotten() {
    let mut world = World::new();
    world.attach("one");
    let start = world.ask(serve(None));
    world.take_done();
    world.obey(Err("no room".to_owned()));
    let reply = world.reply(start).unwrap();
    assert_eq!(refusal(reply), (Cause::Failed, "no room"));
    assert_eq!(world.take_done(), ["halt", "reply"]);
    assert_eq!(world.reported, []);
    world.obey(Ok(vec![]));
    assert_eq!(world.condition("alpha"), Condition::Absent);
    assert_eq!(world.watched, ["one"]);
}

#[test]
fn what_is_left_of_servers_that_could_not_be_started_has_five_seconds() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.obey(Err("no room".to_owned()));
    world.pass(Duration::from_secs(5) - Duration::from_millis(1));
    assert!(!world.cell.as_ref().unwrap().killed);
    world.pass(Duration::from_millis(1));
    assert!(world.cell.as_ref().unwrap().killed);
}

#[test]
fn a_server_that_ends_by_itself_is_reported_once_and_all_are_ended() {
    let mut world = serving();
    for _ in 0..2 {
        world.say(protocol::Event::Died {
            server: "smbd".to_owned(),
            how: "signal 11".to_owned(),
        });
    }
    let why = "one of its servers has ended";
    assert_eq!(world.reported, [("alpha".to_owned(), why)]);
    assert_eq!(world.take_done(), ["halt"]);
    let why = "server smbd has ended: signal 11".to_owned();
    assert_eq!(world.condition("alpha"), Condition::Failed(why));
    // They are not reported again with their cell.
    world.cell_dies();
    let why = "its cell has ended";
    assert_eq!(world.reported[1..], [("one".to_owned(), why)]);
}

#[test]
fn a_server_that_ends_while_they_are_stopped_is_not_reported() {
    let mut world = serving();
    world.ask(unserve());
    world.say(protocol::Event::Died {
        server: "smbd".to_owned(),
        how: "code 0".to_owned(),
    });
    assert_eq!(world.reported, []);
}

#[test]
fn a_change_of_exports_is_answered_when_the_servers_have_been_asked_for_them() {
    let mut world = serving();
    let client = world.ask(export("one"));
    assert_eq!(world.take_done(), ["admit"]);
    world.admitted(Admission::Done);
    let mut done = world.take_done();
    while !world.cell.as_ref().unwrap().orders.is_empty() {
        assert_eq!(world.reply(client), None);
        world.obey(Ok(vec![]));
        done.extend(world.take_done());
    }
    assert_eq!(done, ["configure", "change", "inspect", "reply"]);
    assert_eq!(*condition(world.reply(client).unwrap()), Condition::Running);
    let reply = world.answer_to(export("none"));
    assert_eq!(*condition(&reply), Condition::Absent);
}

#[test]
fn what_is_not_served_degrades_its_file_system_and_is_looked_at_again_for_who_asks() {
    let mut world = serving();
    let client = world.ask(export("one"));
    world.admitted(Admission::Done);
    world.obey(Ok(vec![]));
    world.obey(Ok(vec![]));
    world.obey(Ok(vec![Refused {
        directory: "/srv/one".to_owned(),
        protocol: crate::cell::probe::Protocol::Smb,
        definite: true,
        why: "no share".to_owned(),
    }]));
    let degraded = Condition::Degraded("no share".to_owned());
    assert_eq!(*condition(world.reply(client).unwrap()), degraded);
    world.take_done();
    for resource in ["one", "alpha"] {
        assert_eq!(world.condition(resource), degraded);
    }
    assert_eq!(world.take_done(), ["reply", "reply"], "not that often");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.condition("one"), degraded);
    assert_eq!(world.take_done(), ["inspect", "reply"]);
    world.obey_all();
    for resource in ["one", "alpha"] {
        assert_eq!(world.condition(resource), Condition::Running);
    }
    assert_eq!(world.cleaned, ["one", "alpha"]);
}

#[test]
fn a_file_system_that_leaves_is_exported_no_more_before_it_is_detached() {
    let mut world = World::new();
    world.attach("home");
    world.ask(serve(Some("home")));
    world.obey_all();
    world.attach("one");
    world.ask(export("one"));
    world.obey_all();
    world.take_done();
    let stop = world.ask(detach("one"));
    world.obey_all();
    let done = world.take_done();
    let at = |word: &str| done.iter().position(|d| d == word).unwrap();
    assert!(at("change") < at("detach"), "{done:?}");
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    assert_eq!(world.condition("alpha"), Condition::Running);
}

#[test]
fn a_cell_has_the_servers_of_one_resource() {
    let mut world = serving();
    let reply = world.answer_to(serve(None));
    assert_eq!(*condition(&reply), Condition::Running, "the same ones");
    let Request::Serve {
        spec, home, budget, ..
    } = serve(None)
    else {
        unreachable!()
    };
    let other = Request::Serve {
        member: member("beta"),
        spec,
        home,
        budget,
    };
    let reply = world.answer_to(other);
    let text = "the cell already has the servers of alpha: stop them first";
    assert_eq!(refusal(&reply), (Cause::Failed, text));
}

#[test]
fn a_new_cell_lets_nobody_in_until_it_is_told_to() {
    let mut world = serving();
    world.cell_dies();
    world.ask(unserve());
    world.attach("one");
    world.take_done();
    world.ask(serve(None));
    assert_eq!(world.take_done(), ["admit", "prepare"]);
}

#[test]
fn a_child_that_changes_what_is_let_in_ends_with_its_cell() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    assert!(world.admitting);
    world.cell_dies();
    world.ask(unserve());
    world.attach("one");
    world.ask(serve(None));
    assert!(world.admitting, "of the new cell");
}

/// Has a file system attached that is exported, beside servers that run: who asked for it.
fn attach_exported(world: &mut World) -> ClientId {
    let mut wanted = volume("two");
    wanted.export = exported("two");
    let client = world.ask(Request::Attach {
        member: member("two"),
        volume: wanted,
        budget: BUDGET,
    });
    world.mounted("two", found("two"));
    world.obey(Ok(vec![]));
    assert_eq!(world.condition("two"), Condition::Running);
    client
}

#[test]
fn a_start_is_answered_when_the_servers_that_run_have_taken_it_up() {
    let mut world = serving();
    let start = attach_exported(&mut world);
    while world.admitting || !world.cell.as_ref().unwrap().orders.is_empty() {
        assert_eq!(world.reply(start), None, "they are not asked for it yet");
        match world.admitting {
            true => world.admitted(Admission::Done),
            false => drop(world.obey(Ok(vec![]))),
        }
    }
    let reply = world.reply(start).unwrap();
    assert_eq!(*condition(reply), Condition::Running);
}

#[test]
fn a_start_does_not_fail_because_servers_are_slow() {
    let mut world = serving();
    let start = attach_exported(&mut world);
    world.pass(BUDGET);
    let reply = world.reply(start).unwrap();
    assert_eq!(*condition(reply), Condition::Running);
}

#[test]
fn what_could_not_be_let_in_is_tried_again_for_who_asks_after_a_while() {
    let mut world = serving();
    world.ask(export("one"));
    let failed = Admission::Failed(Cause::Failed, "nft: busy".to_owned());
    world.admitted(failed);
    world.obey_all();
    let degraded = Condition::Degraded("nft: busy".to_owned());
    world.take_done();
    for resource in ["one", "alpha"] {
        assert_eq!(world.condition(resource), degraded);
    }
    assert_eq!(world.take_done(), ["reply", "reply"], "not that often");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.condition("one"), degraded);
    assert_eq!(world.take_done(), ["admit", "reply"]);
    world.admitted(Admission::Done);
    assert_eq!(world.condition("one"), Condition::Running);
}

#[test]
fn who_has_the_servers_asked_is_told_in_time_whatever_they_say() {
    let mut world = serving();
    world.ask(export("one"));
    world.obey_all();
    let client = world.ask(Request::Inspect {
        resource: "alpha".into(),
        budget: BUDGET,
    });
    assert_eq!(world.take_done().last().unwrap(), "inspect");
    assert_eq!(world.reply(client), None);
    world.pass(BUDGET);
    let reply = world.reply(client).unwrap();
    assert_eq!(*condition(reply), Condition::Running);
}
