//! The usage text, from the declaration.

use std::fmt::Write;

use super::agent::Agent;

/// How `agent` is called, and with which parameters.
pub fn text(agent: &Agent) -> String {
    let mut out = format!(
        "usage: {} {{{}}}\n\n{}: {}\n\nParameters, as variables OCF_RESKEY_NAME:\n",
        agent.name,
        agent.action_names().join("|"),
        agent.name,
        agent.shortdesc
    );
    for spec in agent.params.iter().map(|p| p.spec()) {
        let note = match (spec.required, spec.default) {
            (true, _) => " (required)".to_owned(),
            (false, Some(default)) if !default.is_empty() => format!(" (default: {default})"),
            (false, _) => String::new(),
        };
        // Writing to a string can't fail.
        let _ = writeln!(out, "  {:<16} {}{note}", spec.name, spec.shortdesc);
    }
    let _ = write!(out, "\nSee ocf_berth_{}(7).\n", agent.name);
    out
}
