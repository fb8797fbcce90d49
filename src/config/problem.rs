//! What is wrong with a configuration file: where, which key, and what would be right.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, the first is 1; 0: the file as a whole.
    pub line: usize,
    /// The key, with the tables it lies in: `vserver.alpha.vips`.
    pub key: String,
    /// The value and what would be right.
    pub text: String,
}

/// All that is wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Sorts `list` by line and drops repetitions.
    pub fn new(file: impl Into<String>, mut list: Vec<Problem>) -> Self {
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

/// The candidate that `word` is most likely a slip for: at most a third of its letters differ.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `", did you mean X?"`, or nothing.
pub fn hint<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(word, candidates)
        .map(|candidate| format!(", did you mean {candidate}?"))
        .unwrap_or_default()
}

/// `a, b and c`; `nothing` if there is none.
pub fn listing<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

/// The number of letters to insert, drop, replace or exchange with their neighbour that makes one the
/// other (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let swapped =
                i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if swapped {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_a_strange_word_finds_none() {
        let keys = ["device", "path", "unit", "options"];
        assert_eq!(nearest("devcie", keys), Some("device"));
        assert_eq!(nearest("option", keys), Some("options"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn the_distance_counts_edits_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("lba", "lab"), 1);
    }

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
