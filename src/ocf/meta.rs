//! The meta-data: an agent's declaration as OCF 1.1 XML.

use std::fmt::Write;

use super::action::Action;
use super::agent::{ActionDecl, Agent};
use crate::ocf::state::State;
use crate::spec::{Content, Parameter};

/// What every agent advertises and [`run`](super::run()) itself carries out.
pub(crate) const META_DATA: ActionDecl =
    ActionDecl::once(Action::MetaData, 5, |_| Ok(State::Stopped));

/// The longest line of a description.
const WIDTH: usize = 80;

/// The meta-data of `agent`.
pub fn xml(agent: &Agent) -> String {
    // Without an encoding, which UTF-8 does not need: crmsh's parser refuses text that declares one.
    let mut out = String::from("<?xml version=\"1.0\"?>\n");
    line(
        &mut out,
        0,
        &format!(
            "<resource-agent name={} version={}>",
            quote(agent.name),
            quote(env!("CARGO_PKG_VERSION"))
        ),
    );
    line(&mut out, 1, "<version>1.1</version>");
    describe(&mut out, 1, agent.longdesc, agent.shortdesc);
    line(&mut out, 1, "<parameters>");
    for parameter in agent.params {
        describe_parameter(&mut out, parameter.spec());
    }
    line(&mut out, 1, "</parameters>");
    line(&mut out, 1, "<actions>");
    // Only monitors are scheduled by depth; a deeper validation is the caller's choice.
    let advertised = |a: &&ActionDecl| a.action == Action::Monitor || a.depth == 0;
    for action in agent.actions.iter().filter(advertised) {
        describe_action(&mut out, action);
    }
    describe_action(&mut out, &META_DATA);
    line(&mut out, 1, "</actions>");
    line(&mut out, 0, "</resource-agent>");
    out
}

fn describe(out: &mut String, depth: usize, longdesc: &str, shortdesc: &str) {
    let long = format!("<longdesc lang=\"en\">\n{}\n", escape(&wrap(longdesc)));
    line(out, depth, &(long + "</longdesc>"));
    let short = format!("<shortdesc lang=\"en\">{}</shortdesc>", escape(shortdesc));
    line(out, depth, &short);
}

fn describe_parameter(out: &mut String, spec: &Parameter) {
    let mut tag = format!("<parameter name={}", quote(spec.name));
    if let Some(group) = spec.unique_group {
        attribute(&mut tag, "unique-group", group);
    }
    attribute(&mut tag, "required", flag(spec.required));
    attribute(&mut tag, "reloadable", flag(spec.reloadable));
    line(out, 2, &(tag + ">"));
    describe(out, 3, spec.longdesc, spec.shortdesc);
    describe_content(out, spec);
    line(out, 2, "</parameter>");
}

fn describe_content(out: &mut String, spec: &Parameter) {
    let mut tag = String::from("<content");
    attribute(&mut tag, "type", kind(spec.content));
    // The dev guide wants a default of every parameter that may be left out; the empty one is "not set" to berth. An
    // empty integer or one outside the choice would be no such value.
    let default = match (spec.default, spec.content) {
        (Some(default), _) => Some(default),
        (None, Content::String) if !spec.required => Some(""),
        (None, _) => None,
    };
    if let Some(default) = default {
        attribute(&mut tag, "default", default);
    }
    let Content::Select(options) = spec.content else {
        line(out, 3, &(tag + "/>"));
        return;
    };
    line(out, 3, &(tag + ">"));
    for option in options {
        line(out, 4, &format!("<option value={}/>", quote(option)));
    }
    line(out, 3, "</content>");
}

fn describe_action(out: &mut String, action: &ActionDecl) {
    let mut tag = format!("<action name={}", quote(action.action.name()));
    attribute(&mut tag, "timeout", &format!("{}s", action.timeout));
    if action.action == Action::Monitor {
        attribute(&mut tag, "interval", &format!("{}s", action.interval));
        attribute(&mut tag, "depth", &action.depth.to_string());
    }
    line(out, 2, &(tag + "/>"));
}

/// A type's name in the meta-data.
pub(crate) const fn kind(content: Content) -> &'static str {
    match content {
        // There is no type for a time.
        Content::String | Content::Time(_) => "string",
        Content::Integer(_) => "integer",
        Content::Select(_) => "select",
    }
}

const fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

/// `text` in lines of at most [`WIDTH`] characters; blank lines between its paragraphs stay.
fn wrap(text: &str) -> String {
    let wrapped = paragraphs(text).map(|words| {
        let mut out = String::new();
        let mut column = 0;
        for word in words {
            let width = word.chars().count();
            let fits = column + 1 + width <= WIDTH;
            if column > 0 {
                out.push(if fits { ' ' } else { '\n' });
            }
            column = if fits && column > 0 { column + 1 } else { 0 } + width;
            out.push_str(word);
        }
        out
    });
    wrapped.collect::<Vec<_>>().join("\n\n")
}

/// The paragraphs of a description, each as its words.
pub(crate) fn paragraphs(text: &str) -> impl Iterator<Item = std::str::SplitWhitespace<'_>> {
    text.split("\n\n")
        .map(str::split_whitespace)
        .filter(|words| words.clone().next().is_some())
}

fn line(out: &mut String, depth: usize, text: &str) {
    out.extend(std::iter::repeat_n("  ", depth));
    out.push_str(text);
    out.push('\n');
}

fn attribute(tag: &mut String, name: &str, value: &str) {
    // Writing to a string can't fail.
    let _ = write!(tag, " {name}={}", quote(value));
}

fn quote(text: &str) -> String {
    format!("\"{}\"", escape(text))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample::SAMPLE;
    use super::*;

    #[test]
    fn the_meta_data_say_what_is_declared() {
        let xml = xml(&SAMPLE);
        let document = roxmltree::Document::parse(&xml).unwrap();
        let all = |name: &str| -> Vec<roxmltree::Node<'_, '_>> {
            document
                .descendants()
                .filter(|n| n.has_tag_name(name))
                .collect()
        };
        assert_eq!(all("version")[0].text(), Some("1.1"));
        let parameters: Vec<_> = all("parameter")
            .iter()
            .map(|p| {
                (
                    p.attribute("name"),
                    p.attribute("required"),
                    p.attribute("reloadable"),
                )
            })
            .collect();
        assert_eq!(
            parameters,
            [
                (Some("file"), Some("1"), Some("0")),
                (Some("mode"), Some("0"), Some("1")),
                (Some("count"), Some("0"), Some("0")),
                (Some("note"), Some("0"), Some("0")),
            ]
        );
        assert_eq!(all("parameter")[0].attribute("unique-group"), Some("file"));
        assert!(!xml.contains("unique="));
        let contents: Vec<_> = all("content")
            .iter()
            .map(|c| (c.attribute("type"), c.attribute("default")))
            .collect();
        assert_eq!(
            contents,
            [
                (Some("string"), None),
                (Some("select"), Some("fast")),
                (Some("integer"), Some("3")),
                (Some("string"), Some("")),
            ]
        );
        assert_eq!(all("option").len(), 4);
    }

    #[test]
    fn every_action_is_advertised_with_its_times() {
        let xml = xml(&SAMPLE);
        for line in [
            r#"<action name="start" timeout="20s"/>"#,
            r#"<action name="monitor" timeout="20s" interval="10s" depth="0"/>"#,
            r#"<action name="monitor" timeout="30s" interval="60s" depth="10"/>"#,
            r#"<action name="meta-data" timeout="5s"/>"#,
        ] {
            assert!(xml.contains(line), "{line}");
        }
    }

    #[test]
    fn markup_in_descriptions_is_text() {
        let xml = xml(&SAMPLE);
        assert!(xml.contains("means &quot;running&quot;; .never &lt;two&gt; &amp; the same."));
    }

    #[test]
    fn descriptions_are_wrapped_by_paragraph() {
        let text = format!("{}\n\nlast  one ", "word ".repeat(40));
        let wrapped = wrap(&text);
        assert!(wrapped.lines().all(|l| l.len() <= WIDTH), "{wrapped}");
        assert!(wrapped.ends_with("word\n\nlast one"));
    }
}
