//! Tables of a TOML document, read key by key: collects what is wrong instead of stopping at it.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Section;
use super::problem::{Problem, hint, listing};
use crate::text::{LOST_IN_XML, is_plain, survives_xml};

/// A value and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its line, the first is 1.
    pub(crate) line: usize,
}

impl<T> At<T> {
    /// Another value at the same place.
    pub(crate) fn with<U>(&self, value: U) -> At<U> {
        At {
            value,
            line: self.line,
        }
    }
}

/// A text being read, and what was found wrong so far.
pub(crate) struct Reader<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Reader<'t> {
    /// Begins with `text`.
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: RefCell::default(),
        }
    }

    /// Notes that something is wrong.
    pub(crate) fn problem(&self, line: usize, key: impl Into<String>, text: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            line,
            key: key.into(),
            text: text.into(),
        });
    }

    /// The line that the byte at `offset` is on.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|b| **b == b'\n').count() + 1
    }

    /// Whether something is wrong with `key` or with what is under it: what follows from such a value
    /// is not worth a message of its own.
    pub(crate) fn is_doubtful(&self, key: &str) -> bool {
        let problems = self.problems.borrow();
        let concerned = |p: &Problem| {
            let rest = p.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        problems.iter().any(concerned)
    }

    /// Whether something is wrong with `key` itself, so that there is nothing under it.
    pub(crate) fn is_unreadable(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|p| p.key == key)
    }

    /// Whether something is wrong with `key` itself, in that line.
    pub(crate) fn is_wrong(&self, key: &str, line: usize) -> bool {
        let problems = self.problems.borrow();
        problems.iter().any(|p| p.key == key && p.line == line)
    }

    /// The problems that were found.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A table, with its place in the file.
///
/// A key that is a slip for one of the section's is reported, and then read as that one: otherwise what
/// it should have said would be reported as missing too.
#[derive(Clone)]
pub(crate) struct Table<'r, 't> {
    reader: &'r Reader<'t>,
    /// One, or several where a head was misspelt in one place and not in another.
    parts: Vec<&'r DeTable<'t>>,
    /// `None` where the admin chooses the keys.
    section: Option<&'static Section>,
    path: String,
    line: usize,
}

impl<'r, 't> Table<'r, 't> {
    /// The document itself.
    pub(crate) fn root(
        reader: &'r Reader<'t>,
        entries: &'r DeTable<'t>,
        section: &'static Section,
    ) -> Self {
        let table = Self {
            reader,
            parts: vec![entries],
            section: Some(section),
            path: String::new(),
            line: 1,
        };
        table.refuse_unknown();
        table
    }

    /// Reads `values`, found at `path`, as the parts of one table of which `section` says the keys;
    /// `None` if there are none, or one is no table.
    pub(crate) fn open(
        reader: &'r Reader<'t>,
        path: String,
        values: &[&'r Spanned<DeValue<'t>>],
        section: Option<&'static Section>,
    ) -> Option<Self> {
        let mut parts = Vec::new();
        for value in values {
            let Some(entries) = value.get_ref().as_table() else {
                let line = reader.line(value.span().start);
                reader.problem(line, path, wrong_type(value.get_ref(), "a table"));
                return None;
            };
            parts.push(entries);
        }
        let start = values.iter().map(|value| value.span().start).min()?;
        let table = Self {
            reader,
            parts,
            section,
            path,
            line: reader.line(start),
        };
        table.refuse_unknown();
        Some(table)
    }

    fn refuse_unknown(&self) {
        let Some(section) = self.section else { return };
        for (key, value) in self.parts.iter().flat_map(|part| part.iter()) {
            let name: &str = key.get_ref();
            if !section.has(name) {
                // The value's line: a key span is missing where a table's head made the key.
                let line = self.reader.line(value.span().start.min(key.span().start));
                let hint = hint(name, section.names());
                let known = listing(&section.names().collect::<Vec<_>>());
                self.reader.problem(
                    line,
                    self.key(name),
                    format!("unknown key{hint} (known here: {known})"),
                );
            }
        }
    }

    /// The full name of one of its keys.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The line it begins on.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Notes that the value of `key` is wrong.
    pub(crate) fn problem(&self, key: &str, line: usize, text: impl Into<String>) {
        self.reader.problem(line, self.key(key), text);
    }

    /// Notes that something about the table as a whole is wrong.
    pub(crate) fn note(&self, line: usize, text: impl Into<String>) {
        self.reader.problem(line, self.path.clone(), text);
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&'r Spanned<DeValue<'t>>> {
        self.values(key).into_iter().next()
    }

    /// The values of a key, the well-spelt ones first.
    fn values(&self, key: &str) -> Vec<&'r Spanned<DeValue<'t>>> {
        let exact = self.parts.iter().filter_map(|part| part.get(key));
        let slips = self.section.into_iter().flat_map(|section| {
            let entries = self.parts.iter().flat_map(|part| part.iter());
            entries
                .filter(move |(name, _)| section.slip(name.get_ref()) == Some(key))
                .map(|(_, value)| value)
        });
        exact.chain(slips).collect()
    }

    /// Its entries in the order of the file.
    pub(crate) fn entries(&self) -> Vec<(At<String>, &'r Spanned<DeValue<'t>>)> {
        let mut entries: Vec<_> = self.parts.iter().flat_map(|part| part.iter()).collect();
        entries.sort_by_key(|(key, value)| value.span().start.min(key.span().start));
        entries
            .into_iter()
            .map(|(key, value)| {
                let line = self.reader.line(key.span().start);
                let name = At {
                    value: key.get_ref().to_string(),
                    line,
                };
                (name, value)
            })
            .collect()
    }

    /// The table under `key`; `None` if it is absent or no table.
    pub(crate) fn table(&self, key: &str, section: Option<&'static Section>) -> Option<Self> {
        Self::open(self.reader, self.key(key), &self.values(key), section)
    }

    /// The elements of the list under `key`.
    pub(crate) fn list(&self, key: &str) -> Vec<&'r Spanned<DeValue<'t>>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            let line = self.reader.line(value.span().start);
            self.problem(key, line, wrong_type(value.get_ref(), "a list"));
            return Vec::new();
        };
        list.iter().collect()
    }

    /// Text, as a value of `key` or an element of its list.
    pub(crate) fn text(&self, key: &str, value: &'r Spanned<DeValue<'t>>) -> Option<At<String>> {
        let line = self.reader.line(value.span().start);
        match value.get_ref().as_str() {
            // No setting has a use for one, and what reads a plan could take it for the end of something.
            Some(text) if !text.chars().all(is_plain) => {
                let text = format!("{text:?} has a control character in it");
                self.problem(key, line, text);
                None
            }
            Some(text) if !survives_xml(text) => {
                self.problem(key, line, format!("{text:?} {LOST_IN_XML}"));
                None
            }
            Some(text) => Some(At {
                value: text.to_owned(),
                line,
            }),
            None => {
                let text = wrong_type(value.get_ref(), "text in quotes");
                self.problem(key, line, text);
                None
            }
        }
    }

    /// The text under `key`.
    pub(crate) fn string(&self, key: &str) -> Option<At<String>> {
        self.text(key, self.value(key)?)
    }

    /// The text under a key that may not be absent.
    pub(crate) fn required(&self, key: &str) -> Option<At<String>> {
        if self.value(key).is_none() {
            self.note(self.line, format!("{key} is missing"));
        }
        self.string(key)
    }

    /// Notes a list that is given and has no element. `meant` says what to write instead: left out, the
    /// key often means the very opposite of nothing.
    pub(crate) fn refuse_empty(&self, key: &str, meant: &str) {
        let Some(value) = self.value(key) else { return };
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            let line = self.reader.line(value.span().start);
            self.problem(key, line, format!("is empty: {meant}"));
        }
    }

    /// The list of texts under `key`.
    pub(crate) fn strings(&self, key: &str) -> Vec<At<String>> {
        let list = self.list(key);
        list.into_iter()
            .filter_map(|value| self.text(key, value))
            .collect()
    }

    /// The whole number under `key`.
    pub(crate) fn number(&self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok())
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| range.contains(n));
        if number.is_none() {
            let what = format!("a whole number from {} to {}", range.start(), range.end());
            let line = self.reader.line(value.span().start);
            self.problem(key, line, wrong_type(value.get_ref(), &what));
        }
        number
    }

    /// The truth value under `key`.
    pub(crate) fn boolean(&self, key: &str) -> Option<At<bool>> {
        let value = self.value(key)?;
        let line = self.reader.line(value.span().start);
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.problem(key, line, wrong_type(value.get_ref(), "true or false"));
        }
        truth.map(|value| At { value, line })
    }

    /// One of a few words under `key`.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.string(key)?;
        self.chosen(key, &word, choices)
    }

    /// Finds `word` among the choices, or notes that it is none of them.
    pub(crate) fn chosen<T: Copy>(
        &self,
        key: &str,
        word: &At<String>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == word.value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let text = format!("{:?} is none of {}", word.value, names.join(", "));
            self.problem(key, word.line, text);
        }
        found.map(|(_, value)| *value)
    }
}

/// `expected a list, found text "x"`.
pub(crate) fn wrong_type(value: &DeValue<'_>, expected: &str) -> String {
    let found = match value {
        DeValue::String(s) => format!("text {s:?}"),
        DeValue::Integer(n) => format!("number {n}"),
        DeValue::Float(n) => format!("number {n}"),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("time {d}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    format!("{found} instead of {expected}")
}
