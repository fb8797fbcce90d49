use super::*;

fn value(text: &str) -> Value {
    Some(text.into())
}

fn attribute(name: &str) -> Attribute {
    Attribute::parse(name).unwrap()
}

#[test]
fn only_what_the_cluster_does_not_know_is_told_and_only_later_values_wait() {
    let (mut publisher, now) = (Publisher::default(), Instant::now());
    publisher.publish(Attribute::Ports, value("3"));
    let first = publisher.work().changes;
    assert_eq!(first[&Attribute::Ports], (value("3"), Duration::ZERO));
    let done = Done {
        published: [(Attribute::Ports, value("3"))].into(),
        ..Done::default()
    };
    publisher.take(Ok(done), now);
    assert!(publisher.is_done() && publisher.work().changes.is_empty());
    publisher.publish(Attribute::Ports, value("2"));
    let later = publisher.work().changes;
    assert_eq!(
        later[&Attribute::Ports],
        (value("2"), Duration::from_secs(1))
    );
}

#[test]
fn it_is_said_of_each_value_whether_the_cluster_was_told() {
    let (mut publisher, now) = (Publisher::default(), Instant::now());
    let said = |publisher: &Publisher| -> Vec<(Attribute, Value, bool)> {
        let all = publisher.attributes();
        all.map(|(name, value, told)| (name.clone(), value.clone(), told))
            .collect()
    };
    publisher.publish(Attribute::Ports, value("3"));
    publisher.publish(Attribute::Spare, None);
    let done = Done {
        published: [(Attribute::Ports, value("3"))].into(),
        ..Done::default()
    };
    publisher.take(Ok(done), now);
    let ports = (Attribute::Ports, value("3"), true);
    let spare = (Attribute::Spare, None, false);
    assert_eq!(said(&publisher), [ports, spare.clone()]);
    publisher.publish(Attribute::Ports, value("2"));
    let ports = (Attribute::Ports, value("2"), false);
    assert_eq!(said(&publisher), [ports, spare]);
}

#[test]
fn what_the_cluster_acts_on_at_once_goes_alone() {
    let mut publisher = Publisher::default();
    let net = || attribute("berth-net-office");
    let now = Instant::now();
    publisher.published = [(net(), (value("1"), now))].into();
    publisher.publish(net(), value("0"));
    publisher.publish(attribute("berth-heard-office"), value("0"));
    publisher.publish(Attribute::Ports, value("1"));
    publisher.query(attribute("berth-router-n1"));
    let work = publisher.work();
    assert_eq!(
        work.changes.into_keys().collect::<Vec<_>>(),
        [attribute("berth-net-office")]
    );
    assert!(work.questions.is_empty());
    publisher.published.insert(net(), (value("0"), now));
    let rest = publisher.work();
    assert_eq!((rest.changes.len(), rest.questions.len()), (2, 1));
}

#[test]
fn what_was_to_be_cleaned_up_meanwhile_is_cleaned_up_too() {
    let (mut publisher, now) = (Publisher::default(), Instant::now());
    let outcome = |cleaned| Done {
        cleaned,
        ..Done::default()
    };
    let begin = |publisher: &mut Publisher| {
        let one = publisher.work().clean_up.unwrap();
        publisher.cleaning = publisher.clean_up.remove_entry(&one);
    };
    publisher.clean_up("portwatch", &"n1".into());
    begin(&mut publisher);
    publisher.take(Ok(outcome(false)), now);
    assert!(!publisher.clean_up.is_empty(), "it failed");
    begin(&mut publisher);
    publisher.clean_up("portwatch", &"n1".into());
    publisher.take(Ok(outcome(true)), now);
    assert!(!publisher.clean_up.is_empty(), "another one");
    begin(&mut publisher);
    publisher.take(Ok(outcome(true)), now);
    assert!(publisher.clean_up.is_empty());
}

#[test]
fn cleaning_up_waits_for_everything_else_and_is_given_up() {
    let (mut publisher, now) = (Publisher::default(), Instant::now());
    publisher.clean_up("alpha-ip1", &"n1".into());
    publisher.query(attribute("berth-router-n1"));
    assert_eq!(publisher.work().clean_up, None);
    publisher.questions.clear();
    let tried = (0..10).take_while(|_| {
        let one = publisher.work().clean_up;
        publisher.cleaning = one.and_then(|one| publisher.clean_up.remove_entry(&one));
        let tried = publisher.cleaning.is_some();
        publisher.take(Ok(Done::default()), now);
        tried
    });
    assert_eq!(tried.count(), usize::from(CLEAN_UPS) + 1);
}

#[test]
fn a_question_stays_until_it_is_answered_and_a_failure_is_tried_again() {
    let (mut publisher, now) = (Publisher::default(), Instant::now());
    publisher.query(attribute("berth-addr-office"));
    let failed = Done {
        error: Some("no cluster".into()),
        ..Done::default()
    };
    publisher.take(Ok(failed), now);
    assert_eq!(publisher.next(), Some(now + AGAIN));
    assert_eq!(publisher.work().questions.len(), 1);
    let values: Values = [("n2".into(), "10.1.0.2".to_owned())].into();
    let answered = Done {
        answers: [(attribute("berth-addr-office"), values.clone())].into(),
        ..Done::default()
    };
    publisher.take(Ok(answered), now);
    assert!(publisher.work().questions.is_empty() && publisher.error().is_none());
    assert_eq!(publisher.answers()[&attribute("berth-addr-office")], values);
}

/// n1's publisher, which has told this, long ago.
fn settled(told: &[(&str, bool)]) -> (Publisher, Instant) {
    let (mut publisher, begun) = (Publisher::new(Some("n1".into())), Instant::now());
    for (name, private) in told {
        assert_eq!(attribute(name).is_private(), *private, "{name}");
        publisher.publish(attribute(name), value("1"));
    }
    let done = Done {
        published: publisher.wanted.clone(),
        ..Done::default()
    };
    publisher.take(Ok(done), begun);
    assert!(publisher.is_done());
    (publisher, begun + SETTLED)
}

#[test]
fn a_node_with_an_odd_name_counts_and_one_whose_name_can_not_be_used_is_passed_over() {
    let found = ["-n1", "n 2", "n3=a"].map(|node| (node.to_owned(), "1".to_owned()));
    let nodes: Vec<NodeName> = work::by_node(found.into()).into_keys().collect();
    assert_eq!(nodes, ["-n1", "n3=a"]);
}

fn changes(publisher: &Publisher) -> Vec<String> {
    let changes = publisher.work().changes.into_keys();
    changes.map(String::from).collect()
}

fn on_record(pairs: &[(&str, &str, &str)]) -> Surveyed {
    let mut all = Surveyed::new();
    for (name, node, value) in pairs {
        let of = all.entry(attribute(name)).or_default();
        of.insert((*node).into(), (*value).to_owned());
    }
    all
}

const TOLD: [(&str, bool); 4] = [
    ("berth-cell-alpha", true),
    ("berth-net-office", false),
    ("berth-ports", false),
    ("berth-router-n2", true),
];

#[test]
fn what_is_not_on_record_any_more_is_told_again_and_what_may_be_lost_with_it() {
    for (found, again) in [
        (
            &[("berth-ports", "n1", "1"), ("berth-net-office", "n1", "1")][..],
            &[][..],
        ),
        (
            &[("berth-ports", "n1", "1"), ("berth-net-office", "n2", "1")],
            &["berth-cell-alpha", "berth-net-office", "berth-router-n2"],
        ),
        (
            &[("berth-ports", "n1", "0"), ("berth-net-office", "n1", "1")],
            &["berth-cell-alpha", "berth-ports", "berth-router-n2"],
        ),
        (
            &[],
            &[
                "berth-cell-alpha",
                "berth-net-office",
                "berth-ports",
                "berth-router-n2",
            ],
        ),
    ] {
        let (mut publisher, later) = settled(&TOLD);
        publisher.survey();
        assert_eq!(publisher.work().survey.as_deref(), Some("n1"));
        let done = Done {
            surveyed: Some(on_record(found)),
            ..Done::default()
        };
        publisher.take(Ok(done), later);
        assert_eq!(changes(&publisher), again, "{found:?}");
        assert!(publisher.work().survey.is_none() && publisher.surveyed().is_some());
        assert_eq!(publisher.work().refresh, !again.is_empty());
        // At once: what the scheduler goes by is missing.
        let work = publisher.work();
        assert!(
            work.changes
                .values()
                .all(|(_, dampening)| dampening.is_zero())
        );
    }
}

#[test]
fn every_answer_is_compared_with_what_was_told() {
    let (mut publisher, later) = settled(&TOLD);
    let answered = |node: &str, value: &str| Done {
        answers: [(
            attribute("berth-router-n2"),
            [(node.into(), value.to_owned())].into(),
        )]
        .into(),
        ..Done::default()
    };
    publisher.take(Ok(answered("n1", "1")), later);
    assert!(publisher.is_done());
    publisher.take(Ok(answered("n3", "1")), later - SETTLED);
    assert!(publisher.is_done(), "it may still be on its way");
    publisher.take(Ok(answered("n3", "1")), later);
    assert_eq!(changes(&publisher), ["berth-router-n2"]);
}

#[test]
fn private_ones_are_compared_in_turn_one_at_a_time() {
    let (mut publisher, later) = settled(&TOLD);
    let mut turn = || {
        publisher.survey();
        let name = publisher.work().compare.unwrap();
        let seen: Values = [("n1".into(), "1".to_owned())].into();
        let done = Done {
            surveyed: Some(on_record(&[
                ("berth-ports", "n1", "1"),
                ("berth-net-office", "n1", "1"),
            ])),
            compared: Some((name.clone(), seen)),
            ..Done::default()
        };
        publisher.take(Ok(done), later);
        assert!(publisher.is_done());
        name
    };
    let turns = [turn(), turn(), turn()];
    assert_eq!(
        turns,
        ["berth-cell-alpha", "berth-router-n2", "berth-cell-alpha"].map(attribute)
    );
    publisher.survey();
    let done = Done {
        surveyed: Some(on_record(&[
            ("berth-ports", "n1", "1"),
            ("berth-net-office", "n1", "1"),
        ])),
        compared: Some((attribute("berth-router-n2"), Values::new())),
        ..Done::default()
    };
    publisher.take(Ok(done), later);
    assert_eq!(changes(&publisher), ["berth-router-n2"]);
    assert!(publisher.answers().is_empty(), "nobody has asked for that");
}

#[test]
fn when_the_daemon_for_attributes_ends_all_is_told_anew() {
    use crate::sys::command::command;
    use crate::sys::namespace::open_process;

    let (mut publisher, later) = settled(&TOLD);
    let mut child = command("/bin/sleep").arg("60").spawn().unwrap();
    publisher.keeper = open_process(i32::try_from(child.id()).unwrap()).ok();
    publisher.watch_keeper(later);
    assert!(publisher.is_done() && publisher.next().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    publisher.watch_keeper(later);
    let work = publisher.work();
    assert!(work.keeper_lost && work.find_keeper && work.changes.len() == TOLD.len());
    assert_eq!(
        publisher.next(),
        Some(later),
        "it does not wait for anything"
    );
}

#[test]
fn what_a_child_told_the_one_that_ended_does_not_count() {
    let (mut publisher, later) = settled(&TOLD);
    publisher.published.clear();
    publisher.stale = true;
    let done = Done {
        published: publisher.wanted.clone(),
        ..Done::default()
    };
    publisher.take(Ok(done), later);
    assert_eq!(changes(&publisher).len(), TOLD.len());
}

#[test]
fn what_is_of_the_past_is_deleted_and_stays_so() {
    let (mut publisher, later) = settled(&TOLD);
    publisher.publish(attribute("berth-net-office"), None);
    let work = publisher.work();
    assert_eq!(work.changes[&attribute("berth-net-office")].0, None);
    let done = Done {
        published: publisher.wanted.clone(),
        ..Done::default()
    };
    publisher.take(Ok(done), later);
    publisher.survey();
    let done = Done {
        surveyed: Some(on_record(&[
            ("berth-ports", "n1", "1"),
            ("berth-net-office", "n1", "1"),
        ])),
        ..Done::default()
    };
    publisher.take(Ok(done), later + SETTLED);
    assert!(changes(&publisher).contains(&"berth-net-office".to_owned()));
}

#[test]
#[ignore = "needs root"]
fn while_a_child_is_at_work_its_end_is_waited_for_and_nothing_else() {
    let (mut publisher, later) = settled(&TOLD);
    // SAFETY: the work takes no lock.
    let job = unsafe { Job::spawn_for_test(c"berth-test", || (Done::default(), None)) };
    publisher.job = job.ok();
    publisher.retry = Some(later);
    assert!(publisher.fd().is_some() && publisher.next().is_none());
    let limit = Instant::now() + Duration::from_secs(20);
    while publisher.job.is_some() || !publisher.leftover.is_empty() {
        assert!(Instant::now() < limit, "its end is not noticed");
        publisher.advance(later);
    }
    assert_eq!(publisher.next(), None);
}

#[test]
fn what_is_not_monitored_for_a_while_is_looked_at_anew_a_few_times() {
    let (mut publisher, mut now) = settled(&TOLD);
    let found = |publisher: &mut Publisher, names: &[&str], now: Instant| {
        let done = Done {
            unmonitored: Some(names.iter().map(|&name| name.to_owned()).collect()),
            ..Done::default()
        };
        publisher.take(Ok(done), now);
        let work = publisher.work();
        let asked = work.renew.map(|(resource, node)| {
            assert_eq!(node, "n1");
            resource
        });
        publisher.renew.clear();
        asked
    };
    assert_eq!(
        found(&mut publisher, &["alpha-ip1"], now),
        None,
        "it may be on its way"
    );
    // What is gone meanwhile begins anew.
    now += LINGERING;
    assert_eq!(found(&mut publisher, &["alpha"], now), None);
    for _ in 0..RENEWALS {
        now += LINGERING / 2;
        assert_eq!(found(&mut publisher, &["alpha", "alpha-ip1"], now), None);
        now += LINGERING / 2;
        let asked = found(&mut publisher, &["alpha"], now);
        assert_eq!(asked.as_deref(), Some("alpha"));
    }
    now += LINGERING;
    assert_eq!(
        found(&mut publisher, &["alpha"], now),
        None,
        "it is of no use"
    );
    found(&mut publisher, &[], now);
    found(&mut publisher, &["alpha"], now);
    now += LINGERING;
    assert_eq!(
        found(&mut publisher, &["alpha"], now).as_deref(),
        Some("alpha")
    );
}

#[test]
fn looking_anew_waits_for_all_else_and_is_one_at_a_time() {
    let (mut publisher, _) = settled(&TOLD);
    publisher.renew = ["alpha".to_owned(), "beta".to_owned()].into();
    publisher.clean_up("portwatch", &"n1".into());
    assert_eq!(publisher.work().renew, None);
    publisher.clean_up.clear();
    let asked = publisher.work().renew;
    assert_eq!(asked, Some(("alpha".to_owned(), "n1".into())));
}
