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
pub fn plain(text: &str) -> String {
    text.replace(|c| !is_plain(c), " ")
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
}
