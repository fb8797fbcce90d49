//! The transient attributes of all nodes as the cluster has them on record, which is what the scheduler
//! sees; and the daemon that keeps them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::{Uid, User};

use super::element::Element;
use crate::sys::process;

/// What a query has to ask for. On record a node's attributes go by its number, so the names are asked for too.
pub(crate) const XPATH: &str =
    "/cib/configuration/nodes/node | /cib/status/node_state/transient_attributes";
/// Pacemaker's daemon that keeps the attributes of its node.
const KEEPER: &str = "pacemaker-attrd";
/// Whom it runs as; root's is one, too.
const DAEMON_USER: &str = "hacluster";

/// The values of attributes, by the attribute's name and the node's.
pub(crate) type Values = BTreeMap<String, BTreeMap<String, String>>;

/// Those among what a query for [`XPATH`] has found.
pub(crate) fn values(found: &Element) -> Values {
    // One that is found alone comes without anything around it.
    let all = match found.name.as_str() {
        "xpath-query" => &found.children[..],
        _ => std::slice::from_ref(found),
    };
    let nodes = all.iter().filter(|e| e.name == "node");
    let names: BTreeMap<&str, &str> = nodes
        .filter_map(|e| Some((e.get("id")?, e.get("uname")?)))
        .collect();
    let mut values = Values::new();
    for attributes in all.iter().filter(|e| e.name == "transient_attributes") {
        let Some(node) = attributes.get("id").and_then(|id| names.get(id)) else {
            continue;
        };
        for pair in attributes.walk().filter(|e| e.name == "nvpair") {
            if let (Some(name), Some(value)) = (pair.get("name"), pair.get("value")) {
                let of = values.entry(name.to_owned()).or_default();
                of.insert((*node).to_owned(), value.to_owned());
            }
        }
    }
    values
}

/// The process that keeps this node's attributes; `None` if there is none. When it ends, they are lost: the one
/// that follows it has none, private ones included, and takes them off the record.
///
/// # Errors
/// If it can't be looked for.
pub(crate) fn keeper() -> io::Result<Option<OwnedFd>> {
    // Where that user can't be looked up, nobody else's process is taken for it all the same.
    let daemons = User::from_name(DAEMON_USER).ok().flatten();
    let users: Vec<Uid> = daemons
        .map(|user| user.uid)
        .into_iter()
        .chain([Uid::from_raw(0)])
        .collect();
    process::find(KEEPER, &users)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from 2.1.5, shortened.
    const RECORDED: &str = r##"<xpath-query>
      <node id="1" uname="n1"><instance_attributes id="nodes-1">
        <nvpair id="nodes-1-standby" name="standby" value="off"/></instance_attributes></node>
      <node id="2" uname="n2"/>
      <transient_attributes id="1"><instance_attributes id="status-1">
        <nvpair id="status-1-.feature-set" name="#feature-set" value="3.16.1"/>
        <nvpair id="status-1-berth-ports" name="berth-ports" value="3"/></instance_attributes></transient_attributes>
      <transient_attributes id="2"><instance_attributes id="status-2">
        <nvpair id="status-2-berth-ports" name="berth-ports" value="2"/></instance_attributes></transient_attributes>
      <transient_attributes id="9"/>
    </xpath-query>"##;

    #[test]
    fn values_go_by_the_names_of_their_nodes() {
        let all = values(&Element::parse(RECORDED).unwrap());
        let pair = |node: &str, value: &str| (node.to_owned(), value.to_owned());
        assert_eq!(
            all["berth-ports"],
            [pair("n1", "3"), pair("n2", "2")].into()
        );
        assert_eq!(all["#feature-set"], [pair("n1", "3.16.1")].into());
        assert_eq!(all.len(), 2, "permanent ones are not of these");
    }

    #[test]
    fn a_cluster_of_one_node_may_have_none() {
        let node = Element::parse(r#"<node id="1" uname="n1"/>"#).unwrap();
        assert!(values(&node).is_empty());
    }
}
