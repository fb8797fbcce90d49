//! The model as a shell script of pcs commands, which work on a copy and load it at the end in one
//! step.

use std::fmt::Write;

use super::xml;
use crate::cluster::element::Element;
use crate::config::ids::OWNERSHIP;
use crate::config::model::{Condition, Constraint, HOME, Kind, Model, Pair, Resource, Reward};

/// What precedes the commands: a way to give a rule to any pcs, which of them is found out where the
/// script runs; the copy, and the state against which the result is compared.
const HEAD: &str = r#"set -e
# rule RESOURCE ID CONSTRAINT-ID SCORE RULE, where pcs before 0.12 wants each word of RULE by itself
case $(pcs --version) in
0.9.*|0.10.*|0.11.*) rule() { pcs -f berth-cib.xml constraint location "$1" rule "$2" "$3" "$4" $5; } ;;
*) rule() { pcs -f berth-cib.xml constraint location "$1" rule "$2" "$3" "$4" "$5"; } ;;
esac
pcs cluster cib berth-cib.xml
cp berth-cib.xml berth-cib.before.xml
"#;
/// What follows them.
const TAIL: &str = "pcs cluster cib-push berth-cib.xml diff-against=berth-cib.before.xml\n";
/// What each command begins with.
const PCS: &str = "pcs -f berth-cib.xml";

/// The whole script, for /bin/sh.
pub fn script(model: &Model) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a String can't fail.
    for resource in &model.resources {
        let _ = writeln!(text, "{}", create(resource));
        text.push_str(&further_parts(resource));
    }
    for constraint in &model.constraints {
        let _ = writeln!(text, "{}", self::constraint(constraint));
    }
    if !model.resources.is_empty() {
        let ids: Vec<&str> = model.ids().collect();
        let _ = writeln!(text, "{PCS} tag create {} {}", OWNERSHIP.tag, ids.join(" "));
    }
    text + TAIL
}

/// What a resource has that pcs can't give it without a complaint.
fn further_parts(resource: &Resource) -> String {
    let mut text = String::new();
    let part = |inner: Vec<Element>| {
        let primitive = Element::new("primitive").with("id", &resource.id);
        modify("resources", &primitive.containing(inner))
    };
    let by_node: Vec<Element> = xml::node_attributes(resource).collect();
    if !by_node.is_empty() {
        text.push_str("# pcs has no command for parameters that hold on one node only\n");
        text.push_str(&part(by_node));
    }
    if let Some(node) = resource.meta(HOME) {
        text.push_str("# pcs warns of a meta attribute that is not Pacemaker's\n");
        let id = format!("{}.meta", resource.id);
        let home = xml::attributes("meta_attributes", &id, &[(HOME, node)]);
        text.push_str(&part(home.into_iter().collect()));
    }
    text
}

/// A command that adds an element to a section of the copy.
fn modify(section: &str, element: &Element) -> String {
    let element = element.to_string();
    let element: String = element.lines().map(str::trim_start).collect();
    format!(
        "CIB_file=berth-cib.xml cibadmin --modify --allow-create --scope {section} --xml-text {}\n",
        quoted(&element)
    )
}

fn create(resource: &Resource) -> String {
    let mut text = format!(
        "{PCS} resource create {} ocf:berth:{}{}",
        resource.id,
        resource.agent.name(),
        pairs(&resource.params)
    );
    for operation in &resource.operations {
        let _ = write!(text, " op {}", super::operation(operation));
    }
    let own = |(name, _): &&Pair| *name != HOME;
    let meta: Vec<Pair> = resource.meta.iter().filter(own).cloned().collect();
    if !meta.is_empty() {
        let _ = write!(text, " meta{}", pairs(&meta));
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
        } => match rule(conditions) {
            Some(rule) => {
                let reward = match reward {
                    Reward::Score(score) => format!("score={score}"),
                    Reward::Attribute(attribute) => format!("score-attribute={attribute}"),
                };
                let rule = quoted(&rule);
                format!("rule {resource} id={id}.rule constraint-id={id} {reward} {rule}")
            }
            None => {
                let command = modify("constraints", &xml::constraint(constraint));
                let command = command.trim_end();
                format!("# pcs has no command for rules on meta attributes\n{command}")
            }
        },
        Kind::Colocation {
            resource,
            with,
            score,
        } => {
            format!("{PCS} constraint colocation add {resource} with {with} score={score} id={id}")
        }
        Kind::Order {
            first,
            then,
            mandatory,
        } => {
            let kind = if *mandatory { "Mandatory" } else { "Optional" };
            format!("{PCS} constraint order {first} then {then} kind={kind} id={id}")
        }
        Kind::Tiers { first, then } => format!(
            "{PCS} constraint order set {} sequential=false set {} sequential=false \
             setoptions id={id} kind=Optional symmetrical=false",
            first.join(" "),
            then.join(" ")
        ),
    }
}

/// A rule as pcs writes it, if it can.
fn rule(conditions: &[Condition]) -> Option<String> {
    let number = |operation: &str, n: u32| format!("{operation} number {n}");
    let conditions = conditions.iter().map(|c| super::condition(c, &number));
    Some(conditions.collect::<Option<Vec<_>>>()?.join(" and "))
}
