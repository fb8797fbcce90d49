//! What a key says of itself, and what a table has of keys.

use crate::config::problem::nearest;
use crate::spec::{Content, Integer, Parameter};

/// One key.
pub(crate) struct Key {
    /// As written in the file.
    pub(crate) name: &'static str,
    /// The kind of value, and what it means with its default: with places that are filled in.
    texts: [&'static str; 2],
    /// What fills them.
    of: Of,
}

/// What a key sets.
enum Of {
    /// Nothing that an agent has as such.
    Berth,
    /// An agent's parameter.
    Parameter(Parameter),
    /// One of which the file says the number.
    Number(Integer),
}

impl Key {
    /// The kind of value, for people.
    pub(crate) fn value(&self) -> String {
        self.filled(self.texts[0])
    }

    /// What it means, with its default.
    pub(crate) fn text(&self) -> String {
        self.filled(self.texts[1])
    }

    /// `text` with what the parameter's declaration says in its places: `{least}`, `{most}`, `{words}`,
    /// `{default}` as they are written in the file, and `{meaning}`.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut fill = |place: &str, with: &str| text = text.replace(place, with);
        match &self.of {
            Of::Berth => {}
            Of::Number(integer) => fill_range(&mut fill, integer),
            Of::Parameter(parameter) => {
                fill("{meaning}", parameter.longdesc);
                match parameter.content {
                    Content::Integer(integer) => fill_range(&mut fill, &integer),
                    Content::Time(time) => {
                        fill("{least}", &quoted(time.least));
                        fill("{most}", &quoted(time.most));
                    }
                    Content::Select(words) => fill("{words}", &alternatives(words)),
                    Content::String => {}
                }
                fill("{default}", &quoted(parameter.default.unwrap_or_default()));
            }
        }
        text
    }
}

fn fill_range(fill: &mut impl FnMut(&str, &str), integer: &Integer) {
    fill("{least}", &integer.least.to_string());
    fill("{most}", &integer.most.to_string());
    fill("{default}", &integer.default.to_string());
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// `"a", "b" or "c"`
fn alternatives(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

/// The keys of one kind of table.
pub(crate) struct Section {
    /// How the table's head is written.
    pub(crate) head: &'static str,
    /// What it describes.
    pub(crate) text: &'static str,
    /// Its keys; empty if the admin chooses them.
    pub(crate) keys: &'static [Key],
}

impl Section {
    /// The names of its keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether it has a key of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// The key that `name`, which is none of its own, is most likely a slip for.
    pub(crate) fn slip(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.names()).filter(|_| !self.has(name))
    }
}

/// A key of berth's own.
pub(crate) const fn key(name: &'static str, value: &'static str, text: &'static str) -> Key {
    Key {
        name,
        texts: [value, text],
        of: Of::Berth,
    }
}

/// The key that sets an agent's parameter, and is called as it.
pub(crate) const fn set(parameter: Parameter, value: &'static str, text: &'static str) -> Key {
    part(parameter.name, parameter, value, text)
}

/// The key that sets an agent's parameter under another name: one that has to say less where it stands.
pub(crate) const fn part(
    name: &'static str,
    parameter: Parameter,
    value: &'static str,
    text: &'static str,
) -> Key {
    Key {
        name,
        texts: [value, text],
        of: Of::Parameter(parameter),
    }
}

/// The key that sets the number `of`, which is not an agent's parameter as such.
pub(crate) const fn number(
    name: &'static str,
    of: Integer,
    value: &'static str,
    text: &'static str,
) -> Key {
    Key {
        name,
        texts: [value, text],
        of: Of::Number(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{fscheck, portwatch, vserver};

    #[test]
    fn a_parameters_range_words_and_default_are_shown_as_the_file_has_them() {
        let parameter = vserver::NFS_LEASE.any();
        let lease = set(parameter, "{least} to {most}", "{default}");
        assert_eq!((&*lease.value(), &*lease.text()), ("5 to 300", "15"));
        let interval = set(portwatch::INTERVAL.any(), "{least} to {most}", "{default}");
        assert_eq!(interval.value(), "\"20ms\" to \"10s\"");
        assert_eq!(interval.text(), "\"200ms\"");
        let repair = part("how", fscheck::REPAIR.any(), "{words}", "{default}");
        assert_eq!(repair.value(), "\"never\", \"preen\" or \"full\"");
        assert_eq!((repair.name, &*repair.text()), ("how", "\"preen\""));
    }
}
