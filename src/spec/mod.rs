//! What each parameter is called, which values it takes and what it means, declared once for all that say so: the
//! agents that take it, the configuration that sets it, and the meta-data and manual pages of both.
//!
//! A leaf: only the standard library. How a value becomes a type of its own is up to whoever takes it.

use std::ops::RangeInclusive;

pub mod fscheck;
pub mod portwatch;
mod time;
pub(crate) mod vip;
pub mod vserver;

pub(crate) use time::{Time, duration};

/// One parameter of an agent, of which `C` says what values it takes.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<C = Content> {
    /// Its name, lower_snake.
    pub name: &'static str,
    /// A few words.
    pub shortdesc: &'static str,
    /// Sentences; a blank line separates paragraphs.
    pub longdesc: &'static str,
    /// Which values it takes.
    pub content: C,
    /// What is taken when it is not set.
    pub default: Option<&'static str>,
    /// Whether the resource can't be without it.
    pub required: bool,
    /// Resources whose parameters of one group have the same values conflict.
    pub(crate) unique_group: Option<&'static str>,
    /// Whether a change is taken over by `reload-agent`, without a restart.
    pub reloadable: bool,
    /// Whether each node may have a value of its own: what is wrong with it is so on this node only.
    pub node_bound: bool,
}

/// Which values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Any text; whoever takes it says more.
    String,
    /// A whole number.
    Integer(Integer),
    /// A time.
    Time(Time),
    /// One of these words.
    Select(&'static [&'static str]),
}

impl Content {
    /// Whether it takes `value`.
    ///
    /// # Errors
    /// What would be right, as the rest of a sentence about the value: `is not a whole number from 5 to 300`.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::String => Ok(()),
            Self::Integer(integer) if integer.takes(value) => Ok(()),
            Self::Integer(Integer { least, most, .. }) => {
                Err(format!("is not a whole number from {least} to {most}"))
            }
            Self::Time(time) if time.parse(value).is_some() => Ok(()),
            Self::Time(time) => Err(format!(
                "is not a time from {} to {}, such as {}",
                time.least, time.most, time.default
            )),
            Self::Select(words) if words.contains(&value) => Ok(()),
            Self::Select(words) => Err(format!("is not one of {}", words.join(", "))),
        }
    }
}

/// Whole numbers of a range, of which one is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer {
    /// The smallest.
    pub least: u32,
    /// The largest.
    pub most: u32,
    /// The one that is taken when none is set.
    pub default: u32,
}

impl Integer {
    /// From the smallest to the largest.
    pub const fn range(self) -> RangeInclusive<u32> {
        self.least..=self.most
    }

    fn takes(self, value: &str) -> bool {
        value.parse().is_ok_and(|n| self.range().contains(&n))
    }
}

/// One of a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words(pub &'static [&'static str]);

impl<C: Copy> Parameter<C> {
    const fn new(
        name: &'static str,
        content: C,
        shortdesc: &'static str,
        longdesc: &'static str,
    ) -> Self {
        Self {
            name,
            shortdesc,
            longdesc,
            content,
            default: None,
            required: false,
            unique_group: None,
            reloadable: false,
            node_bound: false,
        }
    }

    const fn with_content<D>(&self, content: D) -> Parameter<D> {
        Parameter {
            name: self.name,
            shortdesc: self.shortdesc,
            longdesc: self.longdesc,
            content,
            default: self.default,
            required: self.required,
            unique_group: self.unique_group,
            reloadable: self.reloadable,
            node_bound: self.node_bound,
        }
    }

    /// The same parameter, without which a resource can't be.
    #[must_use]
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same parameter, unique together with the others of `group`.
    #[must_use]
    pub(crate) const fn unique_group(mut self, group: &'static str) -> Self {
        self.unique_group = Some(group);
        self
    }

    /// The same parameter, whose change `reload-agent` takes over.
    #[must_use]
    pub(crate) const fn reloadable(mut self) -> Self {
        self.reloadable = true;
        self
    }

    /// The same parameter, which may differ from node to node.
    #[must_use]
    pub(crate) const fn node_bound(mut self) -> Self {
        self.node_bound = true;
        self
    }
}

impl Parameter {
    /// A text, which may be left out.
    pub(crate) const fn text(
        name: &'static str,
        shortdesc: &'static str,
        longdesc: &'static str,
    ) -> Self {
        Self::new(name, Content::String, shortdesc, longdesc)
    }

    /// The same parameter, with what is taken when it is not set.
    #[must_use]
    pub(crate) const fn with_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

impl Parameter<Integer> {
    /// A whole number.
    ///
    /// # Panics
    /// If the default is none of the range: the build fails where it makes a constant.
    pub(crate) const fn integer(
        name: &'static str,
        (range, default): (RangeInclusive<u32>, &'static str),
        shortdesc: &'static str,
        longdesc: &'static str,
    ) -> Self {
        let (least, most) = (*range.start(), *range.end());
        let number = match time::whole(default.as_bytes()) {
            Some(number) if least <= number && number <= most => number,
            _ => panic!("the default is not in the range"),
        };
        let content = Integer {
            least,
            most,
            default: number,
        };
        let mut parameter = Self::new(name, content, shortdesc, longdesc);
        parameter.default = Some(default);
        parameter
    }

    /// The same parameter, whatever it takes.
    pub const fn any(&self) -> Parameter {
        self.with_content(Content::Integer(self.content))
    }
}

impl Parameter<Time> {
    /// A time.
    pub(crate) const fn time(
        name: &'static str,
        content: Time,
        shortdesc: &'static str,
        longdesc: &'static str,
    ) -> Self {
        let mut parameter = Self::new(name, content, shortdesc, longdesc);
        parameter.default = Some(content.default);
        parameter
    }

    /// The same parameter, whatever it takes.
    pub const fn any(&self) -> Parameter {
        self.with_content(Content::Time(self.content))
    }
}

impl Parameter<Words> {
    /// One of these words, or none.
    pub(crate) const fn select(
        name: &'static str,
        words: &'static [&'static str],
        shortdesc: &'static str,
        longdesc: &'static str,
    ) -> Self {
        Self::new(name, Words(words), shortdesc, longdesc)
    }

    /// The same parameter, with the word that is taken when it is not set.
    ///
    /// # Panics
    /// If it is none of the words: the build fails where it makes a constant.
    #[must_use]
    pub(crate) const fn with_default(mut self, default: &'static str) -> Self {
        let mut rest = self.content.0;
        while let [word, more @ ..] = rest {
            if is_same(word.as_bytes(), default.as_bytes()) {
                self.default = Some(default);
                return self;
            }
            rest = more;
        }
        panic!("the default is none of the words")
    }

    /// The same parameter, whatever it takes.
    pub const fn any(&self) -> Parameter {
        self.with_content(Content::Select(self.content.0))
    }
}

/// Whether two texts are equal, where a constant is made.
const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    one.is_empty() && other.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_ends() {
        let content = Content::Integer(Integer {
            least: 5,
            most: 300,
            default: 15,
        });
        for good in ["5", "15", "300"] {
            assert_eq!(content.check(good), Ok(()));
        }
        for bad in ["4", "301", "-5", "5.0", "", "ten"] {
            let why = content.check(bad).unwrap_err();
            assert_eq!(why, "is not a whole number from 5 to 300", "{bad}");
        }
    }

    #[test]
    fn a_choice_has_its_words_and_no_others() {
        let choice = Parameter::select("how", &["never", "preen"], "How", "How.").any();
        assert_eq!(choice.content.check("preen"), Ok(()));
        for bad in ["", "Never", "never ", "preen full"] {
            let why = choice.content.check(bad).unwrap_err();
            assert_eq!(why, "is not one of never, preen");
        }
    }

    #[test]
    fn texts_are_compared_to_their_ends() {
        for (one, other) in [("a", "a"), ("", ""), ("ab", "a"), ("a", "ab"), ("ab", "ac")] {
            assert_eq!(is_same(one.as_bytes(), other.as_bytes()), one == other);
        }
    }
}
