//! Problems of a configuration file: the place, the key, and what would be right.

use std::fmt;

pub(crate) use crate::plan::slip::{hint, nearest};

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Line in the file, the first is 1; 0: the file as a whole.
    pub(crate) line: usize,
    /// The key, with the tables it lies in: `vserver.alpha.vips`.
    pub(crate) key: String,
    /// The value and what would be right.
    pub(crate) text: String,
}

/// All that is wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Sorts `list` by line and drops repetitions.
    pub(crate) fn new(file: impl Into<String>, mut list: Vec<Problem>) -> Self {
        list.sort();
        list.dedup();
        Self {
            file: file.into(),
            list,
        }
    }

    /// The lines to show to a person: `berth.toml:12: vserver.alpha.vips: …`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|problem| {
            let place = match problem.line {
                0 => self.file.clone(),
                line => format!("{}:{line}", self.file),
            };
            if problem.key.is_empty() {
                format!("{place}: {}", problem.text)
            } else {
                format!("{place}: {}: {}", problem.key, problem.text)
            }
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `a, b and c`; `nothing` if there is none.
pub(crate) fn listing<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_the_order_of_lines_and_once_each() {
        let problem = |line, key: &str| Problem {
            line,
            key: key.into(),
            text: "wrong".into(),
        };
        let problems = Problems::new("f", vec![problem(9, "b"), problem(2, ""), problem(9, "b")]);
        assert_eq!(problems.to_string(), "f:2: wrong\nf:9: b: wrong");
    }
}
