//! What the cluster has on record of the actions of a resource.

use std::io;
use std::time::{Duration, Instant};

use super::element::Element;
use crate::sys::command::run;
use crate::sys::program::command;

const CIBADMIN: &str = "cibadmin";
/// cibadmin's exit code where nothing is found (CRM_EX_NOSUCH).
const NO_SUCH: i32 = 105;
/// `op-status` of an action that has begun and not ended (PCMK_EXEC_PENDING).
const PENDING: &str = "-1";

/// A recurring monitor of a resource on a node.
#[derive(Debug, Clone, Copy)]
pub struct Monitor<'a> {
    /// The resource, without the number of a clone's instance.
    pub resource: &'a str,
    /// The node.
    pub node: &'a str,
    /// Its interval.
    pub interval: Duration,
}

impl Monitor<'_> {
    /// Whether the cluster has a result of it on record. It has none when the monitor runs for the first
    /// time since the resource was started or probed.
    ///
    /// # Errors
    /// What the tool says; `TimedOut` at `deadline`.
    pub fn has_result(&self, deadline: Instant) -> io::Result<bool> {
        let what = "read the record of the monitor";
        let mut query = command(CIBADMIN)?;
        query.args(["--query", "--local", "--xpath", &self.xpath()?]);
        let output = run(query, deadline)?;
        if output.status.code() == Some(NO_SUCH) {
            return Ok(false);
        }
        let text = output.check(what)?.text();
        let record = Element::parse(&text).map_err(|e| io::Error::other(format!("{what}: {e}")))?;
        Ok(is_result(&record))
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
        let interval = self.interval.as_millis();
        Ok(format!(
            "/cib/status/node_state[@uname='{node}']/lrm/lrm_resources/lrm_resource[@id='{resource}']\
             /lrm_rsc_op[@id='{resource}_monitor_{interval}']"
        ))
    }
}

fn is_result(record: &Element) -> bool {
    record.get("op-status").is_some_and(|s| s != PENDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_only_begun_is_no_result() {
        for (record, result) in [
            (
                r#"<lrm_rsc_op call-id="-1" rc-code="193" op-status="-1"/>"#,
                false,
            ),
            (
                r#"<lrm_rsc_op call-id="24" rc-code="0" op-status="0"/>"#,
                true,
            ),
            (r"<lrm_rsc_op/>", false),
        ] {
            let record = Element::parse(record).unwrap();
            assert_eq!(is_result(&record), result, "{record}");
        }
    }

    #[test]
    fn it_is_looked_for_by_node_resource_and_interval() {
        let monitor = |node| Monitor {
            resource: "alpha-ip1",
            node,
            interval: Duration::from_secs(10),
        };
        assert_eq!(
            monitor("n1").xpath().unwrap(),
            "/cib/status/node_state[@uname='n1']/lrm/lrm_resources/lrm_resource[@id='alpha-ip1']\
             /lrm_rsc_op[@id='alpha-ip1_monitor_10000']"
        );
        assert!(monitor("n'1").xpath().is_err());
    }
}
