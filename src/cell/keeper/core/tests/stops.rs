//! A stop that fails costs the whole node: what ends, ends in time.

use super::*;

/// The cell's PID 1 is dead, which is the last thing that a stop waits for.
fn end(world: &mut World, stop: ClientId) {
    assert_eq!(world.reply(stop), None);
    assert!(world.cell.as_ref().unwrap().killed);
    world.cell_dies();
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    assert!(world.core.is_over());
    assert_eq!(world.reported, []);
}

#[test]
fn the_last_one_is_told_when_the_cell_is_gone_too() {
    let mut world = World::new();
    world.attach("one");
    world.attach("two");
    let first = world.ask(detach("two"));
    assert!(world.watched == ["one"]);
    world.obey(Ok(vec![]));
    assert_eq!(*condition(world.reply(first).unwrap()), Condition::Absent);
    let last = world.ask(detach("one"));
    world.take_done();
    let Order::Detach { patience, .. } = world.obey(Ok(vec![])) else {
        panic!("not detached");
    };
    assert_eq!(patience, CELL_KILLED * 2 / 3);
    assert_eq!(world.take_done(), ["retire", "kill cell"]);
    end(&mut world, last);
}

#[test]
fn what_can_not_be_detached_is_had_free_by_ending_the_cell() {
    let mut world = World::new();
    world.attach("one");
    let stop = world.ask(detach("one"));
    world.obey(Err("busy".to_owned()));
    end(&mut world, stop);
}

#[test]
fn what_is_not_detached_in_time_is_had_free_by_ending_the_cell() {
    let mut world = World::new();
    world.attach("one");
    let stop = world.ask(detach("one"));
    world.pass(CELL_KILLED - Duration::from_millis(1));
    assert!(!world.cell.as_ref().unwrap().killed);
    world.pass(Duration::from_millis(1));
    end(&mut world, stop);
}

#[test]
fn what_is_stopped_while_it_is_attached_is_detached_or_the_cell_ends() {
    let mut world = World::new();
    world.attach("one");
    world.ask(attach("two"));
    world.mounted("two", found("two"));
    let stop = world.ask(detach("two"));
    world.take_done();
    world.obey(Ok(vec![]));
    assert_eq!(world.take_done(), ["detach"]);
    world.obey(Ok(vec![]));
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);

    world.ask(attach("three"));
    world.mounted("three", found("three"));
    world.ask(detach("three"));
    world.pass(CELL_KILLED);
    assert!(world.cell.as_ref().unwrap().killed);
}

#[test]
fn a_stop_that_takes_too_long_is_told_so_in_time() {
    let mut world = World::new();
    world.attach("one");
    let stop = world.ask(detach("one"));
    world.pass(BUDGET);
    let text = "still being detached, and time is up";
    assert_eq!(refusal(world.reply(stop).unwrap()), (Cause::Failed, text));
    // The next one does not put the end off.
    let stop = world.ask(detach("one"));
    world.cell_dies();
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
}

#[test]
fn a_killed_child_is_waited_for_before_a_stop_is_answered() {
    let mut world = World::new();
    let start = world.ask(attach("one"));
    let mounter = world.mounter("one");
    let stop = world.ask(detach("one"));
    world.turn();
    assert_eq!(world.take_done(), ["Mount one", "kill mounter"], "once");
    world.mount_ends(mounter, Err("the child that mounts: killed".to_owned()));
    assert_eq!(world.reply(stop), None, "it may still have the device");
    assert!(!world.core.is_over(), "somebody waits to be told");
    world.mounter_dies(mounter);
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    let text = "was stopped meanwhile";
    assert_eq!(refusal(world.reply(start).unwrap()), (Cause::Failed, text));
    assert!(world.core.is_over());
}

#[test]
fn what_is_being_stopped_is_neither_repaired_nor_mounted_again() {
    for outcome in [
        damaged("one"),
        Mounted::BeingChecked("b".to_owned()),
        found("one"),
    ] {
        let mut world = World::new();
        world.ask(attach("one"));
        let mounter = world.mounter("one");
        let stop = world.ask(detach("one"));
        world.take_done();
        // It was faster than its end.
        let mounts = matches!(outcome, Mounted::Done(_));
        world.mount_ends(mounter, Ok(outcome));
        let done = world.take_done();
        let expected = ["drop mount", "retire", "reply"];
        assert_eq!(done, expected[usize::from(!mounts)..]);
        world.mounter_dies(mounter);
        assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    }
}

#[test]
fn a_repair_that_ends_when_it_is_to_be_cut_off_leads_to_nothing() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    world.take_done();
    world.more = 1;
    world.tell(Event::Shutdown);
    world.repair_ends("one", Ok(Decision::Attach));
    assert_eq!(world.take_done(), ["retire"]);
    assert!(world.core.is_over());
}

#[test]
fn a_keeper_does_not_wait_for_children_that_nobody_wants_to_know_of() {
    let mut world = World::new();
    world.ask(attach("one"));
    let mounter = world.mounter("one");
    let stop = world.ask(detach("one"));
    world.mount_ends(mounter, Err("killed".to_owned()));
    assert!(!world.core.is_over());
    world.pass(BUDGET);
    let (_, why) = refusal(world.reply(stop).unwrap());
    assert!(why.ends_with("and time is up"), "{why}");
    assert!(world.core.is_over());
}

#[test]
fn what_is_mounted_and_not_attached_is_let_go_of_at_once() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", found("one"));
    let stop = world.ask(detach("one"));
    assert!(world.mounts.is_empty());
    end(&mut world, stop);
}

#[test]
fn a_repair_is_cut_off() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    world.condition("one");
    world.take_done();
    let stop = world.ask(detach("one"));
    assert_eq!(world.take_done(), ["cut off one", "retire", "reply"]);
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    assert_eq!(world.cleaned, ["one"], "it was told to be degraded");
}

#[test]
fn what_is_still_being_stopped_is_not_started() {
    let mut world = World::new();
    world.attach("one");
    world.ask(detach("one"));
    let reply = world.answer_to(attach("one"));
    let text = "this resource is still being stopped";
    assert_eq!(refusal(&reply), (Cause::Failed, text));
}

#[test]
fn who_is_no_member_has_stopped() {
    let mut world = World::new();
    world.attach("one");
    let reply = world.answer_to(detach("other"));
    assert_eq!(*condition(&reply), Condition::Absent);
    assert_eq!(world.condition("one"), Condition::Running);
}

#[test]
fn servers_end_before_what_they_serve_is_detached() {
    let mut world = World::new();
    world.attach("one");
    world.ask(export("one"));
    world.ask(serve(None));
    world.obey_all();
    let stop = world.ask(unserve());
    let home = world.ask(detach("one"));
    world.take_done();
    let Order::Halt { patience } = world.obey(Ok(vec![])) else {
        panic!("not halted");
    };
    assert_eq!(patience, CELL_KILLED * 2 / 3, "no more than there is");
    assert_eq!(world.take_done(), ["detach", "reply"]);
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    world.obey(Ok(vec![]));
    end(&mut world, home);
}

#[test]
fn what_servers_do_not_let_go_of_is_detached_when_the_cell_is_to_be_killed_anyhow() {
    let mut world = World::new();
    world.attach("one");
    world.ask(export("one"));
    world.ask(serve(None));
    world.obey_all();
    world.take_done();
    world.ask(detach("one"));
    world.pass(CELL_KILLED - Duration::from_millis(1));
    assert_eq!(world.take_done(), ["configure"], "they serve it");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.take_done(), ["detach", "kill cell"]);
}

#[test]
fn servers_that_do_not_end_in_time_are_ended_with_the_cell() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.obey_all();
    let stop = world.ask(unserve());
    world.pass(CELL_KILLED - Duration::from_millis(1));
    assert!(!world.cell.as_ref().unwrap().killed);
    world.pass(Duration::from_millis(1));
    assert!(world.cell.as_ref().unwrap().killed);
    world.cell_dies();
    assert_eq!(*condition(world.reply(stop).unwrap()), Condition::Absent);
    assert_eq!(world.reported, [("one".to_owned(), "its cell has ended")]);
}

#[test]
fn servers_that_were_not_started_have_ended_at_once() {
    let mut world = World::new();
    let start = world.ask(serve(Some("one")));
    world.ask(attach("one"));
    let (_, why) = refusal(world.reply(start).unwrap());
    assert_eq!(
        why,
        "parameter home: no file system is attached at /srv/one"
    );
    let reply = world.answer_to(unserve());
    assert_eq!(*condition(&reply), Condition::Absent);
}

#[test]
fn a_node_that_goes_down_ends_all_and_reports_nothing() {
    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.obey_all();
    world.tell(Event::Shutdown);
    assert_eq!(world.watched, [""; 0]);
    let Order::Halt { patience } = world.obey(Ok(vec![])) else {
        panic!("not halted");
    };
    assert_eq!(patience, SHUTDOWN_LIMIT / 2);
    world.obey(Ok(vec![]));
    world.cell_dies();
    assert!(world.core.is_over());
    assert_eq!(world.reported, []);
}

#[test]
fn a_node_that_goes_down_waits_ten_seconds_for_servers_and_twenty_for_file_systems() {
    let mut world = World::new();
    world.attach("one");
    world.tell(Event::Shutdown);
    world.pass(SHUTDOWN_LIMIT * 2 - Duration::from_millis(1));
    assert!(!world.cell.as_ref().unwrap().killed);
    world.pass(Duration::from_millis(1));
    assert!(world.cell.as_ref().unwrap().killed);

    let mut world = World::new();
    world.attach("one");
    world.ask(serve(None));
    world.obey_all();
    world.tell(Event::Shutdown);
    world.pass(SHUTDOWN_LIMIT);
    assert!(world.cell.as_ref().unwrap().killed);
}
