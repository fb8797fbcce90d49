//! What a resource or constraint says, apart from how it is written: the shells choose other ids for
//! inner elements, another order, and write out defaults.

use std::collections::BTreeMap;

use super::element::Element;

/// What a resource says: `agent`, parameters by name, `meta <name>`, `op <name> <interval>`, and
/// `<parameter> on <node>` for what holds on one node only.
pub(crate) type Facts = BTreeMap<String, String>;

/// The facts of a primitive; of its meta attributes those that `decided` chooses.
pub fn facts(primitive: &Element, decided: impl Fn(&str) -> bool) -> Facts {
    let part = |name| primitive.get(name).unwrap_or_default();
    let agent = format!("{}:{}:{}", part("class"), part("provider"), part("type"));
    let mut facts = Facts::from([("agent".to_owned(), agent)]);
    for (name, value) in pairs(primitive, "instance_attributes") {
        facts.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in pairs(primitive, "meta_attributes").filter(|(name, _)| decided(name)) {
        facts.insert(format!("meta {name}"), value.to_owned());
    }
    let operations = primitive
        .child("operations")
        .map_or(&[][..], |o| &o.children);
    for operation in operations {
        let name = operation.get("name").unwrap_or_default();
        let interval = operation.get("interval").unwrap_or("0");
        let mut said: Vec<String> = operation
            .attributes
            .iter()
            .filter(|(name, _)| !["id", "name", "interval"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        for set in ["instance_attributes", "meta_attributes"] {
            said.extend(pairs(operation, set).map(|(name, value)| format!("{name}={value}")));
        }
        said.sort();
        facts.insert(format!("op {name} {interval}"), said.join(" "));
    }
    facts
}

/// The facts about a primitive's parameters that hold on one node only.
pub fn node_facts(primitive: &Element) -> Facts {
    let mut facts = Facts::new();
    for set in &primitive.children {
        let Some(node) = node_of(set) else { continue };
        for (name, value) in pairs_in(set) {
            facts.insert(format!("{name} on {node}"), value.to_owned());
        }
    }
    facts
}

/// The node for which a set of parameters is, if it is for one and its rule says nothing else.
pub(crate) fn node_of(set: &Element) -> Option<&str> {
    let rule = set
        .child("rule")
        .filter(|_| set.name == "instance_attributes")?;
    let [expression] = rule.children.as_slice() else {
        return None;
    };
    let is_node = expression.get("attribute") == Some("#uname")
        && expression.get("operation") == Some("eq")
        && expression
            .get("value-source")
            .is_none_or(|source| source == "literal");
    expression.get("value").filter(|_| is_node)
}

/// Name and value of each pair in the sets of that name, except sets that a rule makes conditional.
pub(crate) fn pairs<'e>(
    element: &'e Element,
    set: &str,
) -> impl Iterator<Item = (&'e str, &'e str)> {
    let sets = element
        .children
        .iter()
        .filter(move |c| c.name == set && c.child("rule").is_none());
    sets.flat_map(pairs_in)
}

/// Name and value of each pair in a set.
pub(crate) fn pairs_in(set: &Element) -> impl Iterator<Item = (&str, &str)> {
    let pairs = set.children.iter().filter(|c| c.name == "nvpair");
    pairs.filter_map(|pair| Some((pair.get("name")?, pair.get("value")?)))
}

/// What differs, each as a few words.
pub(crate) fn differences(before: &Facts, after: &Facts) -> Vec<String> {
    let mut list = Vec::new();
    for (name, value) in after {
        match before.get(name) {
            Some(old) if old == value => {}
            Some(old) => list.push(format!("{name} {old:?} -> {value:?}")),
            None => list.push(format!("{name} {value:?} added")),
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    list.extend(gone.map(|name| format!("{name} removed")));
    list
}

/// What a constraint says, in one line without ids.
pub fn constraint(element: &Element) -> String {
    let mut said: Vec<String> = element
        .attributes
        .iter()
        // What a resource_ref refers to is called id.
        .filter(|(name, _)| name != "id" || element.name == "resource_ref")
        .filter(|(name, value)| !is_default(&element.name, name, value))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    said.sort();
    let mut inner: Vec<String> = element.children.iter().map(constraint).collect();
    // The sets of an order have a meaning in their order; the parts of a rule or of a set that is
    // not sequential have none.
    if element.name == "rule" || element.get("sequential") == Some("false") {
        inner.sort();
    }
    let inner = if inner.is_empty() {
        String::new()
    } else {
        format!(" ( {} )", inner.join(" "))
    };
    let space = if said.is_empty() { "" } else { " " };
    format!("{}{space}{}{inner}", element.name, said.join(" "))
}

fn is_default(element: &str, name: &str, value: &str) -> bool {
    matches!(
        (element, name, value),
        ("rsc_order", "first-action" | "then-action", "start")
            | ("rsc_order", "symmetrical", "true")
            | ("rule", "boolean-op", "and")
            | ("resource_set", "require-all", "true")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Element {
        Element::parse(text).unwrap()
    }

    #[test]
    fn ids_order_and_defaults_say_nothing() {
        let one = element(
            r#"<rsc_order id="o" first="a" then="b" kind="Optional" first-action="start"/>"#,
        );
        let other = element(r#"<rsc_order kind="Optional" then="b" first="a" id="p"/>"#);
        assert_eq!(constraint(&one), constraint(&other));
        let other = element(r#"<rsc_order kind="Mandatory" then="b" first="a" id="p"/>"#);
        assert_ne!(constraint(&one), constraint(&other));
    }

    #[test]
    fn members_of_a_set_are_compared_but_not_their_order() {
        let set = |order: [&str; 2]| {
            let [a, b] = order;
            element(&format!(
                r#"<resource_set id="x" sequential="false"><resource_ref id="{a}"/><resource_ref id="{b}"/></resource_set>"#
            ))
        };
        assert_eq!(constraint(&set(["a", "b"])), constraint(&set(["b", "a"])));
        assert_ne!(constraint(&set(["a", "b"])), constraint(&set(["a", "c"])));
    }

    #[test]
    fn a_set_is_a_nodes_only_if_its_rule_says_nothing_else() {
        let set = |expressions: &str| {
            let rule = format!(r#"<rule id="r" score="INFINITY">{expressions}</rule>"#);
            let pair = r#"<nvpair id="p" name="ports" value="eth1=a"/>"#;
            element(&format!(
                r#"<primitive id="w"><instance_attributes id="s">{rule}{pair}</instance_attributes></primitive>"#
            ))
        };
        let node = r##"<expression id="e" attribute="#uname" operation="eq" value="n1"/>"##;
        let facts = node_facts(&set(node));
        assert_eq!(
            facts.into_iter().collect::<Vec<_>>(),
            [("ports on n1".to_owned(), "eth1=a".to_owned())]
        );
        let other = node.replace("\"eq\"", "\"ne\"");
        for foreign in [format!("{node}{node}"), other, String::new()] {
            assert!(node_facts(&set(&foreign)).is_empty(), "{foreign}");
        }
    }

    #[test]
    fn differences_name_old_and_new() {
        let primitive = |device: &str, more: &str| {
            let text = format!(
                r#"<primitive id="a" class="ocf" provider="berth" type="fscheck"><instance_attributes id="i"><nvpair id="d" name="device" value="{device}"/>{more}</instance_attributes></primitive>"#
            );
            facts(&element(&text), |_| true)
        };
        let more = r#"<nvpair id="u" name="unit" value="x"/>"#;
        let list = differences(&primitive("/dev/a", more), &primitive("/dev/b", ""));
        assert_eq!(list, [r#"device "/dev/a" -> "/dev/b""#, "unit removed"]);
    }
}
