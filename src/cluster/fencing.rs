//! Whether the cluster can fence its nodes. Without that, two nodes may write to one file system.

use std::io;
use std::time::Instant;

use super::canonical::pairs;
use super::element::Element;
use super::release::FeatureSet;
use crate::sys::command::run;
use crate::sys::program::command;

const STONITH_ADMIN: &str = "stonith_admin";

/// Seconds that a fence device may take to say which nodes it reaches.
const PATIENCE: u32 = 20;

/// A cluster property that was renamed.
struct Renamed {
    old: &'static str,
    /// Since [`FeatureSet::FENCING_NAMES`]; it wins over the old one.
    new: &'static str,
}

/// Whether nodes are fenced.
const ENABLED: Renamed = Renamed {
    old: "stonith-enabled",
    new: "fencing-enabled",
};
/// Within which time a lost node's watchdog has reset it.
const WATCHDOG: Renamed = Renamed {
    old: "stonith-watchdog-timeout",
    new: "fencing-watchdog-timeout",
};

/// Says what the configuration lacks for fencing.
///
/// # Errors
/// What is missing, and what would be right.
pub fn check_configuration(cib: &Element) -> Result<(), String> {
    // Of a cluster that is older, the old name counts now and the new one after its update.
    let knows_new = FeatureSet::of(cib).is_some_and(|set| set >= FeatureSet::FENCING_NAMES);
    let [old, new] = [ENABLED.old, ENABLED.new].map(|name| Some((name, property(cib, name)?)));
    let said = match new.filter(|_| knows_new) {
        Some(new) => vec![new],
        None => [old, new].into_iter().flatten().collect(),
    };
    if let Some((name, value)) = said.into_iter().find(|(_, value)| !is_true(value)) {
        return Err(format!(
            "the cluster property {name} is {value}, it must be true"
        ));
    }
    let watchdog = Some(WATCHDOG.new).filter(|_| knows_new);
    let watchdog = watchdog.and_then(|name| property(cib, name));
    let watchdog = watchdog.or_else(|| property(cib, WATCHDOG.old));
    if !has_device(cib) && !watchdog.is_some_and(is_some_time) {
        return Err("the cluster has no fence device (a resource of class stonith)".to_owned());
    }
    Ok(())
}

/// The value of a cluster property, if it is set.
fn property<'c>(cib: &'c Element, name: &str) -> Option<&'c str> {
    let options = cib.child("configuration")?.child("crm_config")?;
    let mut found = pairs(options, "cluster_property_set").filter(|(n, _)| *n == name);
    found.next().map(|(_, value)| value)
}

fn is_true(value: &str) -> bool {
    ["true", "on", "yes", "y", "1"].contains(&value.to_lowercase().as_str())
}

/// Whether a time is not 0, in whatever unit. A negative one stands for one that Pacemaker works out.
fn is_some_time(value: &str) -> bool {
    let number = value.trim_matches(|c: char| c == '0' || c.is_alphabetic() || c.is_whitespace());
    !number.is_empty()
}

fn has_device(cib: &Element) -> bool {
    let configuration = cib.child("configuration").into_iter();
    let mut all = configuration.flat_map(Element::walk);
    all.any(|e| e.name == "primitive" && e.get("class") == Some("stonith"))
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

    /// A cluster of Pacemaker 2.1.5 or 3.0.1 (old) or of 3.0.2 (new).
    const OLD: &str = "3.20.1";
    const NEW: &str = "3.20.5";
    const DEVICE: &str = r#"<primitive id="f" class="stonith" type="fence_x"/>"#;

    fn cib(set: &str, properties: &[(&str, &str)], resource: &str) -> Element {
        let pairs = properties.iter();
        let pairs = pairs.map(|(n, v)| format!(r#"<nvpair id="o-{n}" name="{n}" value="{v}"/>"#));
        let text = format!(
            "<cib crm_feature_set=\"{set}\"><configuration><crm_config><cluster_property_set id=\"o\">{}</cluster_property_set></crm_config>\
             <nodes><node id=\"1\" uname=\"n1\"/><node id=\"2\" uname=\"r\" type=\"remote\"/></nodes>\
             <resources>{resource}</resources></configuration></cib>",
            pairs.collect::<String>()
        );
        Element::parse(&text).unwrap()
    }

    fn refused(set: &str, properties: &[(&str, &str)], resource: &str) -> Option<String> {
        check_configuration(&cib(set, properties, resource)).err()
    }

    #[test]
    fn fencing_needs_to_be_enabled_and_to_have_a_device() {
        for set in [OLD, NEW] {
            assert_eq!(refused(set, &[], DEVICE), None);
            assert_eq!(
                refused(set, &[("stonith-watchdog-timeout", "10s")], ""),
                None
            );
            assert_eq!(
                refused(set, &[("stonith-watchdog-timeout", "-1")], ""),
                None
            );
            for none in [&[][..], &[("stonith-watchdog-timeout", "0s")]] {
                assert!(refused(set, none, "").unwrap().contains("no fence device"));
            }
            for name in ["stonith-enabled", "fencing-enabled"] {
                let said = refused(set, &[(name, "false")], DEVICE).unwrap();
                let expected = format!("the cluster property {name} is false, it must be true");
                assert_eq!(said, expected);
            }
        }
    }

    #[test]
    fn the_new_name_wins_where_pacemaker_knows_it() {
        let off = [("stonith-enabled", "false"), ("fencing-enabled", "true")];
        assert_eq!(refused(NEW, &off, DEVICE), None);
        assert!(
            refused(OLD, &off, DEVICE)
                .unwrap()
                .contains("stonith-enabled is false")
        );
        let on = [("stonith-enabled", "true"), ("fencing-enabled", "off")];
        for set in [OLD, NEW] {
            assert!(
                refused(set, &on, DEVICE)
                    .unwrap()
                    .contains("fencing-enabled is off")
            );
        }
        let new = [("fencing-watchdog-timeout", "10s")];
        assert_eq!(refused(NEW, &new, ""), None);
        assert!(refused(OLD, &new, "").is_some());
        let both = [
            ("stonith-watchdog-timeout", "10s"),
            ("fencing-watchdog-timeout", "0"),
        ];
        assert!(refused(NEW, &both, "").is_some());
    }

    #[test]
    fn remote_nodes_are_no_members() {
        assert_eq!(nodes(&cib(OLD, &[], "")), ["n1"]);
    }
}
