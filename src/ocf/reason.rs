//! The exit reason: what Pacemaker shows beside a failed or degraded action.

use crate::text::{is_plain, without_markup};

/// Pacemaker keeps this many bytes of a reason (`EXIT_REASON_MAX_LEN`).
pub(crate) const LIMIT: usize = 128;

/// What stands between the kept beginning and the kept end of a reason that is too long.
const GAP: &str = " ... ";

/// `text` as one line of at most [`LIMIT`] bytes, with nothing in it that means something in XML.
///
/// What is too long loses its middle: a message begins with what was tried on which object and ends
/// with the cause, and both are wanted.
pub(crate) fn line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || !is_plain(c))
        .filter(|word| !word.is_empty())
        .collect();
    let line = without_markup(&words.join(" "));
    if line.len() <= LIMIT {
        return line;
    }
    let tail = (LIMIT - GAP.len()) / 2;
    let head = LIMIT - GAP.len() - tail;
    let boundary = |at: &usize| line.is_char_boundary(*at);
    let start = (0..=head).rev().find(boundary).unwrap_or(0);
    let end = (line.len() - tail..line.len())
        .find(boundary)
        .unwrap_or(line.len());
    format!(
        "{}{GAP}{}",
        line[..start].trim_end(),
        line[end..].trim_start()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_text_stays_as_it_is() {
        assert_eq!(line("umount /data: busy"), "umount /data: busy");
    }

    #[test]
    fn lines_become_one() {
        assert_eq!(line("a\nb\r\n\tc\u{7}d\n"), "a b c d");
    }

    #[test]
    fn a_long_text_keeps_what_was_tried_and_why_it_failed() {
        let text = format!(
            "mount /dev/{} on /data: Structure needs cleaning",
            "x".repeat(300)
        );
        let line = line(&text);
        assert_eq!(line.len(), LIMIT);
        assert!(line.starts_with("mount /dev/xxx"));
        assert!(line.ends_with("xx on /data: Structure needs cleaning"));
    }

    proptest! {
        #[test]
        fn any_text_fits(text in "\\PC{0,300}|.{0,200}") {
            let line = line(&text);
            prop_assert!(line.len() <= LIMIT);
            prop_assert!(!line.contains(['\n', '\r', '"', '<', '&']));
        }
    }
}
