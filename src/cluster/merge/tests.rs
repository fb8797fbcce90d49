//! Tests of the merge, from text to what is said about it.

use super::*;

const OWNER: Ownership = Ownership {
    mark: "mine",
    prefix: "my-",
    meta: &["mine", "critical"],
    by_node: &["watch"],
};

fn primitive(id: &str, meta: &str) -> String {
    format!(
        r#"<primitive id="{id}" class="ocf" provider="berth" type="vip"><meta_attributes id="{id}.meta"><nvpair id="{id}.meta.mine" name="mine" value="true"/>{meta}</meta_attributes></primitive>"#
    )
}

fn configuration(resources: &str, constraints: &str) -> String {
    format!(
        "<configuration><resources>{resources}</resources><constraints>{constraints}</constraints></configuration>"
    )
}

fn merged(live: (&str, &str), wanted: (&str, &str)) -> Result<Merged, Conflict> {
    let live = format!("<cib>{}</cib>", configuration(live.0, live.1));
    let live = Element::parse(&live).unwrap();
    let wanted = Element::parse(&configuration(wanted.0, wanted.1)).unwrap();
    merge(&live, &wanted, OWNER)
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
    assert_eq!(said, ["- resource b (ocf:berth:vip)", "- constraint my-1"]);
    assert_eq!(merged.removed, ["b"]);
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

#[test]
fn only_what_is_to_stop_gets_a_target_role() {
    let resources = format!("{}{}", primitive("a", ""), primitive("b", ""));
    let live = format!("<cib>{}</cib>", configuration(&resources, ""));
    let stopped = stopping(&Element::parse(&live).unwrap(), &["b".to_owned()]);
    let roles = stopped
        .walk()
        .filter(|e| e.get("name") == Some("target-role"));
    let ids: Vec<&str> = roles.map(Element::id).collect();
    assert_eq!(ids, ["b.meta.target-role"]);
}
