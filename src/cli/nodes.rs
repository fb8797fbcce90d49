//! The nodes of the file beside those of the cluster.

use crate::cluster::element::Element;
use crate::cluster::properties;
use crate::config::Config;
use crate::config::problem::{listing, nearest};

/// The differences, each as one line.
pub(crate) struct Comparison {
    /// Nodes that the cluster does not have: a rule for one of them is for nobody.
    pub(crate) unknown: Vec<String>,
    /// Nodes that the file does not mention.
    pub(crate) unmentioned: Vec<String>,
}

impl Comparison {
    /// Of a file and a `<cib>`.
    pub(crate) fn of(config: &Config, cib: &Element) -> Self {
        let live = properties::nodes(cib);
        let named: Vec<&str> = config.nodes.iter().map(|n| n.name.value.as_str()).collect();
        let mut comparison = Self {
            unknown: Vec::new(),
            unmentioned: Vec::new(),
        };
        // A CIB in a file may have none yet, and a file without nodes takes them as they come.
        if live.is_empty() || named.is_empty() {
            return comparison;
        }
        for node in &config.nodes {
            let name = node.name.value.as_str();
            if !live.iter().any(|live| live == name) {
                comparison.unknown.push(format!(
                    "nodes.{name} (line {}): the cluster has no node {name}{} (it has {})",
                    node.name.line,
                    hint(name, &live),
                    listing(&live)
                ));
            }
        }
        let who = match properties::is_opt_in(cib) {
            false => "virtual servers may come to it, and its ports are found by their addresses",
            true => {
                "in this opt-in cluster (symmetric-cluster is false) virtual servers come to it only where other constraints allow it"
            }
        };
        for name in live.iter().filter(|live| !named.contains(&live.as_str())) {
            comparison.unmentioned.push(format!(
                "the cluster's node {name} is not in the file: {who}"
            ));
        }
        comparison
    }
}

/// The node that was meant: most often it is the same host, by its full or its short name.
fn hint(name: &str, live: &[String]) -> String {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    let same = live.iter().find(|live| short(live) == short(name));
    let meant = same.map(String::as_str);
    let meant = meant.or_else(|| nearest(name, live.iter().map(String::as_str)));
    meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn compared(file: &[&str], cluster: &[&str]) -> Comparison {
        let tables = file.iter().map(|node| format!("[nodes.{node:?}]\n"));
        let toml = format!(
            "{}[subnets]\na = {{ cidr = \"10.1.0.0/24\" }}\n",
            tables.collect::<String>()
        );
        let nodes = cluster
            .iter()
            .map(|name| format!(r#"<node id="{name}" uname="{name}"/>"#));
        let cib = format!(
            "<cib><configuration><nodes>{}</nodes></configuration></cib>",
            nodes.collect::<String>()
        );
        Comparison::of(&parse("f", &toml).unwrap(), &Element::parse(&cib).unwrap())
    }

    #[test]
    fn a_node_that_the_cluster_does_not_have_is_named_with_the_one_that_was_meant() {
        for (file, cluster, meant) in [
            ("n1.example.com", ["n1", "n2"], ", did you mean n1?"),
            (
                "n1",
                ["n2.example.com", "n1.example.com"],
                ", did you mean n1.example.com?",
            ),
            ("N1", ["n1", "n2"], ", did you mean n1?"),
            ("file-1", ["fiel-1", "other"], ", did you mean fiel-1?"),
            ("somebody", ["n1", "n2"], ""),
        ] {
            let found = compared(&[file], &cluster).unknown;
            let mut has = cluster;
            has.sort_unstable();
            let has = has.join(" and ");
            let expected = format!(
                "nodes.{file} (line 1): the cluster has no node {file}{meant} (it has {has})"
            );
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn in_an_opt_in_cluster_nothing_comes_to_a_node_that_the_file_does_not_mention_by_itself() {
        let toml = "[nodes.n1]\n[subnets]\na = { cidr = \"10.1.0.0/24\" }\n";
        let cib = r#"<cib><configuration><crm_config><cluster_property_set id="o"><nvpair id="s" name="symmetric-cluster" value="false"/></cluster_property_set></crm_config>
            <nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes></configuration></cib>"#;
        let found = Comparison::of(&parse("f", toml).unwrap(), &Element::parse(cib).unwrap());
        let end = "only where other constraints allow it";
        assert!(
            found.unmentioned[0].ends_with(end),
            "{:?}",
            found.unmentioned
        );
    }

    #[test]
    fn a_node_that_the_file_does_not_mention_is_told_if_it_mentions_any() {
        let found = compared(&["n1"], &["n1", "n2"]);
        assert!(found.unknown.is_empty());
        assert!(found.unmentioned[0].starts_with("the cluster's node n2 is not in the file"));
        assert!(compared(&[], &["n1"]).unmentioned.is_empty());
        assert!(compared(&["n1"], &[]).unknown.is_empty());
    }
}
