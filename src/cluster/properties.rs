//! What a CIB says of the cluster as a whole: its properties and its nodes.

use super::canonical::{pairs, pairs_in};
use super::element::Element;

/// The set of properties that counts before all others.
const FIRST_SET: &str = "cib-bootstrap-options";

fn sets(cib: &Element) -> Vec<&Element> {
    let options = cib
        .child("configuration")
        .and_then(|c| c.child("crm_config"));
    let sets = options.into_iter().flat_map(|o| &o.children);
    let mut sets: Vec<&Element> = sets.filter(|e| e.name == "cluster_property_set").collect();
    // Of those of one score the first in the file counts.
    sets.sort_by_key(|set| (set.id() != FIRST_SET, std::cmp::Reverse(score(set))));
    sets
}

fn score(set: &Element) -> i64 {
    match set.get("score").unwrap_or("0") {
        "INFINITY" | "+INFINITY" => i64::MAX,
        "-INFINITY" => i64::MIN,
        number => number.parse().unwrap_or(0),
    }
}

/// The value of a cluster property that holds at all times, if it is set.
pub(crate) fn property<'c>(cib: &'c Element, name: &str) -> Option<&'c str> {
    let sets = sets(cib)
        .into_iter()
        .filter(|set| set.child("rule").is_none());
    let mut found = sets.flat_map(pairs_in).filter(|(n, _)| *n == name);
    found.next().map(|(_, value)| value)
}

/// The values that a cluster property has at times, each with the id of the set that a rule makes
/// conditional.
pub(crate) fn by_rule<'c>(cib: &'c Element, name: &str) -> Vec<(&'c str, &'c str)> {
    let sets = sets(cib)
        .into_iter()
        .filter(|set| set.child("rule").is_some());
    let found = sets.flat_map(|set| pairs_in(set).map(move |pair| (set.id(), pair)));
    let found = found.filter(|(_, (n, _))| *n == name);
    found.map(|(set, (_, value))| (set, value)).collect()
}

/// Whether a word means true, as Pacemaker reads it.
pub(crate) fn is_true(value: &str) -> bool {
    ["true", "on", "yes", "y", "1"].contains(&value.to_lowercase().as_str())
}

/// Whether resources run only where a constraint allows it.
pub(crate) fn is_opt_in(cib: &Element) -> bool {
    property(cib, "symmetric-cluster").is_some_and(|value| !is_true(value))
}

fn listed(cib: &Element) -> impl Iterator<Item = &Element> {
    let nodes = cib.child("configuration").and_then(|c| c.child("nodes"));
    nodes.into_iter().flat_map(|n| &n.children)
}

/// Names of the full members of the cluster.
pub(crate) fn members(cib: &Element) -> Vec<String> {
    let members = listed(cib).filter(|n| n.get("type").is_none_or(|t| t == "member"));
    members
        .filter_map(|n| n.get("uname").map(str::to_owned))
        .collect()
}

/// Names of all nodes that resources can be on: the members, remote nodes, and guests.
pub(crate) fn nodes(cib: &Element) -> Vec<String> {
    let mut names: Vec<String> = listed(cib)
        .filter_map(|n| n.get("uname").map(str::to_owned))
        .collect();
    let configuration = cib.child("configuration").into_iter();
    let primitives = configuration
        .flat_map(Element::walk)
        .filter(|e| e.name == "primitive");
    for primitive in primitives {
        let is_remote = primitive.get("provider") == Some("pacemaker")
            && primitive.get("type") == Some("remote");
        let remote = is_remote.then(|| primitive.id());
        let guest = pairs(primitive, "meta_attributes").find(|(name, _)| *name == "remote-node");
        names.extend(remote.map(str::to_owned));
        names.extend(guest.map(|(_, name)| name.to_owned()));
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cib(text: &str) -> Element {
        Element::parse(&format!("<cib><configuration>{text}</configuration></cib>")).unwrap()
    }

    fn set(id: &str, more: &str, value: &str) -> String {
        format!(
            r#"<cluster_property_set id="{id}" {more}><nvpair id="{id}-p" name="p" value="{value}"/></cluster_property_set>"#
        )
    }

    #[test]
    fn of_several_sets_the_one_that_pacemaker_reads_first_counts() {
        let value = |sets: &[String]| {
            let cib = cib(&format!("<crm_config>{}</crm_config>", sets.concat()));
            property(&cib, "p").map(str::to_owned)
        };
        let first = set(FIRST_SET, "", "first");
        let high = set("high", r#"score="10""#, "high");
        let low = set("low", "", "low");
        assert_eq!(
            value(&[low.clone(), high.clone(), first]).as_deref(),
            Some("first")
        );
        assert_eq!(value(&[low.clone(), high]).as_deref(), Some("high"));
        assert_eq!(
            value(&[low.clone(), set("other", "", "x")]).as_deref(),
            Some("low")
        );
        let ruled = low.replace("><nvpair", r#"><rule id="r"/><nvpair"#);
        assert_eq!(value(std::slice::from_ref(&ruled)), None);
        let cib = cib(&format!("<crm_config>{ruled}</crm_config>"));
        assert_eq!(by_rule(&cib, "p"), [("low", "low")]);
    }

    #[test]
    fn remote_nodes_and_guests_are_nodes_and_no_members() {
        let cib = cib(
            r#"<nodes><node id="2" uname="n2"/><node id="1" uname="n1" type="member"/><node id="r" uname="r" type="remote"/></nodes>
            <resources><primitive id="r2" class="ocf" provider="pacemaker" type="remote"/><group id="g"><primitive id="vm" class="ocf" provider="heartbeat" type="VirtualDomain">
            <meta_attributes id="m"><nvpair id="m-r" name="remote-node" value="guest"/></meta_attributes></primitive></group></resources>"#,
        );
        assert_eq!(members(&cib), ["n2", "n1"]);
        assert_eq!(nodes(&cib), ["guest", "n1", "n2", "r", "r2"]);
    }
}
