//! The agents as an administrator meets them: installed, and described by Pacemaker's own tool, by
//! crmsh and by pcs. They are installed in a mount namespace of the test's own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::ocf::Agent;
use berth::sys::command;
use nix::mount::{MsFlags, mount};

use crate::common::set_apart;
use crate::installed::{AGENTS, Installed, copy_program};

/// Where Pacemaker looks for agents.
const RESOURCE_D: &str = "/usr/lib/ocf/resource.d";

fn install_apart() {
    set_apart().expect("namespaces need root");
    let none = None::<&str>;
    mount(
        Some("ra"),
        RESOURCE_D,
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .expect("an empty place");
    let provider = Path::new(RESOURCE_D).join("berth");
    fs::create_dir(&provider).expect("a provider");
    for Installed { agent, executable } in AGENTS {
        copy_program(executable, &provider.join(agent.name));
    }
}

/// What a tool says of an agent, in one line: each wraps in its own way.
fn described(program: &str, arguments: &[&str], agent: &Agent) -> String {
    let name = format!("ocf:berth:{}", agent.name);
    let mut c = command::command(program);
    c.args(arguments).arg(&name);
    let output = command::run(c, Instant::now() + Duration::from_secs(60));
    let output = output.and_then(|o| o.check(format_args!("{program} {name}")));
    one_line(&output.expect("the tool can read the meta-data").text())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "needs root"]
fn pacemaker_reads_the_meta_data() {
    install_apart();
    for Installed { agent, .. } in AGENTS {
        let text = described("/usr/sbin/crm_resource", &["--show-metadata"], agent);
        assert!(text.contains("<version>1.1</version>"), "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn the_shells_describe_every_parameter() {
    install_apart();
    for Installed { agent, .. } in AGENTS {
        let crm = described("/usr/sbin/crm", &["ra", "info"], agent);
        let pcs = described("/usr/sbin/pcs", &["resource", "describe"], agent);
        for spec in agent.params.iter().map(|p| p.spec()) {
            assert!(crm.contains(spec.shortdesc), "{}: {crm}", spec.name);
            for text in [&crm, &pcs] {
                assert!(text.contains(spec.name), "{}: {text}", spec.name);
                assert!(
                    text.contains(&one_line(spec.longdesc)),
                    "{}: {text}",
                    spec.name
                );
            }
        }
    }
}
