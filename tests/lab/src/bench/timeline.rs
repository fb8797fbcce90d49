//! Where the time goes: what Pacemaker's logs say of each action.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::control::Lab;
use crate::error::Result;
use crate::machine::LOG;

/// One action of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Where it ran.
    pub node: String,
    /// `start`, `stop` and so on.
    pub verb: String,
    /// Of what.
    pub resource: String,
    /// When the executor started the agent, in milliseconds of the day.
    pub begun: u64,
    /// When the controller had its result.
    pub ended: u64,
}

/// How far the log of each node had been written at a moment.
#[derive(Debug)]
pub struct Mark(Vec<(String, usize)>);

/// Remembers how far the logs of the nodes with power have been written.
///
/// # Errors
/// If a node does not answer.
pub fn mark(lab: &Lab) -> Result<Mark> {
    let mut lengths = vec![];
    for node in powered(lab)? {
        let text = lab.exec(&node, &["wc", "-c", LOG])?.check("wc")?.stdout;
        let length = text
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        lengths.push((node, length));
    }
    Ok(Mark(lengths))
}

/// The starts and stops that the logs tell of since `mark`, in the order of their begin.
///
/// # Errors
/// If a node does not answer.
pub fn since(lab: &Lab, mark: &Mark) -> Result<Vec<Action>> {
    let logs = logs_since(lab, mark)?;
    let mut actions: Vec<Action> = logs
        .iter()
        .flat_map(|(node, log)| parse(node, log))
        .collect();
    actions.sort_by_key(|a| (a.begun, a.ended));
    Ok(actions)
}

/// When the cluster first took note since `mark` that an attribute had such a value, in milliseconds of
/// the day.
///
/// # Errors
/// If a node does not answer.
pub fn attribute_since(
    lab: &Lab,
    mark: &Mark,
    name: &str,
    wanted: fn(&str) -> bool,
) -> Result<Option<u64>> {
    let mut times = vec![];
    for text in logs_since(lab, mark)?.into_values() {
        let lines = text
            .lines()
            .filter(|line| value_set(line, name).is_some_and(wanted));
        times.extend(lines.filter_map(time_of_line));
    }
    Ok(times.into_iter().min())
}

/// A chart of `actions`, milliseconds counted from `zero`.
pub fn chart(actions: &[Action], zero: u64) -> String {
    let mut text = String::new();
    for a in actions {
        let (begun, ended) = (a.begun.saturating_sub(zero), a.ended.saturating_sub(zero));
        let _ = writeln!(
            text,
            "  {begun:>6} .. {ended:>6} ms  {:>4} ms  {} {} on {}",
            ended - begun,
            a.verb,
            a.resource,
            a.node
        );
    }
    text
}

/// The nodes that have power.
///
/// # Errors
/// If the lab does not answer.
pub fn powered(lab: &Lab) -> Result<Vec<String>> {
    let nodes = lab.plan().node_names();
    let machines = lab.status()?.machines;
    Ok(machines
        .into_iter()
        .filter(|(name, state)| state.on && nodes.contains(name))
        .map(|(name, _)| name)
        .collect())
}

/// What the nodes that have power have logged since `mark`.
fn logs_since(lab: &Lab, mark: &Mark) -> Result<BTreeMap<String, String>> {
    let powered = powered(lab)?;
    let mut logs = BTreeMap::new();
    for (node, length) in mark.0.iter().filter(|(node, _)| powered.contains(node)) {
        let from = format!("+{}", length + 1);
        let output = lab.exec(node, &["tail", "-c", &from, LOG])?;
        logs.insert(node.clone(), output.check("tail")?.stdout);
    }
    Ok(logs)
}

fn time_of_line(line: &str) -> Option<u64> {
    line.split_whitespace().nth(2).and_then(time_of_day)
}

/// The value that a line says some node's attribute gets: `Setting berth-net-office[n1]: 1 -> 0 | from n1
/// with no write delay`.
fn value_set<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(": Setting ")?;
    let change = rest.strip_prefix(name)?.strip_prefix('[')?;
    let (_, new) = change.split_once(" -> ")?;
    new.split_whitespace().next()
}

/// Pairs the executor's `executing - rsc:R action:A` with the controller's `Result of A operation
/// for R on N`.
fn parse(node: &str, log: &str) -> Vec<Action> {
    let mut open: Vec<Action> = vec![];
    let mut done = vec![];
    for line in log.lines() {
        let Some(at) = time_of_line(line) else {
            continue;
        };
        if let Some((resource, verb)) = begin(line) {
            let (node, verb, resource) = (node.to_owned(), verb.to_owned(), resource.to_owned());
            open.push(Action {
                node,
                verb,
                resource,
                begun: at,
                ended: at,
            });
        } else if let Some((verb, resource)) = end(line) {
            let same = |a: &Action| a.verb == verb && a.resource == resource;
            if let Some(i) = open.iter().position(same) {
                done.push(Action {
                    ended: at,
                    ..open.remove(i)
                });
            }
        }
    }
    done
}

fn begin(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("executing - rsc:")?;
    let (resource, rest) = rest.split_once(" action:")?;
    let verb = rest.split_whitespace().next()?;
    ["start", "stop"]
        .contains(&verb)
        .then_some((resource, verb))
}

fn end(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("Result of ")?;
    let (verb, rest) = rest.split_once(" operation for ")?;
    let (resource, _) = rest.split_once(" on ")?;
    Some((verb, resource))
}

/// Milliseconds of the day of `19:17:19.795`.
pub fn time_of_day(text: &str) -> Option<u64> {
    let (time, millis) = text.split_once('.')?;
    let mut parts = time.split(':').map(|p| p.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
Nov 22 19:17:19.795 n2 pacemaker-execd     [17] (log_execute) \tinfo: executing - rsc:dummy action:start call_id:10
Nov 22 19:17:19.800 n2 pacemaker-based     [15] (cib_perform_op) \tinfo: ++ something else
Nov 22 19:17:19.819 n2 pacemaker-controld  [20] (log_executor_event) \tnotice: Result of start operation for dummy on n2: ok | CIB update 19
Nov 22 19:17:19.855 n2 pacemaker-controld  [20] (log_executor_event) \tnotice: Result of monitor operation for dummy on n2: ok | CIB update 21
";

    #[test]
    fn an_action_lasts_from_its_execution_to_its_result() {
        let actions = parse("n2", LOG);
        assert_eq!(actions.len(), 1);
        let zero = time_of_day("19:17:19.700").unwrap();
        let chart = chart(&actions, zero);
        assert_eq!(chart, "      95 ..    119 ms    24 ms  start dummy on n2\n");
    }

    #[test]
    fn an_attribute_is_set_when_the_log_says_so() {
        let line = "Nov 25 20:23:43.413 n2 pacemaker-attrd     [18] (update_attr_on_host) \tnotice: \
            Setting berth-net-office[n1]: 1 -> 0 | from n1 with no write delay";
        assert_eq!(value_set(line, "berth-net-office"), Some("0"));
        assert_eq!(value_set(line, "berth-net"), None);
        assert_eq!(time_of_line(line), time_of_day("20:23:43.413"));
    }

    #[test]
    fn a_time_that_is_none_is_none() {
        assert_eq!(time_of_day("19:17"), None);
        assert_eq!(time_of_day("a:b:c.d"), None);
    }
}
