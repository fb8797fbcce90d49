//! A cluster in which a resource runs only where a constraint allows it (symmetric-cluster is false).

use std::collections::{BTreeMap, BTreeSet};

use super::super::Failure;
use crate::cluster::allowance::Allowance;
use crate::cluster::element::Element;
use crate::cluster::status::Status;
use crate::config::Config;
use crate::config::ids::OWNERSHIP;
use crate::config::model::Model;
use crate::config::problem::listing;

/// Where the resources of a file may run.
pub(crate) struct OptIn {
    /// The file's nodes.
    nodes: Vec<String>,
    /// Where others allow each resource to run.
    others: BTreeMap<String, Allowance>,
    /// What is to be said of it.
    pub(crate) warning: Option<String>,
}

impl OptIn {
    /// Has the resources of `model` run on the nodes of `config` and where others allow it in `cib`. A file without
    /// nodes leaves it to the others.
    pub(crate) fn settle(
        model: &mut Model,
        config: &Config,
        cib: &Element,
    ) -> Result<Self, Failure> {
        let others = model.resources.iter().map(|resource| {
            let names = (resource.id.as_str(), &*resource.reference());
            let allowance = Allowance::by_others(cib, names, OWNERSHIP);
            (resource.id.clone(), allowance)
        });
        let others: BTreeMap<String, Allowance> = others.collect();
        let nodes = config.nodes.iter().map(|n| n.name.value.clone());
        let nodes: Vec<String> = nodes.collect();
        let mut warning = None;
        if nodes.is_empty() {
            const WHAT: &str =
                "the cluster is opt-in (symmetric-cluster is false), and the file names no nodes";
            let (without, with): (Vec<_>, Vec<_>) = others.iter().partition(|(_, a)| a.is_none());
            if with.is_empty() {
                return Err(Failure::Refused(format!(
                    "{WHAT}: give each node that may run virtual servers a table [nodes.NAME]"
                )));
            }
            let without: Vec<String> = without.into_iter().map(|(id, _)| id.clone()).collect();
            let mut text = format!("{WHAT}: virtual servers run where other constraints allow it");
            if !without.is_empty() {
                text.push_str(&format!(", and none allows {}", listing(&without)));
            }
            warning = Some(text);
        } else {
            model.allow_on(&nodes, |resource| &others[&resource.id]);
        }
        Ok(Self {
            nodes,
            others,
            warning,
        })
    }

    /// What would be stopped, as it runs where it may not: one line for each node.
    pub(crate) fn stops(&self, status: &Status) -> Vec<String> {
        let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for instance in &status.instances {
            let Some(others) = self.others.get(&instance.id) else {
                continue;
            };
            for node in &instance.nodes {
                if !self.nodes.contains(node) && !others.may_be(node) {
                    found.entry(node).or_default().insert(&instance.id);
                }
            }
        }
        let lines = found.into_iter().map(|(node, ids)| {
            let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
            format!(
                "node {node} runs {} and is not in the file, nor allowed by another constraint: in this opt-in cluster (symmetric-cluster is false) they would stop there; give it a table [nodes.{node:?}], or put it in standby first",
                listing(&ids)
            )
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::build;
    use crate::config::ids::Known;
    use crate::config::model::Features;
    use crate::config::parse;

    const SERVER: &str = "[subnets]\na = { cidr = \"10.1.0.0/24\" }\n[vserver.alpha]\nvips = [\"10.1.0.50\"]\n\
        [[vserver.alpha.filesystem]]\nname = \"home\"\ndevice = \"/dev/a\"\npath = \"/a\"\nnfs = { clients = [\"10.1.0.0/24\"] }\n";

    fn settled(nodes: &str, constraints: &str) -> Result<(OptIn, Model), String> {
        let config = parse("f", &format!("{nodes}{SERVER}")).unwrap();
        let mut model = build(&config, Features::CURRENT, &Known::new());
        let cib = format!(
            "<cib><configuration><constraints>{constraints}</constraints></configuration></cib>"
        );
        let cib = Element::parse(&cib).unwrap();
        let settled = OptIn::settle(&mut model, &config, &cib);
        settled
            .map(|opt_in| (opt_in, model))
            .map_err(|failure| failure.text())
    }

    #[test]
    fn a_file_without_nodes_leaves_it_to_others_if_they_allow_anything() {
        let (opt_in, model) = settled(
            "",
            r#"<rsc_location id="l" rsc="alpha" node="n1" score="0"/>"#,
        )
        .unwrap();
        let said = opt_in.warning.unwrap();
        assert!(
            said.ends_with("and none allows alpha-home and alpha-ip1"),
            "{said}"
        );
        assert!(model.constraints.iter().all(|c| !c.id.contains("-on-")));
        let refused = settled("", "").err().unwrap();
        assert!(refused.contains("[nodes.NAME]"), "{refused}");
    }

    #[test]
    fn what_runs_on_a_node_that_nobody_allows_is_named() {
        let constraint = r#"<rsc_location id="l" rsc="alpha" node="n1" score="0"/>"#;
        let (opt_in, _) = settled("[nodes.n3]\n", constraint).unwrap();
        assert_eq!(opt_in.warning, None);
        let resource = |id, node| {
            format!(r#"<resource id="{id}" role="Started"><node name="{node}"/></resource>"#)
        };
        let status = |resources: &[String]| {
            let text = format!("<r><resources>{}</resources></r>", resources.concat());
            Status::from_answer(&Element::parse(&text).unwrap())
        };
        let good = [
            resource("alpha", "n1"),
            resource("alpha-home", "n3"),
            resource("foreign", "n2"),
        ];
        assert_eq!(opt_in.stops(&status(&good)), [""; 0]);
        let bad = [resource("alpha", "n2"), resource("alpha-home", "n1")];
        let said = opt_in.stops(&status(&bad));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("node n1 runs alpha-home and is not in the file"));
        assert!(said[1].starts_with("node n2 runs alpha and is not in the file"));
    }
}
