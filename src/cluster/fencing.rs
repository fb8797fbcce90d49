//! Whether the cluster can fence its nodes. Without that, two nodes may write to one file system.

use std::io;
use std::time::Instant;

use super::canonical::pairs;
use super::element::Element;
use super::properties::{by_rule, is_true, property};
use super::release::FeatureSet;
use super::tool::command;
use crate::sys::command::run;

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

/// What a configuration lacks for fencing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lack {
    /// What is missing, and what would be right.
    pub(crate) text: String,
    /// Whether there is nothing at all that could fence. If there is a device, that one has to be mended.
    pub(crate) no_device: bool,
}

/// Checks that the configuration has what fencing needs.
///
/// # Errors
/// What it lacks.
pub(crate) fn check_configuration(cib: &Element) -> Result<(), Lack> {
    let devices = devices(cib);
    let has_watchdog = watchdog(cib);
    let lack = |text: String| {
        Err(Lack {
            text,
            no_device: devices.is_empty() && has_watchdog != Some(true),
        })
    };
    if let Some(off) = switched_off(cib) {
        return lack(off);
    }
    if has_watchdog == Some(true) || devices.iter().any(|device| device.enabled) {
        return Ok(());
    }
    if has_watchdog == Some(false) {
        let name = WATCHDOG.old;
        return lack(format!(
            "{name} is set, but have-watchdog is false: SBD does not run on the nodes"
        ));
    }
    match devices.as_slice() {
        [] => lack("the cluster has no fence device (a resource of class stonith)".to_owned()),
        disabled => {
            let ids: Vec<&str> = disabled.iter().map(|d| d.id).collect();
            let ids = ids.join(", ");
            lack(format!(
                "all fence devices are set to stay stopped (target-role): {ids}"
            ))
        }
    }
}

/// The property that switches fencing off, at all times or at some.
fn switched_off(cib: &Element) -> Option<String> {
    // Of a cluster that is older, the old name counts now and the new one after its update.
    let knows_new = FeatureSet::of(cib).is_some_and(|set| set >= FeatureSet::FENCING_NAMES);
    let [old, new] = [ENABLED.old, ENABLED.new].map(|name| Some((name, property(cib, name)?)));
    let said = match new.filter(|_| knows_new) {
        Some(new) => vec![new],
        None => [old, new].into_iter().flatten().collect(),
    };
    if let Some((name, value)) = said.into_iter().find(|(_, value)| !is_true(value)) {
        return Some(format!(
            "the cluster property {name} is {value}, it must be true"
        ));
    }
    [ENABLED.old, ENABLED.new].into_iter().find_map(|name| {
        let mut at_times = by_rule(cib, name).into_iter();
        let (set, value) = at_times.find(|(_, value)| !is_true(value))?;
        Some(format!(
            "the cluster property {name} is {value} at times, by the rule of {set}: it must always be true"
        ))
    })
}

/// Whether nodes without any device reset themselves by their watchdogs; `None` if nothing is set so.
fn watchdog(cib: &Element) -> Option<bool> {
    let knows_new = FeatureSet::of(cib).is_some_and(|set| set >= FeatureSet::FENCING_NAMES);
    let new = Some(WATCHDOG.new).filter(|_| knows_new);
    let time = new.and_then(|name| property(cib, name));
    let time = time.or_else(|| property(cib, WATCHDOG.old));
    time.filter(|time| is_some_time(time))?;
    // The cluster sets it itself, when it has found out.
    Some(property(cib, "have-watchdog").is_none_or(is_true))
}

/// Whether a time is not 0, in whatever unit. A negative one stands for one that Pacemaker works out.
fn is_some_time(value: &str) -> bool {
    let number = value.trim_matches(|c: char| c == '0' || c.is_alphabetic() || c.is_whitespace());
    !number.is_empty()
}

/// A fence device.
struct Device<'c> {
    id: &'c str,
    enabled: bool,
}

/// The fence devices, alone or in groups and clones, of a class of their own or a template's.
fn devices(cib: &Element) -> Vec<Device<'_>> {
    let configuration = cib.child("configuration");
    let section = |name| configuration.and_then(|c| c.child(name));
    let resources = section("resources").map_or(&[][..], |r| &r.children);
    let defaults = section("rsc_defaults").and_then(role);
    let mut devices = Vec::new();
    for top in resources.iter().filter(|top| top.name != "template") {
        for primitive in top.walk().filter(|e| e.name == "primitive") {
            let template = primitive.get("template").and_then(|id| {
                let mut templates = resources.iter().filter(|e| e.name == "template");
                templates.find(|template| template.id() == id)
            });
            let class = primitive.get("class");
            let class = class.or_else(|| template.and_then(|t| t.get("class")));
            if class != Some("stonith") {
                continue;
            }
            // What is around it comes after its own and before the defaults.
            let around = top.walk().filter(|e| {
                e.name != "primitive" && e.walk().any(|inner| inner.id() == primitive.id())
            });
            let roles = [Some(primitive), template].into_iter().flatten();
            let role = roles.chain(around).find_map(role).or(defaults);
            devices.push(Device {
                id: primitive.id(),
                enabled: !role.is_some_and(|role| role.eq_ignore_ascii_case("Stopped")),
            });
        }
    }
    devices
}

/// The `target-role` that is set on an element itself.
fn role(element: &Element) -> Option<&str> {
    let mut meta = pairs(element, "meta_attributes").filter(|(name, _)| *name == "target-role");
    meta.next().map(|(_, value)| value)
}

/// Asks the running fencer whether any device can fence `node`.
///
/// # Errors
/// The tool can't be run or does not end.
pub(crate) fn reaches(node: &str, deadline: Instant) -> io::Result<bool> {
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
        let lack = check_configuration(&cib(set, properties, resource)).err();
        lack.map(|lack| lack.text)
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
    fn a_device_counts_wherever_it_is_unless_it_is_set_to_stay_stopped() {
        let template = r#"<template id="t" class="stonith" type="fence_x"/>"#;
        let of_template = r#"<primitive id="f" template="t"/>"#;
        let stopped = r#"<meta_attributes id="m"><nvpair id="m-t" name="target-role" value="stopped"/></meta_attributes>"#;
        let inside = |outer: &str, meta: &str, what: &str| {
            format!("<{outer} id=\"o\">{meta}{what}</{outer}>")
        };
        for device in [
            format!("{template}{of_template}"),
            inside("group", "", DEVICE),
            inside("clone", "", DEVICE),
            inside(
                "clone",
                "",
                &inside("group", "", DEVICE).replace("\"o\"", "\"p\""),
            ),
        ] {
            assert_eq!(refused(OLD, &[], &device), None, "{device}");
        }
        let none = refused(OLD, &[], template).unwrap();
        assert!(none.contains("no fence device"), "{none}");
        let own = DEVICE.replace("/>", &format!(">{stopped}</primitive>"));
        for disabled in [
            own.clone(),
            inside("group", stopped, DEVICE),
            inside("clone", stopped, DEVICE),
            format!(
                "{}{of_template}",
                template.replace("/>", &format!(">{stopped}</template>"))
            ),
        ] {
            let lack = check_configuration(&cib(OLD, &[], &disabled)).unwrap_err();
            let text = "all fence devices are set to stay stopped (target-role): f";
            assert_eq!((lack.text.as_str(), lack.no_device), (text, false));
        }
        let other = DEVICE.replace("\"f\"", "\"g\"");
        assert_eq!(refused(OLD, &[], &format!("{own}{other}")), None);
    }

    #[test]
    fn that_there_is_a_device_is_known_where_fencing_is_switched_off() {
        let off = [("stonith-enabled", "false")];
        let lack = |device| check_configuration(&cib(OLD, &off, device)).unwrap_err();
        assert!(lack("").no_device && !lack(DEVICE).no_device);
    }

    #[test]
    fn a_watchdog_time_is_worth_nothing_without_a_watchdog() {
        let time = ("stonith-watchdog-timeout", "10s");
        let said = refused(OLD, &[time, ("have-watchdog", "false")], "").unwrap();
        assert!(said.contains("have-watchdog is false"), "{said}");
        assert_eq!(refused(OLD, &[time, ("have-watchdog", "true")], ""), None);
        assert_eq!(
            refused(OLD, &[time, ("have-watchdog", "false")], DEVICE),
            None
        );
    }

    #[test]
    fn fencing_that_is_off_at_times_is_off() {
        let mut cib = cib(OLD, &[], DEVICE);
        let set = r#"<cluster_property_set id="night"><rule id="r"/><nvpair id="p" name="stonith-enabled" value="false"/></cluster_property_set>"#;
        let options = cib.child_mut("configuration").child_mut("crm_config");
        options.children.push(Element::parse(set).unwrap());
        let lack = check_configuration(&cib).unwrap_err();
        assert!(
            lack.text.contains("at times, by the rule of night"),
            "{lack:?}"
        );
    }
}
