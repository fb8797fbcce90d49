//! Which version of a server is installed: some settings are needed from one version on, and an older
//! one complains of them.

use std::io;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use crate::cell::confine::restricted;
use crate::sys::command::run;

/// How long a program may take to tell its version, which takes some 10 to 50 ms.
const LIMIT: Duration = Duration::from_secs(5);

/// A version, as far as settings depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Newer than any. What does not tell its version, or in a way that is not understood, is taken for this:
    /// it is more likely newer than older, and what it does not know it only complains of.
    pub(crate) const NEWEST: Self = Self::new(u32::MAX, u32::MAX);

    /// Version `major.minor`.
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Asks `argv`, a program and the argument that makes it tell its version and end.
    ///
    /// # Errors
    /// If the program is not installed. One that is too slow to answer, on a node that takes over much at
    /// once, may yet serve.
    pub(crate) fn ask(argv: &[&str]) -> io::Result<Self> {
        let words: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let command = restricted(&words, CapabilitySet::empty(), &[])?;
        let what = argv.join(" ");
        let answer = run(command, Instant::now() + LIMIT).and_then(|output| output.check(what));
        let version = answer.ok().and_then(|output| Self::parse(&output.text()));
        Ok(version.unwrap_or(Self::NEWEST))
    }

    /// The first number in the text, with what follows its dot: `NFS-Ganesha Release = V6.5`,
    /// `Version 4.22.11-Debian`. A development version (`V6-dev.20`) counts as 6.0.
    fn parse(text: &str) -> Option<Self> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let (major, rest) = number(&text[start..])?;
        let minor = rest.strip_prefix('.').and_then(number);
        Some(Self::new(major, minor.map_or(0, |(minor, _)| minor)))
    }
}

/// The number that the text begins with, and what follows.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read_from_what_the_servers_say() {
        for (text, major, minor) in [
            ("NFS-Ganesha Release = V4.3\n", 4, 3),
            ("NFS-Ganesha Release = V6.5\n", 6, 5),
            ("NFS-Ganesha Release = V9.13-rc1", 9, 13),
            ("NFS-Ganesha Release = V6-dev.20", 6, 0),
            ("Version 4.17.12-Debian\n", 4, 17),
            ("Version 4.22.11-Debian-4.22.11+dfsg-0+deb13u1\n", 4, 22),
        ] {
            assert_eq!(Version::parse(text), Some(Version::new(major, minor)));
        }
        for none in ["", "Release = next", "V99999999999.1"] {
            assert_eq!(Version::parse(none), None, "{none}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Version::new(4, 22) > Version::new(4, 3));
        assert!(Version::new(10, 0) > Version::new(9, 13));
        assert!(Version::NEWEST > Version::new(1000, 0));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_program_that_is_not_there_is_an_error_and_one_that_fails_or_mumbles_is_the_newest() {
        let error = Version::ask(&["berth-no-such", "-v"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        for program in ["false", "true"] {
            assert_eq!(Version::ask(&[program, "-v"]).unwrap(), Version::NEWEST);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Version::parse(&text);
        }
    }
}
