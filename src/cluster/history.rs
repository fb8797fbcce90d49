//! The history of a resource's actions in the CIB.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use super::element::Element;
use super::tool::query;

/// `op-status` of an action that has begun and not ended (PCMK_EXEC_PENDING).
const PENDING: &str = "-1";
/// `rc-code` of what is degraded (OCF_RA 1.1, PCMK_OCF_DEGRADED).
const DEGRADED: &str = "190";

/// A recurring monitor of a resource on a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monitor<'a> {
    /// The resource, without the number of a clone's instance.
    pub(crate) resource: &'a str,
    /// The node.
    pub(crate) node: &'a str,
    /// Its interval.
    pub(crate) interval: Duration,
}

impl Monitor<'_> {
    /// Whether the cluster has a result of it on record that is newer than the resource's last start or
    /// probe on the node. The one of a life before stays on record until the monitor begins anew, and the
    /// note that it has begun may come later than the monitor itself.
    ///
    /// # Errors
    /// What the tool says; `TimedOut` at `deadline`.
    pub(crate) fn has_result(&self, deadline: Instant) -> io::Result<bool> {
        let what = "read the record of the monitor";
        let resource = query(&self.xpath()?, what, deadline)?;
        Ok(resource.is_some_and(|resource| self.is_result_in(&resource)))
    }

    /// Whether the record of the resource's actions has it.
    fn is_result_in(&self, resource: &Element) -> bool {
        let name = self.resource;
        let find = |id: String| resource.children.iter().find(|e| e.id() == id);
        // The executor counts its calls; a note has -1.
        let call = |e: &Element| e.get("call-id").and_then(|n| n.parse::<i64>().ok());
        let monitor = find(format!("{name}_monitor_{}", self.interval.as_millis()))
            .filter(|e| e.get("op-status").is_some_and(|status| status != PENDING))
            .and_then(call);
        let begin = find(format!("{name}_last_0")).and_then(call);
        monitor.is_some_and(|monitor| begin.is_none_or(|begin| monitor > begin))
    }

    fn xpath(&self) -> io::Result<String> {
        let (resource, node) = (self.resource, self.node);
        // Neither has one where it comes from Pacemaker, and there is no way to write it in XPath.
        if resource.contains('\'') || node.contains('\'') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no name in a cluster: {resource:?}, {node:?}"),
            ));
        }
        Ok(format!(
            "/cib/status/node_state[@uname='{node}']/lrm/lrm_resources/lrm_resource[@id='{resource}']"
        ))
    }
}

/// What finds, in a query, the resources on `node` that [`unmonitored`] is about; `None` if the node's name can't be
/// asked for.
pub(crate) fn xpath_of_unmonitored(node: &str) -> Option<String> {
    let quotable = !node.contains(['\'', '"', '&', '<']);
    quotable.then(|| {
        format!(
            "/cib/status/node_state[@uname='{node}']/lrm/lrm_resources/lrm_resource[@provider='berth']\
             [lrm_rsc_op[@rc-code='{DEGRADED}']]\
             [not(lrm_rsc_op[@operation='monitor'][@interval!='0'][not(contains(@id,'_last_failure_'))])]"
        )
    })
}

/// berth's resources, among what a query has found, that were degraded when their monitor was cancelled, by
/// maintenance mode for instance. Of the monitor nothing is left on record but its last "failure"; by that the
/// scheduler takes it for active and never begins it anew (seen with 2.1.5 and 3.0.0).
///
/// A node that has another controller than before writes what it has anew, and then the same is on record of a
/// resource that is degraded and monitored. What makes the cluster look at it anew does no harm there.
pub(crate) fn unmonitored(found: &Element) -> BTreeSet<String> {
    let own = found.walk().filter(|e| e.name == "lrm_resource");
    // An instance of a clone goes by its resource's name.
    own.filter_map(|e| e.id().split(':').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor(node: &str) -> Monitor<'_> {
        Monitor {
            resource: "alpha-ip1",
            node,
            interval: Duration::from_secs(10),
        }
    }

    /// Recorded from 3.0.0, shortened.
    const STARTED: &str =
        r#"<lrm_rsc_op id="alpha-ip1_last_0" operation="start" call-id="23" op-status="0"/>"#;
    const DEGRADED: &str = r#"<lrm_rsc_op id="alpha-ip1_last_failure_0" operation="monitor" interval="10000" call-id="24" rc-code="190" op-status="0"/>"#;

    fn recurring(call: i64, status: i64) -> String {
        format!(
            r#"<lrm_rsc_op id="alpha-ip1_monitor_10000" operation="monitor" interval="10000" call-id="{call}" op-status="{status}"/>"#
        )
    }

    #[test]
    fn only_a_result_since_the_last_start_counts() {
        for (records, result) in [
            (vec![STARTED.to_owned()], false),
            (vec![STARTED.to_owned(), recurring(-1, -1)], false),
            (vec![STARTED.to_owned(), recurring(24, 0)], true),
            // What was before the start.
            (vec![STARTED.to_owned(), recurring(19, 0)], false),
            (
                vec![STARTED.to_owned(), recurring(-1, -1), DEGRADED.to_owned()],
                false,
            ),
            (
                vec![STARTED.to_owned(), recurring(24, 0), DEGRADED.to_owned()],
                true,
            ),
            (vec![recurring(24, 0)], true),
            (vec![], false),
        ] {
            let text = format!(
                "<lrm_resource id=\"alpha-ip1\">{}</lrm_resource>",
                records.concat()
            );
            let resource = Element::parse(&text).unwrap();
            assert_eq!(monitor("n1").is_result_in(&resource), result, "{text}");
        }
    }

    #[test]
    fn a_resource_is_looked_for_by_node_and_name() {
        assert_eq!(
            monitor("n1").xpath().unwrap(),
            "/cib/status/node_state[@uname='n1']/lrm/lrm_resources/lrm_resource[@id='alpha-ip1']"
        );
        assert!(monitor("n'1").xpath().is_err());
    }
}
