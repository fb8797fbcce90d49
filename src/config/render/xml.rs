//! The model as elements of the CIB.

use crate::cluster::element::Element;
use crate::config::ids::OWNERSHIP;
use crate::config::model::{
    Condition, Constraint, HOME, Kind, Model, Pair, Resource, Reward, Score,
};

use super::seconds;

/// A `<configuration>` with the resources, the constraints and the tag, to be merged into a cluster's own:
/// `cibadmin --modify --allow-create --scope configuration --xml-file FILE`.
pub fn configuration(model: &Model) -> Element {
    Element::new("configuration").containing([
        Element::new("resources").containing(model.resources.iter().map(resource)),
        Element::new("constraints").containing(model.constraints.iter().map(constraint)),
        Element::new("tags").containing(tag(model)),
    ])
}

/// The tag of all resources, unless there are none.
fn tag(model: &Model) -> Option<Element> {
    let references = model.ids().map(|id| Element::new("obj_ref").with("id", id));
    let tag = Element::new("tag").with("id", OWNERSHIP.tag);
    Some(tag.containing(references)).filter(|tag| !tag.children.is_empty())
}

/// A resource, in its clone if it has one.
pub(crate) fn resource(resource: &Resource) -> Element {
    let id = &resource.id;
    let mut primitive = Element::new("primitive")
        .with("id", id)
        .with("class", "ocf")
        .with("provider", "berth")
        .with("type", resource.agent.name());
    let all = |set, part: &str, pairs: &[Pair]| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (*n, v.as_str())).collect();
        attributes(set, &format!("{id}.{part}"), &pairs)
    };
    let params = all("instance_attributes", "params", &resource.params);
    primitive.children.extend(params);
    primitive.children.extend(node_attributes(resource));
    let meta = all("meta_attributes", "meta", &resource.meta);
    primitive.children.extend(meta);
    primitive.children.push(operations(resource));
    if resource.cloned {
        let clone = Element::new("clone").with("id", resource.reference());
        return clone.containing([primitive]);
    }
    primitive
}

/// A set of attributes, unless there is none.
pub(crate) fn attributes(set: &str, id: &str, pairs: &[(&str, &str)]) -> Option<Element> {
    let pair = |(name, value): &(&str, &str)| {
        Element::new("nvpair")
            .with("id", format!("{id}.{name}"))
            .with("name", name)
            .with("value", value)
    };
    let set = Element::new(set).with("id", id);
    (!pairs.is_empty()).then(|| set.containing(pairs.iter().map(pair)))
}

/// The sets of parameters that hold on one node each.
pub(crate) fn node_attributes(resource: &Resource) -> impl Iterator<Item = Element> + '_ {
    resource.node_params.iter().map(|(node, pairs)| {
        // The node comes last: its name may have dots in it, and what precedes tells the parts apart.
        let id = |part: &str| format!("{}.{part}.{node}", resource.id);
        let expression = Element::new("expression")
            .with("id", id("node-expression"))
            .with("attribute", "#uname")
            .with("operation", "eq")
            .with("value", node);
        let rule = Element::new("rule")
            .with("id", id("node-rule"))
            .with("score", Score::Always)
            .containing([expression]);
        let pairs = pairs.iter().map(|(name, value)| {
            Element::new("nvpair")
                .with("id", id(&format!("node-param.{name}")))
                .with("name", name)
                .with("value", value)
        });
        Element::new("instance_attributes")
            .with("id", id("node"))
            .containing([rule])
            .containing(pairs)
    })
}

fn operations(resource: &Resource) -> Element {
    let operations = resource.operations.iter().map(|operation| {
        let interval = seconds(operation.interval);
        let id = format!("{}.{}-{interval}", resource.id, operation.name);
        let level = operation.depth.to_string();
        let level: &[(&str, &str)] = match operation.depth {
            0 => &[],
            _ => &[("OCF_CHECK_LEVEL", &level)],
        };
        Element::new("op")
            .with("id", &id)
            .with("name", operation.name)
            .with("interval", interval)
            .with("timeout", seconds(operation.timeout))
            .containing(attributes(
                "instance_attributes",
                &format!("{id}.params"),
                level,
            ))
    });
    Element::new("operations").containing(operations)
}

/// A constraint.
pub(crate) fn constraint(constraint: &Constraint) -> Element {
    let id = constraint.id.as_str();
    match &constraint.kind {
        Kind::Location {
            resource,
            reward,
            conditions,
        } => Element::new("rsc_location")
            .with("id", id)
            .with("rsc", resource)
            .containing([rule(id, reward, conditions)]),
        Kind::Colocation {
            resource,
            with,
            score,
        } => Element::new("rsc_colocation")
            .with("id", id)
            .with("rsc", resource)
            .with("with-rsc", with)
            .with("score", score),
        Kind::Order {
            first,
            then,
            mandatory,
        } => Element::new("rsc_order")
            .with("id", id)
            .with("first", first)
            .with("then", then)
            .with("kind", if *mandatory { "Mandatory" } else { "Optional" }),
        Kind::Tiers { first, then } => Element::new("rsc_order")
            .with("id", id)
            .with("kind", "Optional")
            .with("symmetrical", "false")
            .containing([
                set(&format!("{id}.first"), first),
                set(&format!("{id}.then"), then),
            ]),
    }
}

fn set(id: &str, resources: &[String]) -> Element {
    let reference = |resource: &String| Element::new("resource_ref").with("id", resource);
    Element::new("resource_set")
        .with("id", id)
        .with("sequential", "false")
        .containing(resources.iter().map(reference))
}

fn rule(id: &str, reward: &Reward, conditions: &[Condition]) -> Element {
    let mut rule = Element::new("rule").with("id", format!("{id}.rule"));
    match reward {
        Reward::Score(score) => rule.set("score", score),
        Reward::Attribute(attribute) => rule.set("score-attribute", attribute),
    }
    if conditions.len() > 1 {
        rule.set("boolean-op", "and");
    }
    let conditions = conditions.iter().enumerate();
    rule.containing(conditions.map(|(n, c)| expression(format!("{id}.rule.{}", n + 1), c)))
}

fn expression(id: String, condition: &Condition) -> Element {
    let on = |attribute: &str, operation: &str| {
        Element::new("expression")
            .with("id", &id)
            .with("attribute", attribute)
            .with("operation", operation)
    };
    let number = |attribute: &str, operation: &str, n: &u32| {
        on(attribute, operation)
            .with("value", n)
            .with("type", "number")
    };
    match condition {
        Condition::Is(attribute, n) => number(attribute, "eq", n),
        Condition::IsNot(attribute, n) => number(attribute, "ne", n),
        Condition::Defined(attribute) => on(attribute, "defined"),
        Condition::NotDefined(attribute) => on(attribute, "not_defined"),
        Condition::NodeIs(node) => on("#uname", "eq").with("value", node),
        Condition::NodeIsNot(node) => on("#uname", "ne").with("value", node),
        Condition::IsController => on("#is_dc", "eq").with("value", "true"),
        // The resource's own meta attribute, so that changing it moves the resource.
        Condition::NotHome => on("#uname", "ne")
            .with("value", HOME)
            .with("value-source", "meta"),
    }
}
