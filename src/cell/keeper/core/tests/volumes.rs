//! A file system on its way into service, and kept from it.

use super::*;
use crate::plan::repair::Finding;

#[test]
fn a_file_system_is_mounted_then_attached_in_a_cell_then_answered_for() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    assert_eq!(world.take_done(), ["Mount one"]);
    assert_eq!(
        world.condition("one"),
        Condition::Changing("being attached".to_owned())
    );
    world.take_done();
    world.mounted("one", found("one"));
    assert_eq!(world.take_done(), ["spawn cell"]);
    world.build();
    assert_eq!(world.take_done(), ["attach"]);
    assert_eq!(world.reply(client), None);
    world.obey(Ok(vec![]));
    assert_eq!(
        *world.reply(client).unwrap(),
        Reply::Member {
            condition: Condition::Running,
            device: Some(PathBuf::from("/dev/one")),
            init: Some(77),
            inspects: true,
        }
    );
    assert_eq!(world.watched, ["one"]);
}

#[test]
fn before_the_groups_are_made_no_cell_is_begun() {
    let mut world = World::new();
    world.groups = (false, false);
    world.ask(attach("one"));
    world.mounted("one", found("one"));
    assert!(world.cell.is_none());
    world.groups = (true, false);
    world.turn();
    assert!(world.cell.is_some());
}

#[test]
fn what_can_not_be_begun_is_no_member_and_the_keeper_goes_on_waiting_for_its_first() {
    let mut world = World::new();
    world.refuses = true;
    let reply = world.answer_to(attach("one"));
    assert_eq!(refusal(&reply), (Cause::Failed, "start a child: no room"));
    assert_eq!(world.condition("one"), Condition::Absent);
    world.pass(FIRST_MEMBER_LIMIT - Duration::from_millis(1));
    assert!(!world.retired);
    world.pass(Duration::from_millis(1));
    assert!(world.core.is_over());
}

#[test]
fn a_start_that_fails_is_refused_with_its_cause_and_forgotten() {
    let said = |why: &str| why.to_owned();
    for (outcome, cause, why) in [
        (
            Ok(Mounted::Refused(Cause::Node, said("no such device"))),
            Cause::Node,
            "no such device",
        ),
        (
            Ok(Mounted::Refused(Cause::Parameters, said("options"))),
            Cause::Parameters,
            "options",
        ),
        (
            Ok(Mounted::Elsewhere(said("mounted on b"))),
            Cause::Failed,
            "mounted on b",
        ),
        (
            Ok(Mounted::Unmended(said("bad"), false)),
            Cause::Node,
            "its storage cannot be read: bad",
        ),
        (
            Err(said("the child ended")),
            Cause::Failed,
            "the child ended",
        ),
    ] {
        let mut world = World::new();
        let client = world.ask(attach("one"));
        let mounter = world.mounter("one");
        world.mount_ends(mounter, outcome);
        assert_eq!(refusal(world.reply(client).unwrap()), (cause, why));
        world.mounter_dies(mounter);
        assert!(world.core.is_over(), "that was the only one");
    }
}

#[test]
fn a_start_is_answered_when_a_repair_has_begun_and_the_rest_goes_by_itself() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    assert_eq!(world.take_done(), ["Mount one", "repair one", "reply"]);
    let degraded = Condition::Degraded("saving, access blocked".to_owned());
    assert_eq!(*condition(world.reply(client).unwrap()), degraded);
    assert_eq!(world.condition("one"), degraded);
    world.take_done();

    world.repair_ends("one", Ok(Decision::Attach));
    assert_eq!(world.take_done(), ["MountRepaired one"]);
    let why = "being attached after its repair".to_owned();
    assert_eq!(world.condition("one"), Condition::Degraded(why));
    world.mounted("one", found("one"));
    world.build();
    world.obey_all();
    assert_eq!(world.cleaned, [""; 0]);
    assert_eq!(world.condition("one"), Condition::Running);
    assert_eq!(world.condition("one"), Condition::Running);
    assert_eq!(world.cleaned, ["one"], "once");
}

#[test]
fn the_device_is_told_while_it_is_repaired_or_blocked_before_its_first_mount() {
    let told = |world: &mut World| match world.answer_to(status("one")) {
        Reply::Member { device, .. } => device,
        other => panic!("no member: {other:?}"),
    };
    let device = Some(PathBuf::from("/dev/one"));
    let mut world = World::new();
    let client = world.ask(attach("one"));
    assert_eq!(told(&mut world), None, "it is being looked for");
    world.mounted("one", damaged("one"));
    let reply = world.reply(client);
    assert!(matches!(reply, Some(Reply::Member { device: at, .. }) if *at == device));
    assert_eq!(told(&mut world), device, "it is being repaired");
    let blocked = Decision::Block("more than a preen may mend".to_owned());
    world.repair_ends("one", Ok(blocked));
    assert_eq!(told(&mut world), device, "it is being looked at");
    let unmended = Mounted::Unmended("more than a preen may mend".to_owned(), true);
    world.mounted("one", unmended);
    assert_eq!(told(&mut world), device, "it is blocked");

    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    let blocked = Decision::Block("more than a preen may mend".to_owned());
    world.repair_ends("one", Ok(blocked));
    let unread = Mounted::Unmended("its head can't be read".to_owned(), false);
    world.mounted("one", unread);
    assert_eq!(told(&mut world), None, "its node may lead elsewhere");
}

#[test]
fn a_repair_that_can_not_be_started_fails_the_start_with_its_cause() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    world.refuses = true;
    world.mounted("one", damaged("one"));
    let text = "its repair can't be started on this node: not installed";
    assert_eq!(
        refusal(world.reply(client).unwrap()),
        (Cause::Missing, text)
    );
}

#[test]
fn what_a_repair_could_not_mend_is_blocked_as_long_as_its_device_can_be_read() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    world.repair_ends("one", Ok(Decision::Block("too bad".to_owned())));
    assert_eq!(world.take_done().last().unwrap(), "Look(\"too bad\") one");
    let why = "access blocked: too bad".to_owned();
    let blocked = Condition::Degraded(why);
    assert_eq!(world.condition("one"), blocked);
    world.mounted("one", Mounted::Unmended("too bad".to_owned(), true));
    assert_eq!(world.condition("one"), blocked);
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.condition("one"), blocked);
}

#[test]
fn storage_that_fails_after_the_start_is_tried_again_ever_later_and_not_for_ever() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", damaged("one"));
    world.repair_ends("one", Ok(Decision::Wait("gone".to_owned())));
    for pause in [5, 10, 20, 40, 80, 160] {
        let why = "access blocked, to be tried again: gone".to_owned();
        assert_eq!(world.condition("one"), Condition::Degraded(why));
        world.take_done();
        world.pass(Duration::from_secs(pause) - Duration::from_millis(1));
        assert_eq!(world.take_done(), [""; 0], "after {pause} s");
        world.pass(Duration::from_millis(1));
        assert_eq!(world.take_done(), ["Mount one"], "after {pause} s");
        world.mounted("one", Mounted::Refused(Cause::Node, "gone".to_owned()));
    }
    assert_eq!(world.condition("one"), Condition::Failed("gone".to_owned()));
}

/// It can't be mounted for what is damaged.
fn unmountable() -> Mounted {
    Mounted::Unsound {
        path: PathBuf::from("/dev/one"),
        kind: FsKind::Ext4,
        mmp: false,
        defect: Defect::Unmountable(Examined {
            finding: Finding::Damage { log: false },
            said: "bad magic".to_owned(),
        }),
    }
}

#[test]
fn what_can_not_be_mounted_after_its_repair_is_not_repaired_for_ever() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", unmountable());
    world.repair_ends("one", Ok(Decision::Attach));
    world.take_done();
    world.mounted("one", unmountable());
    assert_eq!(world.take_done(), [""; 0]);
    let Condition::Degraded(why) = world.condition("one") else {
        panic!("not kept");
    };
    assert!(why.starts_with("access blocked: "), "{why}");
}

#[test]
fn storage_that_was_away_may_have_come_back_with_new_damage() {
    let mut world = World::new();
    world.ask(attach("one"));
    world.mounted("one", unmountable());
    world.repair_ends("one", Ok(Decision::Wait("gone".to_owned())));
    world.pass(Duration::from_secs(5));
    world.take_done();
    world.mounted("one", unmountable());
    assert_eq!(world.take_done(), ["repair one"]);
}

#[test]
fn a_mark_of_a_check_is_watched_after_the_start_is_answered() {
    let mut world = World::new();
    let client = world.ask(attach("one"));
    world.mounted("one", Mounted::BeingChecked("b".to_owned()));
    assert_eq!(world.take_done(), ["Mount one", "Watch one", "reply"]);
    let why = "access blocked: a check on node b may be at work".to_owned();
    assert_eq!(
        *condition(world.reply(client).unwrap()),
        Condition::Degraded(why)
    );
}

#[test]
fn a_resource_is_asked_for_again_and_again_with_the_same_result() {
    let mut world = World::new();
    world.attach("one");
    world.take_done();
    let reply = world.answer_to(attach("one"));
    assert_eq!(*condition(&reply), Condition::Running);
    assert_eq!(world.take_done(), ["reply"]);
    let Request::Attach {
        member,
        mut volume,
        budget,
    } = attach("one")
    else {
        unreachable!()
    };
    volume.device = "/dev/other".parse().unwrap();
    let reply = world.answer_to(Request::Attach {
        member,
        volume,
        budget,
    });
    let text = "this resource already has /dev/one at /srv/one: stop it first";
    assert_eq!(refusal(&reply), (Cause::Failed, text));
}

#[test]
fn two_file_systems_share_neither_device_nor_directory() {
    let mut world = World::new();
    world.attach("one");
    let mut ask = |device: &str, at: &str| {
        let mut wanted = volume("other");
        wanted.device = device.parse().unwrap();
        wanted.directory = PathBuf::from(at);
        let reply = world.answer_to(Request::Attach {
            member: member("other"),
            volume: wanted,
            budget: BUDGET,
        });
        let (cause, why) = refusal(&reply);
        assert_eq!(cause, Cause::Parameters);
        why.to_owned()
    };
    assert_eq!(
        ask("/dev/one", "/srv/other"),
        "parameter device: /dev/one is that of one already"
    );
    for at in ["/srv/one", "/srv/one/below", "/srv"] {
        let why = ask("/dev/other", at);
        assert!(why.starts_with("parameter directory: "), "{why}");
    }
    assert_eq!(world.condition("other"), Condition::Absent);
}

#[test]
fn a_failed_file_system_is_started_anew() {
    let mut world = World::new();
    world.attach("one");
    world.cell_dies();
    world.attach("one");
    assert_eq!(world.reported, [("one".to_owned(), "its cell has ended")]);
}
