//! Text that somebody else has written, where people or programs read it line by line.

/// Whether a character only stands for itself: neither a control character, with which a terminal or a protocol may do
/// anything, nor one that ends a line or turns the direction of what follows without being seen (Unicode, UAX #9 and
/// UAX #14).
pub const fn is_plain(c: char) -> bool {
    !matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// The same with a blank in the place of each character that is not plain.
pub(crate) fn plain(text: &str) -> String {
    text.replace(|c| !is_plain(c), " ")
}

/// What ends an attribute of XML, or begins something else in it.
const MARKUP: [char; 3] = ['"', '<', '&'];

/// Whether all of Pacemaker's releases write a text into XML as what it is. Those from 2.1.3 to 2.1.7 stop escaping at
/// the first letter beyond ASCII: what is markup behind it ends the value, and what follows is lost or taken for
/// something else.
pub(crate) fn survives_xml(text: &str) -> bool {
    let beyond = text.find(|c: char| !c.is_ascii());
    beyond.is_none_or(|at| !text[at..].contains(MARKUP))
}

/// What is wrong with a text that does not.
pub(crate) const LOST_IN_XML: &str =
    "has a letter beyond ASCII before a double quote, less-than sign or ampersand";

/// A text with other characters in place of markup: for what Pacemaker sends on together with other texts, and of
/// which some may be words of a server in a cell.
pub(crate) fn without_markup(text: &str) -> String {
    let other = |c| match c {
        '"' => '\'',
        '<' => '(',
        '&' => '+',
        c => c,
    };
    text.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_ends_a_line_or_turns_writing_is_left() {
        for bad in [
            "\n", "\r", "\t", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}", "\u{85}", "\u{9b}", "\u{2028}",
            "\u{2029}", "\u{202e}", "\u{2066}", "\u{feff}",
        ] {
            assert_eq!(plain(&format!("a{bad}b")), "a b", "{bad:?}");
        }
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            assert!(!(c.is_control() && is_plain(c)), "{c:?}");
        }
    }

    #[test]
    fn what_people_write_stays() {
        let text = "Müller's файл, 数据 \u{1f600} \"x\" \\ {}";
        assert_eq!(plain(text), text);
    }

    #[test]
    fn only_markup_behind_a_letter_beyond_ascii_is_lost() {
        for good in ["", "a<b&\"c", "<\u{e9}", "&\"\u{1f600}>'"] {
            assert!(survives_xml(good), "{good:?}");
        }
        for bad in ["\u{e9}<", "\u{e9} \"", "a\u{1f600}b&c", "<\u{e9}<"] {
            assert!(!survives_xml(bad), "{bad:?}");
            assert!(survives_xml(&without_markup(bad)), "{bad:?}");
        }
        assert_eq!(
            without_markup("\u{e9}\" rc=\"0\" <&>"),
            "\u{e9}' rc='0' (+>"
        );
    }
}
