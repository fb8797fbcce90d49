//! The model in the forms that Pacemaker's tools read.

pub mod crm;
pub mod pcs;
pub mod xml;

use super::model::{Condition, Operation};

/// Seconds as Pacemaker's tools write them.
fn seconds(seconds: u32) -> String {
    if seconds == 0 {
        "0".to_owned()
    } else {
        format!("{seconds}s")
    }
}

/// `interval=10s timeout=20s`, the same in both shells.
fn operation(operation: &Operation) -> String {
    let mut text = format!(
        "{} interval={} timeout={}",
        operation.name,
        seconds(operation.interval),
        seconds(operation.timeout)
    );
    if operation.depth > 0 {
        text.push_str(&format!(" OCF_CHECK_LEVEL={}", operation.depth));
    }
    text
}

/// A condition as both shells write it, if both can; `number` is how the shell says that numbers are
/// compared.
fn condition(condition: &Condition, number: &dyn Fn(&str, u32) -> String) -> Option<String> {
    Some(match condition {
        Condition::Is(attribute, n) => format!("{attribute} {}", number("eq", *n)),
        Condition::IsNot(attribute, n) => format!("{attribute} {}", number("ne", *n)),
        Condition::Defined(attribute) => format!("defined {attribute}"),
        Condition::NotDefined(attribute) => format!("not_defined {attribute}"),
        Condition::NodeIs(node) => format!("#uname eq {node}"),
        Condition::NodeIsNot(node) => format!("#uname ne {node}"),
        Condition::IsController => "#is_dc eq true".to_owned(),
        Condition::NotHome => return None,
    })
}
