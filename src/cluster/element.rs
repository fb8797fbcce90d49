//! A small XML tree that can be changed: what the CIB needs, elements and attributes, no text.

use std::fmt;

use roxmltree::{Document, Node, ParsingOptions};

/// The most nodes that a document may have, against documents that explode.
const NODE_LIMIT: u32 = 1 << 20;

/// An element with its attributes, in their order, and its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Attributes.
    pub(crate) attributes: Vec<(String, String)>,
    /// Children.
    pub children: Vec<Element>,
}

impl Element {
    /// An element without attributes or children.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.set(name, value);
        self
    }

    /// Adds children.
    pub fn containing(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// Reads a document; comments, text and processing instructions are left out.
    ///
    /// # Errors
    /// The text is no well-formed XML, or has more than a million nodes.
    pub fn parse(text: &str) -> Result<Self, roxmltree::Error> {
        let options = ParsingOptions {
            nodes_limit: NODE_LIMIT,
            ..ParsingOptions::default()
        };
        let document = Document::parse_with_options(text, options)?;
        Ok(Self::from_node(document.root_element()))
    }

    fn from_node(node: Node) -> Self {
        let attributes = node.attributes();
        Self {
            name: node.tag_name().name().to_owned(),
            attributes: attributes
                .map(|a| (a.name().to_owned(), a.value().to_owned()))
                .collect(),
            children: node
                .children()
                .filter(Node::is_element)
                .map(Self::from_node)
                .collect(),
        }
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        match self.attributes.iter_mut().find(|(n, _)| n == name) {
            Some(attribute) => attribute.1 = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    /// Its id, empty if it has none.
    pub fn id(&self) -> &str {
        self.get("id").unwrap_or_default()
    }

    /// Its first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// Its first child of that name, made if there is none.
    pub fn child_mut(&mut self, name: &str) -> &mut Element {
        let at = self.children.iter().position(|c| c.name == name);
        let at = at.unwrap_or_else(|| {
            self.children.push(Self::new(name));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// Itself and all that is in it, outer before inner.
    pub fn walk(&self) -> impl Iterator<Item = &Element> {
        let mut left = vec![self];
        std::iter::from_fn(move || {
            let next = left.pop()?;
            left.extend(next.children.iter().rev());
            Some(next)
        })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:width$}<{}", "", self.name, width = depth * 2)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"{}\"", Escaped(value))?;
        }
        if self.children.is_empty() {
            return writeln!(f, "/>");
        }
        writeln!(f, ">")?;
        for child in &self.children {
            child.write(f, depth + 1)?;
        }
        writeln!(f, "{:width$}</{}>", "", self.name, width = depth * 2)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // As they are, a reader would make spaces of them (XML 1.0, 3.3.3).
                '\t' | '\n' | '\r' => write!(f, "&#{};", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let tree = Element::new("a")
            .with("id", "x")
            .with("text", "<&>\"'\n\tü")
            .containing([Element::new("b").with("id", "y"), Element::new("c")]);
        assert_eq!(Element::parse(&tree.to_string()).unwrap(), tree);
    }

    #[test]
    fn walking_visits_in_the_order_of_the_document() {
        let tree = Element::parse("<a><b><c/></b><!-- no --><d/> text </a>").unwrap();
        let names: Vec<&str> = tree.walk().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }

    #[test]
    fn broken_text_is_an_error() {
        assert!(Element::parse("<a><b></a>").is_err());
        assert!(Element::parse("").is_err());
    }
}
