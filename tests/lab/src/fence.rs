//! `fence_lab`: the fence agent of the lab's nodes. It asks the power switch outside of them.
//!
//! It follows the fence agent API: options as `name=value` lines on standard input, or `-o ACTION`
//! and `-n PLUG` when used by hand.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use crate::error::{Context, Error, Result};
use crate::machine::SWITCH;
use crate::protocol::{Connection, Power, Request};

/// Exit code of `status` and `monitor` for a node without power.
const OFF: u8 = 2;
const INPUT_LIMIT: u64 = 64 << 10;

const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Power switch of the lab">
<longdesc>Cuts a node's disks and kills all its processes, or boots it.</longdesc>
<vendor-url></vendor-url>
<parameters>
<parameter name="action" required="1">
<getopt mixed="-o, --action=[action]"/>
<content type="string" default="reboot"/>
<shortdesc lang="en">Fencing action</shortdesc>
</parameter>
<parameter name="plug" required="1" obsoletes="port">
<getopt mixed="-n, --plug=[name]"/>
<content type="string"/>
<shortdesc lang="en">Name of the node</shortdesc>
</parameter>
<parameter name="port" required="0" deprecated="1">
<getopt mixed="-n, --plug=[name]"/>
<content type="string"/>
<shortdesc lang="en">Name of the node</shortdesc>
</parameter>
</parameters>
<actions>
<action name="on" automatic="0"/>
<action name="off"/>
<action name="reboot"/>
<action name="status"/>
<action name="monitor"/>
<action name="list"/>
<action name="metadata"/>
</actions>
</resource-agent>
"#;

/// Does what its options say.
pub fn main(args: &[String]) -> ExitCode {
    match act(args) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("fence_lab: {e}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Wish {
    action: Option<String>,
    plug: Option<String>,
}

fn act(args: &[String]) -> Result<u8> {
    let wish = if args.is_empty() {
        let mut text = String::new();
        let mut input = std::io::stdin().take(INPUT_LIMIT);
        input
            .read_to_string(&mut text)
            .context("read the options")?;
        from_lines(&text)
    } else {
        from_args(args)?
    };
    let plug = || {
        wish.plug
            .clone()
            .ok_or_else(|| Error::new("plug: the node must be named"))
    };
    match wish.action.as_deref().unwrap_or("reboot") {
        "metadata" => print!("{METADATA}"),
        // The switch is in order if it answers at all.
        "monitor" if wish.plug.is_none() => drop(switch()?),
        "list" => print!("{}", list()?),
        "off" => drop(power(&plug()?, Power::Off)?),
        "on" => drop(power(&plug()?, Power::On)?),
        "reboot" => drop(power(&plug()?, Power::Reboot)?),
        "status" | "monitor" => {
            let on = power(&plug()?, Power::Status)?;
            return Ok(if on { 0 } else { OFF });
        }
        other => {
            return Err(Error::new(format!(
                "action {other:?}: not one of the metadata's"
            )));
        }
    }
    Ok(0)
}

fn switch() -> Result<Connection> {
    Connection::open(Path::new(SWITCH)).context("the power switch")
}

fn power(node: &str, action: Power) -> Result<bool> {
    let node = node.to_owned();
    let (reply, _) = switch()?.ask(&Request::Fence {
        node: node.clone(),
        action,
    })?;
    Ok(reply.machines.get(&node).is_some_and(|m| m.on))
}

/// The switch has a socket for each node of the cluster.
fn list() -> Result<String> {
    let path = "/etc/corosync/corosync.conf";
    let text = std::fs::read_to_string(path).context(path)?;
    let names = text.lines().filter_map(|l| l.trim().strip_prefix("name: "));
    Ok(names.flat_map(|name| [name, ",\n"]).collect())
}

fn from_lines(text: &str) -> Wish {
    let mut wish = Wish::default();
    for (name, value) in text.lines().filter_map(|l| l.trim().split_once('=')) {
        match name.trim() {
            "action" => wish.action = Some(value.trim().to_owned()),
            "plug" | "port" => wish.plug = Some(value.trim().to_owned()),
            // Pacemaker also passes nodename and its own parameters.
            _ => {}
        }
    }
    wish
}

fn from_args(args: &[String]) -> Result<Wish> {
    let mut wish = Wish::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), args.next().cloned()),
        };
        match name {
            "-o" | "--action" => wish.action = value,
            "-n" | "--plug" => wish.plug = value,
            _ => {
                return Err(Error::new(format!(
                    "option {name}: must be -o ACTION or -n PLUG"
                )));
            }
        }
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_the_fence_agent_api_writes_them() {
        let wish = Wish {
            action: Some("off".to_owned()),
            plug: Some("n2".to_owned()),
        };
        assert_eq!(from_lines("# x\naction=off\n nodename=n1\nport=n2\n"), wish);
        let args = ["--action=off", "-n", "n2"].map(str::to_owned);
        assert_eq!(from_args(&args).unwrap(), wish);
        assert!(from_args(&["--delay=3".to_owned()]).is_err());
    }

    #[test]
    fn metadata_is_well_formed() {
        assert!(roxmltree::Document::parse(METADATA).is_ok());
    }
}
