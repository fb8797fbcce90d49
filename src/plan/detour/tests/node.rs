//! What both sides share: what is published and kept, whom agents and the cluster are told.

use super::*;

#[test]
fn a_daemon_that_ends_ends_what_would_wait_for_it_and_goes_on_claiming_the_rest() {
    let mut node = Node::routing("n2");
    let other: IpAddr = [10, 1, 0, 51].into();
    let mut over = record(Role::Ending(path("n2", "n1")));
    over.spec.vip = other;
    node.put("alpha-ip2", over.clone());
    node.take();
    let records = node.records.clone();
    node.on(Event::Shutdown { records });
    let effects = node.take();
    let ends = Effect::EndRouting([("alpha-ip2".to_owned(), over)].into());
    assert_eq!(effects[0], ends);
    let routes = Attribute::Router("n1".into());
    assert!(effects.contains(&Effect::Publish(routes, Some(claim("n2")))));
}

#[test]
fn what_is_published_is_on_record_first_and_taken_back_by_the_next_daemon() {
    let mut node = Node::new("n2", &["beta"]);
    let effects = node.take();
    let saved = effects.iter().find_map(|effect| match effect {
        Effect::Save(saved) => Some(saved.clone()),
        _ => None,
    });
    let saved = saved.unwrap();
    let first = effects
        .iter()
        .position(|e| matches!(e, Effect::Publish(..)));
    let kept = effects.iter().position(|e| matches!(e, Effect::Save(_)));
    assert!(kept < first);
    node.view.cells.clear();
    node.core = Detours::new(saved, node.view.clone(), node.now);
    node.tick();
    assert!(node.published().is_empty(), "nothing is known yet");
    node.look();
    let beta = Attribute::Cell("beta".into());
    assert_eq!(node.published()[&beta], None);
}

#[test]
fn an_agent_is_told_the_path_or_why_there_is_none() {
    let ask = |node: &mut Node, asker| {
        node.on(Event::PathWanted {
            asker,
            vserver: "alpha".into(),
            vip: vip(),
        });
    };
    let answers = |node: &mut Node| -> Vec<(Asker, Result<TransitPath, String>)> {
        let all = node.take().into_iter().filter_map(|effect| match effect {
            Effect::Answer(asker, path) => Some((asker, path)),
            _ => None,
        });
        all.collect()
    };
    let mut node = Node::new("n2", &[]);
    ask(&mut node, 7);
    node.tick();
    assert!(node.queries().contains(&cell()));
    node.attribute(cell(), &[("n1", "1")]);
    node.pass(Duration::from_millis(20), true);
    assert_eq!(answers(&mut node), [(7, Ok(path("n2", "n1")))]);
    (0..WAITING as u64).for_each(|asker| ask(&mut node, asker));
    assert_eq!(node.take(), []);
    ask(&mut node, 99);
    let why = "no way to alpha: too many ways are looked for".to_owned();
    assert_eq!(answers(&mut node), [(99, Err(why))]);
    node.pass(Duration::from_millis(3200), true);
    assert_eq!(answers(&mut node).len(), WAITING);
}

#[test]
fn a_degradation_is_cleaned_up_after_a_resource_that_has_left() {
    let mut node = Node::new("n2", &[]);
    let degraded = Record {
        degraded: true,
        ..record(Role::Router(path("n2", "n1")))
    };
    node.put(RESOURCE, degraded);
    node.remove(RESOURCE);
    node.take();
    node.pass(SETTLED - Duration::from_millis(1), true);
    let cleaned = Effect::CleanUp {
        resource: RESOURCE.into(),
        node: "n2".into(),
    };
    assert!(!node.take().contains(&cleaned));
    node.pass(Duration::from_millis(1), true);
    assert!(node.take().contains(&cleaned));
}
