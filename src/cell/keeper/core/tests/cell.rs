//! A cell is begun, and is lost.

use super::*;

#[test]
fn a_cell_that_can_not_be_started_fails_the_start() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    world.refuses = true;
    world.mounted("one", found("one"));
    let text = "start the cell's PID 1: no room";
    assert_eq!(refusal(world.reply(client).unwrap()), (Cause::Failed, text));
    assert!(world.mounts.is_empty());
    assert!(world.core.is_over());
}

#[test]
fn a_cell_that_is_not_built_in_time_is_ended_and_the_start_refused() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    world.mounted("one", found("one"));
    world.pass(Duration::from_secs(20) - Duration::from_millis(1));
    assert_eq!(world.reply(client), None);
    world.pass(Duration::from_millis(1));
    let text = "build the cell: not finished in time";
    assert_eq!(refusal(world.reply(client).unwrap()), (Cause::Failed, text));
    assert!(world.cell.as_ref().unwrap().killed);
    assert!(!world.core.is_over(), "its cell is still there");
    world.cell_dies();
    assert!(world.core.is_over());
}

#[test]
fn a_cell_without_a_network_or_that_says_so_is_ended() {
    for (event, refuses, why) in [
        (
            protocol::Event::Separate,
            true,
            "connect the cell's network: no room",
        ),
        (
            protocol::Event::Broken("no root".to_owned()),
            false,
            "build the cell: no root",
        ),
    ] {
        let mut world = World::new();
        let client = world.ask(attach("one"));
        world.mounted("one", found("one"));
        world.refuses = refuses;
        world.say(event);
        assert_eq!(refusal(world.reply(client).unwrap()), (Cause::Failed, why));
        assert!(world.cell.as_ref().unwrap().killed);
    }
}

#[test]
fn a_child_that_mounts_for_a_cell_that_can_not_be_built_is_killed_and_waited_for() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", found("one"));
    world.ask(attach("two"));
    let mounter = world.mounter("two");
    world.say(protocol::Event::Broken("no root".to_owned()));
    assert!(world.mounters[&mounter].killed);
    let stop = world.ask(detach("two"));
    world.cell_dies();
    assert_eq!(world.reply(stop), None, "the child may have the device");
    // It was faster than its end.
    world.mount_ends(mounter, Ok(found("two")));
    assert_eq!(world.reply(stop), None, "the child may have the device");
    world.mounter_dies(mounter);
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
}

#[test]
fn what_pid_1_does_not_take_goes_to_the_next_cell() {
    let mut world = World::new();
    world.attach("one");
    let client = world.ask(attach("two"));
    world.refuses = true;
    world.mounted("two", found("two"));
    assert!(world.cell.as_ref().unwrap().killed);
    let text = "/srv/two: no room; ending the cell".to_owned();
    assert_eq!(world.log.last().unwrap(), &(Level::Error, text));
    world.refuses = false;
    world.take_done();
    world.turn();
    assert_eq!(world.take_done(), [""; 0], "a killed cell is given nothing");
    world.cell_dies();
    assert_eq!(world.reported, [("one".to_owned(), "its cell has ended")]);
    world.build();
    world.obey_all();
    assert_eq!(*condition(world.reply(client).unwrap()), Condition::Running);
}

#[test]
fn an_end_that_is_not_taken_ends_the_cell() {
    let mut world = World::new();
    world.attach("one");
    world.refuses = true;
    let stop = world.ask(detach("one"));
    assert!(world.cell.as_ref().unwrap().killed);
    assert_eq!(world.reply(stop), None);
    world.cell_dies();
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    assert_eq!(world.reported, []);
}

#[test]
fn a_cell_that_is_lost_is_reported_once_for_each_who_was_to_stay() {
    let mut world = World::new();
    for resource in ["one", "two", "three"] {
        world.attach(resource);
    }
    world.ask(detach("two"));
    world.cell_dies();
    let why = "its cell has ended";
    let lost = [("one".to_owned(), why), ("three".to_owned(), why)];
    assert_eq!(world.reported, lost);
    let failed = Condition::Failed("the cell has ended: its PID 1 has died".to_owned());
    assert_eq!(world.condition("one"), failed);
    assert_eq!(world.condition("two"), Condition::Absent);
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.reported, lost);
    assert!(world.cell.is_none(), "nobody has asked for another one");
}

#[test]
fn a_cell_that_is_not_understood_is_ended() {
    let mut world = World::new();
    world.attach("one");
    world.tell(Event::CellGarbled("not a message".to_owned()));
    assert!(world.cell.as_ref().unwrap().killed);
}

#[test]
fn who_asks_for_the_cell_is_told_when_it_is_built_or_that_there_is_none() {
    let mut world = World::new();
    assert_eq!(world.answer_to(Request::Find), Reply::NoCell);
    world.ask(attach("one"));
    world.mounted("one", found("one"));
    let finder = world.ask(Request::Find);
    world.build();
    let init = 77;
    let directories = vec![];
    let cell = Reply::Cell { init, directories };
    assert_eq!(world.reply(finder), Some(&cell));
    world.obey_all();
    let directories = vec![directory("one")];
    let cell = Reply::Cell { init, directories };
    assert_eq!(world.answer_to(Request::Find), cell);
}

#[test]
fn who_asks_for_a_cell_that_is_not_built_soon_waits_for_five_seconds() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", found("one"));
    let finder = world.ask(Request::Find);
    world.pass(Duration::from_secs(5));
    let text = "the cell is still being built, and time is up";
    assert_eq!(refusal(world.reply(finder).unwrap()), (Cause::Failed, text));
}

#[test]
fn a_keeper_that_nobody_needs_ends_and_sends_who_comes_late_to_the_next_one() {
    let mut world = World::new();
    world.pass(FIRST_MEMBER_LIMIT);
    assert!(world.retired && world.core.is_over());
    for request in [attach("one"), serve(None)] {
        let client = world.ask(request);
        assert!(world.agents[&client].gone);
    }
}

#[test]
fn an_agent_that_has_gone_is_not_answered_and_what_it_began_goes_on() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    world.agents.get_mut(&client).unwrap().gone = true;
    world.tell(Event::ClientGone(client));
    world.mounted("one", found("one"));
    world.build();
    world.obey_all();
    assert_eq!(world.condition("one"), Condition::Running);
}

#[test]
fn a_keeper_on_its_way_out_has_nothing_to_do_until_the_cell_that_was_being_built_is_dead() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", found("one"));
    world.tell(Event::Shutdown);
    assert!(world.retired && world.cell.as_ref().unwrap().killed);
    assert_eq!(world.core.due(), None);
    world.cell_dies();
    assert!(world.core.is_over());
}

#[test]
fn a_sentinel_that_has_died_is_replaced_and_told_whom_to_watch() {
    let mut world = World::new();
    world.attach("one");
    world.take_done();
    world.sentinel_dies();
    assert_eq!(world.take_done(), ["spawn sentinel"]);
    assert!(world.watched == ["one"]);
    assert_eq!(world.core.due(), None);
}

#[test]
fn a_sentinel_that_can_not_be_started_is_tried_again_now_and_then() {
    let mut world = World::new();
    world.attach("one");
    world.take_done();
    world.refuses = true;
    world.sentinel_dies();
    world.pass(SENTINEL_PAUSE - Duration::from_millis(1));
    assert_eq!(world.take_done(), ["spawn sentinel"], "once");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.take_done(), ["spawn sentinel"]);
    let errors = world.log.iter().filter(|(level, _)| *level == Level::Error);
    let errors: Vec<&String> = errors.map(|(_, line)| line).collect();
    assert_eq!(errors, ["start the sentinel: no room"; 2]);
    world.refuses = false;
    world.pass(SENTINEL_PAUSE);
    assert_eq!(world.take_done(), ["spawn sentinel"]);
    assert!(world.watched == ["one"]);
    assert_eq!(world.core.due(), None, "it is there");
}

#[test]
fn a_keeper_on_its_way_out_starts_no_sentinel() {
    let mut world = World::new();
    world.refuses = true;
    world.sentinel_dies();
    world.refuses = false;
    world.take_done();
    world.pass(FIRST_MEMBER_LIMIT);
    assert!(world.core.is_over());
    assert_eq!(world.core.due(), None);
}
