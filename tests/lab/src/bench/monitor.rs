//! What one `monitor` costs, ours beside the stock agents', on one node in one run.

use std::time::Duration;

use super::measure::Cost;
use crate::control::Lab;
use crate::error::{Context, Error, Result};

const RUNS: &str = "50";
const LIMIT: Duration = Duration::from_secs(120);
/// Where the stock Filesystem agent mounts for its measurement.
const MOUNT_POINT: &str = "/mnt/stock";
const STOCK_IP: &str = "10.1.0.77";

/// An agent's monitor and what it costs.
#[derive(Debug)]
pub struct Row {
    /// `provider:agent`.
    pub agent: String,
    /// Its cost.
    pub cost: Cost,
}

/// Measures the monitors of the resources named, which must run on `node`, and those of Filesystem
/// (with `spare` as its disk) and IPaddr2 beside them.
///
/// # Errors
/// If a resource is not there or a monitor does not say "running".
pub fn measure(lab: &Lab, node: &str, resources: &[&str], spare: &str) -> Result<Vec<Row>> {
    let mut rows = vec![];
    for id in resources {
        rows.push(Subject::resource(lab, node, id)?.cost(lab, node)?);
    }
    lab.exec(node, &["mkdir", "-p", MOUNT_POINT])?
        .check("mkdir")?;
    let device = format!("/dev/disk/lab/{spare}");
    let filesystem = [
        ("device", &*device),
        ("directory", MOUNT_POINT),
        ("fstype", "ext4"),
    ];
    let address = [("ip", STOCK_IP), ("cidr_netmask", "24"), ("nic", "eth1")];
    for stock in [
        Subject::stock("Filesystem", &filesystem),
        Subject::stock("IPaddr2", &address),
    ] {
        stock.act(lab, node, "start")?;
        rows.push(stock.cost(lab, node)?);
        stock.act(lab, node, "stop")?;
    }
    Ok(rows)
}

/// What an agent is called with.
struct Subject {
    id: String,
    provider: String,
    agent: String,
    parameters: Vec<(String, String)>,
}

impl Subject {
    fn stock(agent: &str, parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Self {
            id: "bench".to_owned(),
            provider: "heartbeat".to_owned(),
            agent: agent.to_owned(),
            parameters: parameters.collect(),
        }
    }

    /// A resource, from the CIB.
    fn resource(lab: &Lab, node: &str, id: &str) -> Result<Self> {
        let path = format!("//primitive[@id='{id}']");
        let output = lab.exec(node, &["cibadmin", "--query", "--xpath", &path])?;
        let output = output.check(format!("resource {id}"))?;
        let xml = roxmltree::Document::parse(&output.stdout).context("cibadmin")?;
        let root = xml.root_element();
        let attribute = |name: &str| root.attribute(name).unwrap_or_default().to_owned();
        let nvpair = |n: roxmltree::Node| {
            Some((
                n.attribute("name")?.to_owned(),
                n.attribute("value")?.to_owned(),
            ))
        };
        let sets = root
            .children()
            .filter(|n| n.has_tag_name("instance_attributes"));
        Ok(Self {
            id: id.to_owned(),
            provider: attribute("provider"),
            agent: attribute("type"),
            parameters: sets.flat_map(|n| n.children()).filter_map(nvpair).collect(),
        })
    }

    /// The environment of its agent's call, as the executor makes it.
    fn environment(&self) -> Vec<String> {
        let mut variables = vec![
            "OCF_ROOT=/usr/lib/ocf".to_owned(),
            "OCF_RA_VERSION_MAJOR=1".to_owned(),
            "OCF_RA_VERSION_MINOR=1".to_owned(),
            format!("OCF_RESOURCE_INSTANCE={}", self.id),
            format!("OCF_RESOURCE_PROVIDER={}", self.provider),
            format!("OCF_RESOURCE_TYPE={}", self.agent),
            "OCF_RESKEY_CRM_meta_timeout=60000".to_owned(),
            "OCF_RESKEY_CRM_meta_interval=10000".to_owned(),
            "HA_LOGFACILITY=none".to_owned(),
        ];
        let parameters = self.parameters.iter();
        variables.extend(parameters.map(|(name, value)| format!("OCF_RESKEY_{name}={value}")));
        variables
    }

    fn program(&self) -> String {
        format!("/usr/lib/ocf/resource.d/{}/{}", self.provider, self.agent)
    }

    fn act(&self, lab: &Lab, node: &str, action: &str) -> Result<()> {
        let mut words = vec!["env".to_owned()];
        words.extend(self.environment());
        words.extend([self.program(), action.to_owned()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        lab.exec(node, &words)?
            .check(format!("{} {action}", self.agent))?;
        Ok(())
    }

    fn cost(&self, lab: &Lab, node: &str) -> Result<Row> {
        let mut words: Vec<String> = ["lab", "measure", "--runs", RUNS].map(str::to_owned).into();
        for variable in self.environment() {
            words.extend(["--env".to_owned(), variable]);
        }
        words.extend(["--".to_owned(), self.program(), "monitor".to_owned()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let what = format!("measure the monitor of {}", self.id);
        let output = lab.exec_within(node, &words, LIMIT)?.check(&what)?;
        let cost: Cost = serde_json::from_str(&output.stdout).context(&what)?;
        if cost.code != 0 {
            return Err(Error::new(format!("{what}: exit code {}", cost.code)));
        }
        Ok(Row {
            agent: format!("{}:{}", self.provider, self.agent),
            cost,
        })
    }
}
