//! What is generated from the declarations and committed: meta-data and manual pages. With
//! `BERTH_REGENERATE=1` (`make gen`) the files are written anew; otherwise they are compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::ocf::{Action, Env, man, meta};
use berth::sys::command;

use crate::committed::compare;
use crate::installed::{AGENTS, Installed};

/// The grammar of OCF 1.1 meta-data that pcs ships and applies.
const GRAMMAR: &str = "/usr/share/pcs/data/ocf-1.1.rng";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn the_meta_data_are_the_committed_ones() {
    for Installed { agent, .. } in AGENTS {
        compare(&format!("ocf/{}.xml", agent.name), &meta::xml(agent));
    }
}

#[test]
fn the_manual_pages_are_the_committed_ones() {
    for Installed { agent, .. } in AGENTS {
        compare(&format!("man/{}.7", man::name(agent)), &man::page(agent));
    }
}

#[test]
#[ignore = "needs pcs and xmllint"]
fn the_meta_data_are_valid_to_pcs() {
    for Installed { agent, .. } in AGENTS {
        let mut xmllint = command::command("/usr/bin/xmllint");
        xmllint.args(["--noout", "--relaxng", GRAMMAR, "-"]);
        let output = command::run_with_input(xmllint, meta::xml(agent).as_bytes(), soon());
        output.and_then(|o| o.check(agent.name)).unwrap();
    }
}

#[test]
#[ignore = "needs groff"]
fn the_manual_pages_have_no_mistakes_of_form() {
    let generated = AGENTS.iter().map(|i| (i.agent.name, man::page(i.agent)));
    let overview = include_str!("../../man/berth.7").to_owned();
    for (name, page) in generated.chain([("berth.7", overview)]) {
        let mut groff = command::command("/usr/bin/groff");
        groff.args(["-man", "-ww", "-z", "-Tutf8"]);
        let output = command::run_with_input(groff, page.as_bytes(), soon()).unwrap();
        let output = output.check(name).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
    }
}

#[test]
fn names_are_as_ocf_wants_them() {
    let lower = |name: &str, dash: char| {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == dash;
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
    };
    for Installed { agent, .. } in AGENTS {
        assert!(lower(agent.name, '-'), "{}", agent.name);
        let mut seen = BTreeSet::new();
        for spec in agent.params.iter().map(|p| p.spec()) {
            assert!(lower(spec.name, '_'), "{} {}", agent.name, spec.name);
            assert!(
                seen.insert(spec.name),
                "{} has two {}",
                agent.name,
                spec.name
            );
        }
    }
}

#[test]
fn defaults_are_acceptable() {
    let nothing = Env::from_variables::<&str, &str>([]);
    for Installed { agent, .. } in AGENTS {
        for parameter in agent.params {
            let spec = parameter.spec();
            assert!(!(spec.required && spec.default.is_some()), "{}", spec.name);
            let result = parameter.check(&nothing);
            assert_eq!(
                result.is_err(),
                spec.required,
                "{} {}",
                agent.name,
                spec.name
            );
        }
    }
}

#[test]
fn everything_is_described() {
    for Installed { agent, .. } in AGENTS {
        let specs = agent.params.iter().map(|p| p.spec());
        let texts = specs.map(|s| (s.name, s.shortdesc, s.longdesc));
        let own = (agent.name, agent.shortdesc, agent.longdesc);
        for (name, short, long) in texts.chain([own]) {
            let name = format!("{} {name}", agent.name);
            assert!((3..=72).contains(&short.len()), "shortdesc of {name}");
            assert!(!short.ends_with('.'), "shortdesc of {name} is no sentence");
            assert!(long.len() > short.len(), "longdesc of {name} says no more");
            assert!(
                long.trim_end().ends_with('.'),
                "longdesc of {name} is sentences"
            );
        }
    }
}

#[test]
fn the_mandatory_actions_are_there_with_times() {
    for Installed { agent, .. } in AGENTS {
        for action in [
            Action::Start,
            Action::Stop,
            Action::Monitor,
            Action::ValidateAll,
        ] {
            assert!(
                agent.declaration(action, 0).is_some(),
                "{} {action}",
                agent.name
            );
        }
        for action in agent.actions {
            let name = format!("{} {}", agent.name, action.action);
            assert!(action.timeout > 0, "{name}");
            let recurring = action.action == Action::Monitor;
            assert_eq!(recurring, action.interval > 0, "{name}");
            assert!(matches!(action.depth, 0 | 10), "{name}");
        }
        let reloads = agent.declaration(Action::ReloadAgent, 0).is_some();
        let reloadable = agent.params.iter().any(|p| p.spec().reloadable);
        assert_eq!(reloads, reloadable, "{}: reload-agent", agent.name);
    }
}

/// The source of an agent: one file, or a folder of them.
fn source_of(name: &str) -> String {
    let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent");
    let file = agents.join(format!("{name}.rs"));
    if file.exists() {
        return fs::read_to_string(file).expect("the source can be read");
    }
    let files = fs::read_dir(agents.join(name)).expect("the agent has a file or a folder");
    files
        .map(|file| file.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).expect("a source file"))
        .collect()
}

#[test]
fn every_declared_parameter_is_listed() {
    for Installed { agent, .. } in AGENTS {
        let text = source_of(agent.name);
        let declared = text
            .lines()
            .filter(|l| l.contains(": Param<") || l.contains(": Optional<"))
            .filter_map(|l| {
                let constant = l.split_once("static ").or(l.split_once("const "))?;
                constant.1.split_once(':')
            });
        for (parameter, _) in declared {
            let listed = format!("&{parameter}");
            let ends = |rest: &str| rest.starts_with([',', ']']);
            assert!(
                text.split(&listed).skip(1).any(ends),
                "{} declares {parameter}, but does not list it",
                agent.name
            );
        }
    }
}
