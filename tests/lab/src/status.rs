//! What the cluster says of itself: read from its tools' XML, exit codes and states, never from words that
//! another release may change.

use std::time::Duration;

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::wait::{holds, wait_for};

const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// The exit code of a monitor that found its resource running, but not well.
const DEGRADED: &str = "190";

/// An action that the cluster lists as failed or degraded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The resource, without the number of a clone's instance.
    pub resource: String,
    /// The node.
    pub node: String,
    /// The exit reason.
    pub reason: String,
    /// Whether the resource is only degraded.
    pub degraded: bool,
}

/// A resource, or an instance of a clone, that a node has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// The resource, without the number of a clone's instance.
    pub resource: String,
    /// The node.
    pub node: String,
    /// Whether it has started there; else it is starting or stopping.
    pub started: bool,
}

/// What the cluster lists as failed and as degraded.
///
/// # Errors
/// If it can't be asked.
pub fn complaints(lab: &Lab, asked: &str) -> Result<Vec<Complaint>> {
    ask(lab, asked, &["crm_mon", "-1", "--output-as=xml"], |xml| {
        let failures = xml.descendants().filter(|n| n.has_tag_name("failure"));
        failures.map(complaint).collect()
    })
}

fn complaint(failure: roxmltree::Node<'_, '_>) -> Complaint {
    let of = |name| failure.attribute(name).unwrap_or_default().to_owned();
    let key = of("op_key");
    // RESOURCE_ACTION_INTERVAL
    let resource = key.rsplitn(3, '_').last().unwrap_or_default();
    Complaint {
        resource: resource.to_owned(),
        node: of("node"),
        reason: of("exitreason"),
        degraded: of("exitcode") == DEGRADED,
    }
}

/// What nodes have of resources.
///
/// # Errors
/// If the cluster can't be asked.
pub fn instances(lab: &Lab, asked: &str) -> Result<Vec<Instance>> {
    ask(lab, asked, &["crm_mon", "-1", "--output-as=xml"], |xml| {
        let resources = xml.descendants().filter(|n| n.has_tag_name("resource"));
        resources.flat_map(instances_of).collect()
    })
}

fn instances_of(resource: roxmltree::Node<'_, '_>) -> Vec<Instance> {
    let id = resource.attribute("id").unwrap_or_default();
    let id = id.split(':').next().unwrap_or(id);
    let nodes = resource.children().filter(|n| n.has_tag_name("node"));
    nodes
        .filter_map(|n| n.attribute("name"))
        .map(|node| Instance {
            resource: id.to_owned(),
            node: node.to_owned(),
            started: resource.attribute("role") == Some("Started"),
        })
        .collect()
}

/// Waits until the cluster has nothing more to do.
///
/// # Errors
/// If it still has a minute later.
pub fn settle(lab: &Lab, asked: &str) -> Result<()> {
    wait_for("the cluster to be idle", SETTLE_LIMIT, || {
        let words = ["crmadmin", "--dc_lookup", "--output-as=xml"];
        let dc = ask(lab, asked, &words, |xml| attribute(xml, "dc", "node_name"))?;
        let dc = dc.ok_or_else(|| Error::new("no controller"))?;
        let words = ["crmadmin", "--status", &dc, "--output-as=xml"];
        let state = ask(lab, asked, &words, |xml| attribute(xml, "crmd", "state"))?;
        holds(
            state.as_deref() == Some("S_IDLE"),
            Error::new(format!("{dc} is in state {state:?}")),
        )
    })
}

fn attribute(xml: &roxmltree::Document<'_>, tag: &str, name: &str) -> Option<String> {
    let element = xml.descendants().find(|n| n.has_tag_name(tag))?;
    element.attribute(name).map(str::to_owned)
}

fn ask<T>(
    lab: &Lab,
    asked: &str,
    words: &[&str],
    read: impl FnOnce(&roxmltree::Document<'_>) -> T,
) -> Result<T> {
    let output = lab.exec(asked, words)?.check(words[0])?;
    let xml = roxmltree::Document::parse(&output.stdout).context(words[0])?;
    Ok(read(&xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_degraded_from_failed_whatever_it_is_called() {
        for (words, code, degraded) in [
            ("OCF_DEGRADED", "190", true),
            ("Service is active but might fail soon", "190", true),
            ("unknown error", "1", false),
        ] {
            let text = format!(
                r#"<failure op_key="alpha-ip1_monitor_10000" node="n1" exitstatus="{words}" exitcode="{code}" exitreason="why"/>"#
            );
            let xml = roxmltree::Document::parse(&text).unwrap();
            let complaint = complaint(xml.root_element());
            assert_eq!(complaint.degraded, degraded, "{words}");
            assert_eq!(complaint.resource, "alpha-ip1");
        }
    }

    #[test]
    fn an_instance_of_a_clone_has_the_name_of_its_resource() {
        let text =
            r#"<resource id="portwatch:1" role="Started"><node name="n2" id="2"/></resource>"#;
        let xml = roxmltree::Document::parse(text).unwrap();
        let instance = Instance {
            resource: "portwatch".to_owned(),
            node: "n2".to_owned(),
            started: true,
        };
        assert_eq!(instances_of(xml.root_element()), [instance]);
    }
}
