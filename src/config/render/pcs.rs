//! The model as a shell script of pcs commands, which work on a copy and load it at the end in one
//! step.

use std::fmt::Write;

use super::xml;
use crate::cluster::element::Element;
use crate::config::model::{Constraint, Kind, Model, Pair, Resource, Reward};

/// What precedes the commands: the copy, and the state against which the result is compared.
const HEAD: &str = "set -e\n\
    pcs cluster cib berth-cib.xml\n\
    cp berth-cib.xml berth-cib.before.xml\n";
/// What follows them.
const TAIL: &str = "pcs cluster cib-push berth-cib.xml diff-against=berth-cib.before.xml\n";
/// Stands above a command that is not pcs's.
const NO_COMMAND: &str = "# pcs has no command for parameters that hold on one node only";

/// The whole script, for /bin/sh.
pub fn script(model: &Model) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a String can't fail.
    for resource in &model.resources {
        let _ = writeln!(text, "pcs -f berth-cib.xml {}", create(resource));
        if !resource.node_params.is_empty() {
            let _ = writeln!(text, "{NO_COMMAND}\n{}", node_params(resource));
        }
    }
    for constraint in &model.constraints {
        let _ = writeln!(
            text,
            "pcs -f berth-cib.xml {}",
            self::constraint(constraint)
        );
    }
    text + TAIL
}

/// Adds what a resource has on single nodes only to the copy.
fn node_params(resource: &Resource) -> String {
    let part = Element::new("primitive")
        .with("id", &resource.id)
        .containing(xml::node_attributes(resource));
    let part = part.to_string();
    let part: String = part.lines().map(str::trim_start).collect();
    format!(
        "CIB_file=berth-cib.xml cibadmin --modify --allow-create --scope resources --xml-text {}",
        quoted(&part)
    )
}

fn create(resource: &Resource) -> String {
    let mut text = format!(
        "resource create {} ocf:berth:{}{}",
        resource.id,
        resource.agent.name(),
        pairs(&resource.params)
    );
    for operation in &resource.operations {
        let _ = write!(text, " op {}", super::operation(operation));
    }
    if !resource.meta.is_empty() {
        let _ = write!(text, " meta{}", pairs(&resource.meta));
    }
    if resource.cloned {
        let _ = write!(text, " clone {}", resource.reference());
    }
    text + " --no-default-ops"
}

fn pairs(pairs: &[Pair]) -> String {
    let pair = |(name, value): &Pair| format!(" {}", quoted(&format!("{name}={value}")));
    pairs.iter().map(pair).collect()
}

/// As one word of the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-=,+@".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn constraint(constraint: &Constraint) -> String {
    let id = &constraint.id;
    match &constraint.kind {
        Kind::Location {
            resource,
            reward,
            conditions,
        } => {
            let reward = match reward {
                Reward::Score(score) => format!("score={score}"),
                Reward::Attribute(attribute) => format!("score-attribute={attribute}"),
            };
            let number = |operation: &str, n: u32| format!("{operation} number {n}");
            let conditions: Vec<String> = conditions
                .iter()
                .map(|c| super::condition(c, &number))
                // The shell would take what begins with # for a comment.
                .map(|c| c.replace('#', "\\#"))
                .collect();
            format!(
                "constraint location {resource} rule id={id}.rule constraint-id={id} {reward} {}",
                conditions.join(" and ")
            )
        }
        Kind::Colocation {
            resource,
            with,
            score,
        } => format!("constraint colocation add {resource} with {with} {score} id={id}"),
        Kind::Order {
            first,
            then,
            mandatory,
        } => {
            let kind = if *mandatory { "Mandatory" } else { "Optional" };
            format!("constraint order {first} then {then} kind={kind} id={id}")
        }
        Kind::Tiers { first, then } => format!(
            "constraint order set {} sequential=false set {} sequential=false \
             setoptions id={id} kind=Optional symmetrical=false",
            first.join(" "),
            then.join(" ")
        ),
    }
}
