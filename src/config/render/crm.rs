//! The model as commands of the crm shell: `crm configure load update FILE`.

use std::fmt::Write;

use crate::config::ids::OWNERSHIP;
use crate::config::model::{Constraint, HOME, Kind, Model, Pair, Resource, Reward, Score};

/// The whole configuration, one command a line.
pub fn commands(model: &Model) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for resource in &model.resources {
        let _ = writeln!(text, "{}", primitive(resource));
        if resource.cloned {
            let _ = writeln!(text, "clone {} {}", resource.reference(), resource.id);
        }
    }
    for constraint in &model.constraints {
        let _ = writeln!(text, "{}", self::constraint(constraint));
    }
    if !model.resources.is_empty() {
        let ids: Vec<&str> = model.ids().collect();
        let _ = writeln!(text, "tag {}: {}", OWNERSHIP.tag, ids.join(" "));
    }
    text
}

fn primitive(resource: &Resource) -> String {
    let mut text = format!(
        "primitive {} ocf:berth:{}",
        resource.id,
        resource.agent.name()
    );
    let all = [("params".to_owned(), &resource.params)];
    let nodes = resource.node_params.iter();
    let nodes = nodes.map(|(node, pairs)| (format!("params rule #uname eq {node}"), pairs));
    let meta = [("meta".to_owned(), &resource.meta)];
    for (words, pairs) in all.into_iter().chain(nodes).chain(meta) {
        if !pairs.is_empty() {
            let _ = write!(text, " \\\n\t{words}{}", self::pairs(pairs));
        }
    }
    for operation in &resource.operations {
        let _ = write!(text, " \\\n\top {}", super::operation(operation));
    }
    text
}

fn pairs(pairs: &[Pair]) -> String {
    let pair = |(name, value): &Pair| format!(" {name}={}", quoted(value));
    pairs.iter().map(pair).collect()
}

/// In double quotes, where the shell knows a backslash before a quote or a backslash.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn score(score: Score) -> String {
    match score {
        Score::Never => "-inf".to_owned(),
        Score::Always => "inf".to_owned(),
        Score::Points(points) => points.to_string(),
    }
}

/// The condition that only this shell can write.
fn not_home() -> String {
    format!("#uname ne meta{{{HOME}}}")
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
                Reward::Score(score) => self::score(*score),
                Reward::Attribute(attribute) => attribute.clone(),
            };
            let number = |operation: &str, n: u32| format!("number:{operation} {n}");
            let conditions: Vec<String> = conditions
                .iter()
                .map(|c| super::condition(c, &number).unwrap_or_else(not_home))
                .collect();
            format!(
                "location {id} {resource} rule {reward}: {}",
                conditions.join(" and ")
            )
        }
        Kind::Colocation {
            resource,
            with,
            score,
        } => format!("colocation {id} {}: {resource} {with}", self::score(*score)),
        Kind::Order {
            first,
            then,
            mandatory,
        } => {
            let kind = if *mandatory { "Mandatory" } else { "Optional" };
            format!("order {id} {kind}: {first} {then}")
        }
        Kind::Tiers { first, then } => format!(
            "order {id} Optional: ( {} ) ( {} ) symmetrical=false",
            first.join(" "),
            then.join(" ")
        ),
    }
}
