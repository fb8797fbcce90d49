//! The nodes on which others' location constraints allow a resource. In an opt-in cluster (symmetric-cluster is false)
//! it may run nowhere else, except where the owner allows it.

use std::collections::BTreeSet;

use super::element::Element;
use super::merge::Ownership;

/// A score of this or less forbids a node.
const NEVER: i64 = -1_000_000;

/// Where others allow a resource to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// To run on these nodes; none if there are none.
    Nodes(BTreeSet<String>),
    /// To run on nodes that a rule or a pattern chooses, which only the cluster can tell.
    ByRule,
}

impl Allowance {
    /// Where the constraints in a `<cib>` that are not the owner's allow the resource `id`, which is called `reference`
    /// as a clone.
    pub fn by_others(cib: &Element, (id, reference): (&str, &str), owner: Ownership) -> Self {
        let configuration = cib.child("configuration");
        let section = |name| {
            let section = configuration.and_then(|c| c.child(name));
            section.map_or(&[][..], |s| &s.children)
        };
        let mut names = BTreeSet::from([id, reference]);
        let tags = section("tags").iter();
        let tags = tags.filter(|tag| {
            let mut references = tag.children.iter().map(Element::id);
            references.any(|tagged| tagged == id || tagged == reference)
        });
        names.extend(tags.map(Element::id));
        let locations = section("constraints").iter();
        let foreign =
            locations.filter(|e| e.name == "rsc_location" && !e.id().starts_with(owner.prefix));
        let mut nodes = BTreeSet::new();
        for location in foreign.filter(|location| may_be_for(location, &names)) {
            let mut rules = location.children.iter().filter(|e| e.name == "rule");
            if rules.any(|rule| !forbids(rule)) {
                return Self::ByRule;
            }
            match location.get("node") {
                Some(_) if forbids(location) => {}
                Some(_) if location.get("rsc-pattern").is_some() => return Self::ByRule,
                Some(node) => {
                    nodes.insert(node.to_owned());
                }
                None => {}
            }
        }
        Self::Nodes(nodes)
    }

    /// Whether it allows nothing.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Nodes(nodes) if nodes.is_empty())
    }

    /// Whether it may allow this node.
    pub(crate) fn may_be(&self, node: &str) -> bool {
        match self {
            Self::Nodes(nodes) => nodes.contains(node),
            Self::ByRule => true,
        }
    }
}

/// Whether a location constraint is for a resource that has these names. Which ones a pattern matches is not
/// looked into.
fn may_be_for(location: &Element, names: &BTreeSet<&str>) -> bool {
    let mut set = location.walk().filter(|e| e.name == "resource_ref");
    location.get("rsc").is_some_and(|rsc| names.contains(rsc))
        || location.get("rsc-pattern").is_some()
        || set.any(|reference| names.contains(reference.id()))
}

fn forbids(scored: &Element) -> bool {
    let score = scored.get("score").unwrap_or("0");
    score.eq_ignore_ascii_case("-INFINITY") || score.parse::<i64>().is_ok_and(|s| s <= NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ids::OWNERSHIP;

    fn allowed(constraints: &str) -> Allowance {
        let text = format!(
            r#"<cib><configuration><constraints>{constraints}</constraints>
            <tags><tag id="mine"><obj_ref id="portwatch-clone"/></tag><tag id="t"><obj_ref id="x"/></tag></tags></configuration></cib>"#
        );
        let cib = Element::parse(&text).unwrap();
        Allowance::by_others(&cib, ("portwatch", "portwatch-clone"), OWNERSHIP)
    }

    fn location(more: &str) -> String {
        format!(r#"<rsc_location id="l" {more}/>"#)
    }

    #[test]
    fn a_node_is_allowed_by_any_of_the_names_and_any_score_that_does_not_forbid() {
        for constraint in [
            location(r#"rsc="portwatch" node="n1" score="0""#),
            location(r#"rsc="portwatch-clone" node="n1" score="INFINITY""#),
            location(r#"rsc="mine" node="n1" score="-100""#),
            r#"<rsc_location id="l" node="n1"><resource_set id="s"><resource_ref id="portwatch"/></resource_set></rsc_location>"#.to_owned(),
        ] {
            let expected = Allowance::Nodes(BTreeSet::from(["n1".to_owned()]));
            assert_eq!(allowed(&constraint), expected, "{constraint}");
        }
    }

    #[test]
    fn what_forbids_is_for_others_or_the_owners_allows_nothing() {
        for constraint in [
            location(r#"rsc="portwatch" node="n1" score="-INFINITY""#),
            location(r#"rsc="portwatch" node="n1" score="-2000000""#),
            location(r#"rsc="t" node="n1" score="0""#),
            location(r#"rsc-pattern="port.*" node="n1" score="-INFINITY""#),
            r#"<rsc_location id="berth-on-n1-portwatch" rsc="portwatch-clone" node="n1" score="0"/>"#.to_owned(),
            r#"<rsc_location id="l" rsc="portwatch"><rule id="r" score="-INFINITY"/></rsc_location>"#.to_owned(),
        ] {
            assert!(allowed(&constraint).is_none(), "{constraint}");
        }
    }

    #[test]
    fn what_a_rule_or_a_pattern_allows_only_the_cluster_can_tell() {
        for constraint in [
            r#"<rsc_location id="l" rsc="portwatch"><rule id="r" score="0"/></rsc_location>"#
                .to_owned(),
            r#"<rsc_location id="l" rsc-pattern="x"><rule id="r" score-attribute="a"/></rsc_location>"#
                .to_owned(),
            location(r#"rsc-pattern="port.*" node="n1" score="0""#),
        ] {
            assert_eq!(allowed(&constraint), Allowance::ByRule, "{constraint}");
            assert!(allowed(&constraint).may_be("n1"));
        }
    }
}
