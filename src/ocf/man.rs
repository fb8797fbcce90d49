//! The manual page: an agent's declaration as roff, section 7.

use std::fmt::Write;

use super::action::Action;
use super::agent::{ActionDecl, Agent};
use super::meta::{META_DATA, kind, paragraphs};
use crate::spec::{Content, Parameter};

/// What every agent's page says of the environment.
const ENVIRONMENT: &str = "Pacemaker sets the environment as the OCF resource agent API 1.1 asks. \
By hand, an agent takes its parameters from variables OCF_RESKEY_\\fINAME\\fR, the name of the \
resource from OCF_RESOURCE_INSTANCE, the depth of a monitor or validation from OCF_CHECK_LEVEL \
(0 or 10), and its time limit from OCF_RESKEY_CRM_meta_timeout, in milliseconds. An action that has \
not ended after five sixths of its time limit ends itself and says what it was doing.";

/// The name of `agent`'s page, without the section.
pub fn name(agent: &Agent) -> String {
    format!("ocf_berth_{}", agent.name)
}

/// The page of `agent`.
pub fn page(agent: &Agent) -> String {
    let name = name(agent);
    let mut out = format!(
        ".TH {} 7 \"\" \"berth {}\" \"OCF resource agents\"\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION")
    );
    section(&mut out, "NAME");
    let _ = writeln!(out, "{name} \\- {}", escape(agent.shortdesc));
    section(&mut out, "SYNOPSIS");
    let actions = agent.action_names().join(" | ");
    let _ = writeln!(out, ".B {}\n{{ {} }}", escape(agent.name), escape(&actions));
    section(&mut out, "DESCRIPTION");
    prose(&mut out, agent.longdesc, ".PP");
    section(&mut out, "PARAMETERS");
    for parameter in agent.params {
        describe_parameter(&mut out, parameter.spec());
    }
    section(&mut out, "ACTIONS");
    for action in agent.actions {
        describe_action(&mut out, action);
    }
    describe_action(&mut out, &META_DATA);
    section(&mut out, "ENVIRONMENT");
    let _ = writeln!(out, "{ENVIRONMENT}");
    examples(&mut out, agent);
    section(&mut out, "SEE ALSO");
    out.push_str(".BR berth (8),\n.BR crm (8),\n.BR pcs (8),\n.BR crm_mon (8)\n");
    out
}

fn section(out: &mut String, title: &str) {
    let _ = writeln!(out, ".SH {title}");
}

fn describe_parameter(out: &mut String, spec: &Parameter) {
    let mut notes = vec![match spec.content {
        Content::Select(options) => format!("one of {}", options.join(", ")),
        other => kind(other).to_owned(),
    }];
    if spec.required {
        notes.push("required".into());
    }
    if let Some(group) = spec.unique_group {
        notes.push(format!("unique group {group}"));
    }
    if spec.reloadable {
        notes.push("changed without a restart".into());
    }
    if let Some(default) = spec.default.filter(|default| !default.is_empty()) {
        notes.push(format!("default {default}"));
    }
    let (name, notes) = (escape(spec.name), escape(&notes.join("; ")));
    let _ = writeln!(out, ".TP\n\\fB{name}\\fR ({notes})");
    prose(out, spec.longdesc, ".IP");
}

fn describe_action(out: &mut String, action: &ActionDecl) {
    let name = escape(action.action.name());
    let _ = write!(out, ".TP\n.B {name}\n{} ", does(action));
    let _ = write!(out, "Timeout {} s", action.timeout);
    if action.action == Action::Monitor {
        let _ = write!(out, ", interval {} s", action.interval);
    }
    out.push_str(".\n");
}

/// What an action does, in a sentence that is true of every agent.
const fn does(action: &ActionDecl) -> &'static str {
    match (action.action, action.depth) {
        (Action::Start, _) => "Puts the resource into service, and ends when it serves.",
        (Action::Stop, _) => "Takes it out of service, and leaves nothing of it on the node.",
        (Action::Monitor | Action::Probe, 0) => "Tells whether it is in service.",
        (Action::Monitor | Action::Probe, _) => "Looks deeper, at check level 10.",
        (Action::ReloadAgent, _) => "Takes over changed parameters without a restart.",
        (Action::ValidateAll, 0) => "Checks the parameters, the same on every node.",
        (Action::ValidateAll, _) => "Checks them against this node too, at check level 10.",
        (Action::MetaData, _) => "Prints the declaration of the agent as XML.",
        (Action::Usage, _) => "Prints how the agent is called.",
    }
}

/// The resource with its required parameters, as the two shells take it.
fn examples(out: &mut String, agent: &Agent) {
    let specs = agent.params.iter().map(|p| p.spec());
    let mut required = String::new();
    for spec in specs.filter(|spec| spec.required) {
        let value = spec.name.to_uppercase();
        let _ = write!(required, " \\\n    {}={value}", spec.name);
    }
    for (name, value) in agent.example {
        let _ = write!(required, " \\\n    {name}=\"{value}\"");
    }
    let mut operations = String::new();
    for action in agent.actions {
        let name = action.action.name();
        match action.action {
            Action::Start | Action::Stop => {
                let _ = write!(operations, " \\\n    op {name} timeout={}s", action.timeout);
            }
            Action::Monitor => {
                let _ = write!(
                    operations,
                    " \\\n    op {name} interval={}s timeout={}s",
                    action.interval, action.timeout
                );
                if action.depth > 0 {
                    let _ = write!(operations, " OCF_CHECK_LEVEL={}", action.depth);
                }
            }
            _ => {}
        }
    }
    section(out, "EXAMPLES");
    let name = agent.name;
    let params = if required.is_empty() {
        ""
    } else {
        " \\\n    params"
    };
    let (crm_clone, pcs_clone) = match agent.cloned {
        true => (
            format!("\ncrm configure clone my-{name}-clone my-{name}"),
            " \\\n    clone",
        ),
        false => (String::new(), ""),
    };
    for command in [
        format!(
            "crm configure primitive my-{name} ocf:berth:{name}{params}{required}{operations}{crm_clone}"
        ),
        format!("pcs resource create my-{name} ocf:berth:{name}{required}{operations}{pcs_clone}"),
    ] {
        let _ = writeln!(out, ".PP\n.nf\n{}\n.fi", escape(&command));
    }
}

/// The paragraphs of `text`, with `separator` between them.
fn prose(out: &mut String, text: &str, separator: &str) {
    for (i, words) in paragraphs(text).enumerate() {
        if i > 0 {
            let _ = writeln!(out, "{separator}");
        }
        let paragraph = words.collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "{}", escape(&paragraph));
    }
}

/// `text` without meaning to roff, also at the beginning of a line.
fn escape(text: &str) -> String {
    let plain = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = plain.split('\n').map(|line| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::sample::SAMPLE;
    use super::*;

    #[test]
    fn the_page_has_every_parameter_and_action() {
        let page = page(&SAMPLE);
        for line in [
            "ocf_berth_sample \\- A file that exists",
            "\\fBfile\\fR (string; required; unique group file)",
            "\\fBmode\\fR (one of fast, slow, stuck, panic; changed without a restart; default fast)",
            "Looks deeper, at check level 10. Timeout 30 s, interval 60 s.",
            "    params \\e",
            "    op monitor interval=60s timeout=30s OCF_CHECK_LEVEL=10",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in {page}");
        }
    }

    #[test]
    fn text_is_never_a_request_or_an_escape() {
        let page = page(&SAMPLE);
        assert!(
            page.contains("\n\\&.Removes it again \\e in stop.\n"),
            "{page}"
        );
        assert!(page.contains("How it is done.\n.IP\nSlowly is surer.\n"));
    }
}
