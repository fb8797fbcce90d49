//! Whether the cluster can fence its nodes. Without that, two nodes may write to one file system.

use std::io;
use std::time::Instant;

use super::canonical::pairs;
use super::element::Element;
use crate::sys::command::run;
use crate::sys::program::command;

const STONITH_ADMIN: &str = "stonith_admin";

/// Seconds that a fence device may take to say which nodes it reaches.
const PATIENCE: u32 = 20;

/// Says what the configuration lacks for fencing.
///
/// # Errors
/// What is missing, and what would be right.
pub fn check_configuration(cib: &Element) -> Result<(), String> {
    let options = cib
        .child("configuration")
        .and_then(|c| c.child("crm_config"));
    let property = |name: &str| {
        let mut found = options
            .into_iter()
            .flat_map(|o| pairs(o, "cluster_property_set"));
        found
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.to_owned())
    };
    let enabled = property("stonith-enabled").unwrap_or_else(|| "true".to_owned());
    if !["true", "on", "yes", "y", "1"].contains(&enabled.to_lowercase().as_str()) {
        return Err(format!(
            "the cluster property stonith-enabled is {enabled}, it must be true"
        ));
    }
    let watchdog = property("stonith-watchdog-timeout").unwrap_or_default();
    let has_watchdog = !watchdog
        .trim_matches(|c: char| c == '0' || c.is_alphabetic())
        .is_empty();
    let devices = cib
        .child("configuration")
        .into_iter()
        .flat_map(Element::walk);
    let mut devices =
        devices.filter(|e| e.name == "primitive" && e.get("class") == Some("stonith"));
    if devices.next().is_none() && !has_watchdog {
        return Err("the cluster has no fence device (a resource of class stonith)".to_owned());
    }
    Ok(())
}

/// Names of the full members of the cluster.
pub fn nodes(cib: &Element) -> Vec<String> {
    let nodes = cib.child("configuration").and_then(|c| c.child("nodes"));
    let nodes = nodes.into_iter().flat_map(|n| &n.children);
    let members = nodes.filter(|n| n.get("type").is_none_or(|t| t == "member"));
    members
        .filter_map(|n| n.get("uname").map(str::to_owned))
        .collect()
}

/// Asks the running fencer whether a device reaches `node`.
///
/// # Errors
/// The tool can't be run or does not end.
pub fn reaches(node: &str, deadline: Instant) -> io::Result<bool> {
    let mut list = command(STONITH_ADMIN)?;
    list.args([
        "--list",
        node,
        &format!("--timeout={PATIENCE}"),
        "--output-as=xml",
    ]);
    let output = run(list, deadline)?;
    let answer = Element::parse(&output.text())
        .map_err(|e| io::Error::other(format!("list the fence devices of {node}: {e}")))?;
    let devices = answer
        .walk()
        .filter(|e| e.name == "item" || e.name == "device");
    Ok(output.status.success() && devices.count() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cib(property: &str, resource: &str) -> Element {
        let text = format!(
            "<cib><configuration><crm_config><cluster_property_set id=\"o\">{property}</cluster_property_set></crm_config>\
             <nodes><node id=\"1\" uname=\"n1\"/><node id=\"2\" uname=\"r\" type=\"remote\"/></nodes>\
             <resources>{resource}</resources></configuration></cib>"
        );
        Element::parse(&text).unwrap()
    }

    const DEVICE: &str = r#"<primitive id="f" class="stonith" type="fence_x"/>"#;

    #[test]
    fn fencing_needs_to_be_enabled_and_to_have_a_device() {
        let off = r#"<nvpair id="s" name="stonith-enabled" value="false"/>"#;
        let watchdog = r#"<nvpair id="s" name="stonith-watchdog-timeout" value="10s"/>"#;
        let no_watchdog = r#"<nvpair id="s" name="stonith-watchdog-timeout" value="0s"/>"#;
        assert!(check_configuration(&cib("", DEVICE)).is_ok());
        assert!(check_configuration(&cib(watchdog, "")).is_ok());
        for (property, resource) in [(off, DEVICE), ("", ""), (no_watchdog, "")] {
            assert!(check_configuration(&cib(property, resource)).is_err());
        }
    }

    #[test]
    fn remote_nodes_are_no_members() {
        assert_eq!(nodes(&cib("", "")), ["n1"]);
    }
}
