//! Tests of the merge, from text to what is said about it.

use super::*;

const OWNER: Ownership = Ownership {
    tag: "mine",
    provider: "berth",
    former_mark: "was-mine",
    stop_mark: "stopping",
    identity: &[("watch", &[]), ("fscheck", &["device", "vserver"])],
    prefix: "my-",
    meta: &["was-mine", "critical"],
    by_node: &["watch"],
};

fn primitive(id: &str, meta: &str) -> String {
    format!(
        r#"<primitive id="{id}" class="ocf" provider="berth" type="vip"><meta_attributes id="{id}.meta"><nvpair id="{id}.meta.p" name="priority" value="1"/>{meta}</meta_attributes></primitive>"#
    )
}

/// Resources of which those called by one letter up to m are under the tag, and constraints.
fn configuration(resources: &str, constraints: &str) -> Element {
    let text = format!(
        "<configuration><resources>{resources}</resources><constraints>{constraints}</constraints></configuration>"
    );
    let mut configuration = Element::parse(&text).unwrap();
    let ids: Vec<String> = ids(section(&configuration, "resources"))
        .filter(|id| ("a"..="m").contains(id))
        .map(str::to_owned)
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    set_tag(&mut configuration, &ids);
    configuration
}

/// Puts exactly these under the tag.
fn set_tag(configuration: &mut Element, ids: &[&str]) {
    let references = ids.iter().map(|id| Element::new("obj_ref").with("id", id));
    let tag = Element::new("tag")
        .with("id", "mine")
        .containing(references);
    let tag = Some(tag).filter(|t| !t.children.is_empty());
    configuration.child_mut("tags").children = tag.into_iter().collect();
}

fn merged(live: (&str, &str), wanted: (&str, &str)) -> Result<Merged, Conflict> {
    let live = configuration(live.0, live.1);
    merged_trees(live, &configuration(wanted.0, wanted.1))
}

fn merged_trees(live: Element, wanted: &Element) -> Result<Merged, Conflict> {
    merge(&Element::new("cib").containing([live]), wanted, OWNER)
}

/// What is under the tag.
fn tagged(cib: &Element) -> Vec<&str> {
    let configuration = cib.child("configuration").unwrap();
    let tag = tag::find(configuration, OWNER);
    tag.into_iter().flat_map(tag::references).collect()
}

fn said(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_no_longer_wanted_goes_and_what_is_others_stays() {
    let foreign = r#"<primitive id="x" class="ocf" provider="berth" type="vip"/>"#;
    let live = format!("{foreign}{}{}", primitive("a", ""), primitive("b", ""));
    let constraints = r#"<rsc_location id="my-1" rsc="b"/><rsc_location id="your-1" rsc="x"/>"#;
    let merged = merged((&live, constraints), (&primitive("a", ""), "")).unwrap();
    let said = said(&merged.changes);
    let expected = [
        "- resource b (ocf:berth:vip)",
        "- constraint my-1",
        "~ tag mine: b removed",
    ];
    assert_eq!(said, expected);
    assert_eq!(merged.removed, ["b"]);
    assert_eq!(tagged(&merged.cib), ["a"]);
    let text = merged.cib.to_string();
    assert!(text.contains("\"x\"") && text.contains("your-1") && !text.contains("\"b\""));
}

#[test]
fn a_meta_attribute_is_put_right_if_the_owner_decides_on_it_and_kept_if_not() {
    let live = primitive(
        "a",
        r#"<nvpair id="c" name="critical" value="false"/><nvpair id="t" name="target-role" value="Stopped"/>"#,
    );
    let result = merged((&live, ""), (&primitive("a", ""), "")).unwrap();
    let change = "~ resource a (ocf:berth:vip): meta critical removed";
    assert_eq!(said(&result.changes), [change]);
    let text = result.cib.to_string();
    assert!(text.contains("target-role") && !text.contains("critical"));
    let only_foreign = primitive(
        "a",
        r#"<nvpair id="t" name="target-role" value="Stopped"/>"#,
    );
    let again = merged((&only_foreign, ""), (&primitive("a", ""), "")).unwrap();
    assert!(again.changes.is_empty());
}

#[test]
fn what_stands_in_the_way_is_a_conflict() {
    let plain = r#"<primitive id="a" class="ocf" provider="x" type="y"/>"#;
    let in_group = format!(r#"<group id="g">{}</group>"#, primitive("a", ""));
    let two = format!("{}{}", primitive("a", ""), primitive("b", ""));
    let ban = r#"<rsc_location id="cli-ban-b" rsc="b"/>"#;
    let wanted = primitive("a", "");
    let conflict = |live: (&str, &str)| merged(live, (&wanted, "")).unwrap_err();
    assert!(matches!(conflict((plain, "")), Conflict::Taken { .. }));
    assert!(matches!(conflict((&in_group, "")), Conflict::Inside { .. }));
    assert!(matches!(conflict((&two, ban)), Conflict::Needed { .. }));
}

/// A primitive of an agent with a set of parameters for each of these nodes.
fn by_node(agent: &str, nodes: &[(&str, &str)]) -> String {
    let sets: Vec<String> = nodes
        .iter()
        .map(|(node, ports)| {
            format!(
                r##"<instance_attributes id="{node}"><rule id="{node}-r" score="INFINITY"><expression id="{node}-e" attribute="#uname" operation="eq" value="{node}"/></rule><nvpair id="{node}-p" name="ports" value="{ports}"/></instance_attributes>"##
            )
        })
        .collect();
    let sets = sets.concat();
    primitive("a", "")
        .replace("\"vip\"", &format!("\"{agent}\""))
        .replacen("<meta", &format!("{sets}<meta"), 1)
}

#[test]
fn what_holds_on_one_node_is_compared_and_goes_when_it_is_not_wanted() {
    let live = by_node("watch", &[("n1", "eth1=x"), ("n2", "eth2=x")]);
    let again = merged((&live, ""), (&live, "")).unwrap();
    assert_eq!(said(&again.changes), [""; 0]);
    let wanted = by_node("watch", &[("n1", "eth7=x")]);
    let result = merged((&live, ""), (&wanted, "")).unwrap();
    let change =
        r#"~ resource a (ocf:berth:watch): ports on n1 "eth1=x" -> "eth7=x", ports on n2 removed"#;
    assert_eq!(said(&result.changes), [change]);
    let text = result.cib.to_string();
    assert!(text.contains("eth7=x") && !text.contains("eth1=x") && !text.contains("n2"));
}

#[test]
fn what_others_set_for_a_node_stays_where_the_owner_sets_nothing_for_nodes() {
    let live = by_node("vip", &[("n1", "eth1=x")]);
    let wanted = primitive("a", r#"<nvpair id="c" name="critical" value="false"/>"#);
    let result = merged((&live, ""), (&wanted, "")).unwrap();
    let change = r#"~ resource a (ocf:berth:vip): meta critical "false" added"#;
    assert_eq!(said(&result.changes), [change]);
    assert!(result.cib.to_string().contains("eth1=x"));
}

/// The meta attributes of a primitive, apart from its priority.
fn metas<'c>(cib: &'c Element, id: &str) -> Vec<(&'c str, &'c str)> {
    let primitive = cib.walk().find(|e| e.name == "primitive" && e.id() == id);
    let all = pairs(primitive.unwrap(), "meta_attributes");
    all.filter(|(name, _)| *name != "priority").collect()
}

#[test]
fn what_is_to_stop_gets_a_target_role_and_back_what_it_had() {
    let role = |value: &str| {
        let pair = format!(r#"<nvpair id="{value}" name="target-role" value="{value}"/>"#);
        primitive(&value[..1].to_lowercase(), &pair)
    };
    let bare =
        r#"<primitive id="c" class="ocf" provider="berth" type="vip"><operations/></primitive>"#;
    let resources = format!(
        "{}{}{bare}<clone id=\"d-clone\">{}</clone>{}{}",
        primitive("a", ""),
        primitive("b", ""),
        primitive("d", ""),
        role("Master"),
        role("Stopped"),
    );
    let live = Element::new("cib").containing([configuration(&resources, "")]);
    let ids = ["b", "c", "d", "m", "s"].map(str::to_owned);
    let stopped = stopping(&live, &ids, OWNER);
    let set = |former| vec![("stopping", former), ("target-role", "Stopped")];
    assert_eq!(metas(&stopped, "a"), []);
    for id in ["b", "c", "d"] {
        assert_eq!(metas(&stopped, id), set("default"));
    }
    assert_eq!(metas(&stopped, "m"), set("Master"));
    // An administrator's own wish.
    assert_eq!(metas(&stopped, "s"), [("target-role", "Stopped")]);
    // Again, after an attempt that was killed.
    assert_eq!(stopping(&stopped, &ids, OWNER), stopped);
    let resumed = resuming(&stopped, &ids, OWNER);
    for id in ["a", "b", "c", "d", "m", "s"] {
        assert_eq!(metas(&resumed, id), metas(&live, id), "{id}");
    }
    // What somebody has set meanwhile stays.
    let text = stopped
        .to_string()
        .replace("value=\"Stopped\"", "value=\"Slave\"");
    let resumed = resuming(&Element::parse(&text).unwrap(), &ids, OWNER);
    assert_eq!(metas(&resumed, "b"), [("target-role", "Slave")]);
}

#[test]
fn what_an_interrupted_removal_has_left_is_put_right_when_the_resource_is_wanted() {
    let b = primitive("b", "");
    let live = Element::new("cib").containing([configuration(&b, "")]);
    let stopped = stopping(&live, &["b".to_owned()], OWNER);
    let result = merge(&stopped, &configuration(&b, ""), OWNER).unwrap();
    assert_eq!(metas(&result.cib, "b"), []);
    let change =
        "~ resource b (ocf:berth:vip): target-role set back, which an interrupted removal had left";
    assert_eq!(said(&result.changes), [change]);
}

#[test]
fn what_others_have_under_the_tag_stays_there_and_in_the_cluster() {
    let dummy = r#"<primitive id="x" class="ocf" provider="heartbeat" type="Dummy"/>"#;
    let resources = format!("{dummy}{}", primitive("a", ""));
    let mut live = configuration(&resources, "");
    set_tag(&mut live, &["x", "a", "gone"]);
    let wanted = configuration(&primitive("b", ""), "");
    let result = merged_trees(live, &wanted).unwrap();
    let expected = [
        "- resource a (ocf:berth:vip)",
        "+ resource b (ocf:berth:vip)",
        "~ tag mine: b added, a removed, gone removed",
    ];
    assert_eq!(said(&result.changes), expected);
    assert_eq!(tagged(&result.cib), ["x", "b"]);
    assert!(result.cib.to_string().contains("Dummy"));
}

#[test]
fn what_is_taken_from_under_the_tag_is_nobody_s_to_remove_or_to_change() {
    let resources = format!("{}{}", primitive("a", ""), primitive("b", ""));
    let mut live = configuration(&resources, "");
    set_tag(&mut live, &["a"]);
    let kept = merged_trees(live.clone(), &configuration(&primitive("a", ""), "")).unwrap();
    assert_eq!(said(&kept.changes), [""; 0]);
    let conflict = merged_trees(live, &configuration(&resources, "")).unwrap_err();
    let advice = "primitive b exists already and was not made by berth: rename or remove one of the two, or put it under the tag mine if it is berth's";
    assert_eq!(conflict.to_string(), advice);
}

#[test]
fn the_mark_of_earlier_versions_still_counts_and_becomes_the_tag() {
    let marked = |id: &str| {
        let mark = format!(r#"<nvpair id="{id}.meta.m" name="was-mine" value="true"/>"#);
        primitive(id, &mark)
    };
    let mut live = configuration(&[marked("a"), marked("b")].concat(), "");
    set_tag(&mut live, &[]);
    let wanted = configuration(&[primitive("a", ""), primitive("c", "")].concat(), "");
    let result = merged_trees(live, &wanted).unwrap();
    let expected = [
        "- resource b (ocf:berth:vip)",
        "~ resource a (ocf:berth:vip): meta was-mine removed",
        "+ resource c (ocf:berth:vip)",
        "+ tag mine",
    ];
    assert_eq!(said(&result.changes), expected);
    assert_eq!(tagged(&result.cib), ["a", "c"]);
    assert!(!result.cib.to_string().contains("was-mine"));
}

#[test]
fn a_clone_under_the_tag_stands_for_what_is_in_it() {
    let clone = format!(r#"<clone id="a-clone">{}</clone>"#, primitive("a", ""));
    let mut live = configuration(&clone, "");
    set_tag(&mut live, &["a-clone"]);
    let again = merged_trees(live.clone(), &configuration(&clone, "")).unwrap();
    assert_eq!(said(&again.changes), [""; 0]);
    let nothing = merged_trees(live, &configuration("", "")).unwrap();
    assert_eq!(nothing.removed, ["a"]);
    assert_eq!(tagged(&nothing.cib), [""; 0]);
}

#[test]
fn another_tag_on_what_is_to_go_and_another_thing_with_the_tag_s_id_are_conflicts() {
    let mut live = configuration(&primitive("a", ""), "");
    let other = r#"<tag id="theirs"><obj_ref id="a"/></tag>"#;
    let tags = &mut live.child_mut("tags").children;
    tags.push(Element::parse(other).unwrap());
    let conflict = merged_trees(live, &configuration("", "")).unwrap_err();
    let needed =
        "tag theirs, not made by berth, refers to a, which would be removed: remove the tag first";
    assert_eq!(conflict.to_string(), needed);
    let mine = primitive("mine", "");
    let conflict = merged((&mine, ""), (&primitive("a", ""), "")).unwrap_err();
    assert!(matches!(conflict, Conflict::Taken { id, .. } if id == "mine"));
}

#[test]
fn what_somebody_else_does_already_is_a_conflict() {
    let fs = |id: &str, vserver: &str| {
        let pair = |n: &str, v: &str| format!(r#"<nvpair id="{id}.{n}" name="{n}" value="{v}"/>"#);
        let more = pair("options", id);
        let pairs = [pair("vserver", vserver), more, pair("device", "/dev/x")].concat();
        format!(
            r#"<primitive id="{id}" class="ocf" provider="berth" type="fscheck"><instance_attributes id="{id}.p">{pairs}</instance_attributes></primitive>"#
        )
    };
    let wanted = fs("a", "one");
    // As crm leaves a resource that it has renamed.
    let mut live = configuration(&fs("z", "one"), "");
    set_tag(&mut live, &["a"]);
    let conflict = merged_trees(live.clone(), &configuration(&wanted, "")).unwrap_err();
    let twin = "resource z, not made by berth, does what a is to do: remove it, or put it under the tag mine if it is berth's";
    assert_eq!(conflict.to_string(), twin);
    set_tag(&mut live, &["z"]);
    let result = merged_trees(live, &configuration(&wanted, "")).unwrap();
    assert_eq!(result.removed, ["z"]);
    assert!(merged((&fs("z", "two"), ""), (&wanted, "")).is_ok());
    let watch =
        |id: &str| format!(r#"<primitive id="{id}" class="ocf" provider="berth" type="watch"/>"#);
    let twice = merged((&watch("z"), ""), (&watch("a"), ""));
    assert!(matches!(twice, Err(Conflict::Twin { .. })));
}
