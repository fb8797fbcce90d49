//! The Pacemaker release of a cluster, and what berth needs.

use std::io;
use std::time::Instant;

use super::element::Element;
use super::tool::command;
use crate::sys::command::run;

const CRM_MON: &str = "crm_mon";

/// The oldest release of Pacemaker with all that berth uses: its attrd_updater is the first to answer in
/// XML.
const OLDEST: Numbers = Numbers(2, 1, 3);
/// The oldest schema of the CIB that has it: in older ones a rule can't refer to a meta attribute.
const OLDEST_SCHEMA: (u32, u32) = (2, 9);

/// Three numbers, compared one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Numbers(u32, u32, u32);

impl Numbers {
    /// What follows the third number, such as `-rc1`, is left out.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let mut next = || {
            let part = parts.next()?;
            let end = part.find(|c: char| !c.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().ok()
        };
        Some(Self(next()?, next()?, next()?))
    }
}

/// The features that all nodes of a cluster have: the number of the oldest one's Pacemaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FeatureSet(Numbers);

impl FeatureSet {
    /// Pacemaker 2.1.3: [`OLDEST`].
    const OLDEST: Self = Self(Numbers(3, 15, 0));
    /// Pacemaker 3.0.2, since which properties of fencing have new names.
    pub(crate) const FENCING_NAMES: Self = Self(Numbers(3, 20, 5));

    /// That of the cluster with this `<cib>`, if it tells.
    pub(crate) fn of(cib: &Element) -> Option<Self> {
        cib.get("crm_feature_set")
            .and_then(Numbers::parse)
            .map(Self)
    }
}

/// Checks that a cluster has what berth needs.
///
/// # Errors
/// What is too old, and what would do.
pub(crate) fn check(cib: &Element) -> Result<(), String> {
    if FeatureSet::of(cib).is_some_and(|set| set < FeatureSet::OLDEST) {
        let set = cib.get("crm_feature_set").unwrap_or_default();
        return Err(format!(
            "a node of the cluster has a Pacemaker that is too old (feature set {set}): berth needs {} or newer on all nodes",
            oldest()
        ));
    }
    let schema = cib.get("validate-with").unwrap_or_default();
    if schema_number(schema).is_some_and(|number| number < OLDEST_SCHEMA) {
        return Err(format!(
            "the CIB has the old form {schema}: bring it up to date first, with cibadmin --upgrade"
        ));
    }
    Ok(())
}

/// What of this node's Pacemaker does not suit berth, if there is one; asks no running cluster.
pub(crate) fn complaint_about_this_node(deadline: Instant) -> Option<String> {
    // That it is not installed, or does not answer, is no complaint: the file may be checked anywhere.
    complaint(&installed(deadline).ok()??)
}

fn complaint(version: &str) -> Option<String> {
    (Numbers::parse(version)? < OLDEST).then(|| {
        format!(
            "this node has Pacemaker {version}, berth needs {} or newer on all nodes",
            oldest()
        )
    })
}

fn installed(deadline: Instant) -> io::Result<Option<String>> {
    let mut crm_mon = command(CRM_MON)?;
    crm_mon.args(["--version", "--output-as=xml"]);
    let text = run(crm_mon, deadline)?.text();
    let answer = Element::parse(&text).map_err(io::Error::other)?;
    let version = answer.child("version").and_then(|v| v.get("version"));
    Ok(version.map(str::to_owned))
}

fn oldest() -> String {
    let Numbers(major, minor, micro) = OLDEST;
    format!("{major}.{minor}.{micro}")
}

fn schema_number(name: &str) -> Option<(u32, u32)> {
    let (major, minor) = name.strip_prefix("pacemaker-")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(set: &str, schema: &str) -> Option<String> {
        let cib = Element::new("cib")
            .with("crm_feature_set", set)
            .with("validate-with", schema);
        check(&cib).err()
    }

    #[test]
    fn releases_are_compared_by_number() {
        let numbers = |text| Numbers::parse(text).unwrap();
        assert!(numbers("2.1.3") < numbers("2.1.10"));
        assert!(numbers("2.1.10") < numbers("3.0.0"));
        assert_eq!(numbers("3.0.2-rc1"), numbers("3.0.2"));
        assert_eq!(Numbers::parse("2.1"), None);
        assert_eq!(Numbers::parse("new"), None);
    }

    #[test]
    fn this_node_is_complained_of_only_if_it_is_too_old() {
        let old = complaint("2.1.2").unwrap();
        assert_eq!(
            old,
            "this node has Pacemaker 2.1.2, berth needs 2.1.3 or newer on all nodes"
        );
        for good in ["2.1.3", "2.1.10-rc1", "3.0.2", "something else"] {
            assert_eq!(complaint(good), None);
        }
    }

    #[test]
    fn what_is_too_old_is_named_with_what_would_do() {
        for (set, schema) in [
            ("3.15.0", "pacemaker-3.7"),
            ("3.16.1", "pacemaker-2.9"),
            ("3.20.5", "pacemaker-4.0"),
            ("3.20.0", "none"),
        ] {
            assert_eq!(said(set, schema), None, "{set} {schema}");
        }
        let old = said("3.13.0", "pacemaker-3.7").unwrap();
        assert!(
            old.contains("3.13.0") && old.contains("2.1.3 or newer"),
            "{old}"
        );
        for schema in ["pacemaker-1.2", "pacemaker-2.0", "pacemaker-2.8"] {
            let old = said("3.16.1", schema).unwrap();
            assert!(old.contains(schema) && old.contains("cibadmin --upgrade"));
        }
        assert_eq!(check(&Element::new("cib")), Ok(()));
    }
}
