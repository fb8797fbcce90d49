//! What is known of exports that the servers do not serve as they should.

use std::collections::{BTreeMap, BTreeSet};

use crate::cell::keeper::core::effect::Effects;
use crate::cell::probe::Protocol;
use crate::cell::refused::Refused;

/// What the servers have answered when they were last asked.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The exports that the servers have denied to serve and not confirmed since, and why.
    unserved: BTreeMap<(String, Protocol), String>,
    /// What is wrong with each export, by its directory.
    wrong: BTreeMap<String, String>,
    /// Whether the servers have left requests unanswered.
    silent: bool,
}

impl Notes {
    /// What is wrong with the file system at `directory`.
    pub(crate) fn about(&self, directory: &str) -> Option<&str> {
        self.wrong.get(directory).map(String::as_str)
    }

    /// Everything that is wrong: the directory, and why.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.wrong.iter();
        all.map(|(directory, why)| (directory.as_str(), why.as_str()))
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Forgets earlier answers about these directories, since their exports are changed.
    pub(crate) fn forget(&mut self, changed: &BTreeSet<String>) {
        self.unserved
            .retain(|(directory, _), _| !changed.contains(directory));
    }

    /// Notes the servers' answers. For an export that they gave no answer about, the last answer still holds. `trouble`
    /// is why the last change of exports was not made, and the directories that it was about.
    pub(crate) fn take(
        &mut self,
        refused: &[Refused],
        trouble: Option<(&str, &BTreeSet<String>)>,
        out: &mut Effects,
    ) {
        let mut said = std::mem::take(&mut self.unserved);
        for thing in refused {
            let key = (thing.directory.clone(), thing.protocol);
            let why = match thing.definite {
                true => Some(thing.why.clone()),
                false => said.remove(&key),
            };
            self.unserved.extend(why.map(|why| (key, why)));
        }
        self.mark_silence(refused, out);

        let before = std::mem::take(&mut self.wrong);
        for ((directory, _), why) in &self.unserved {
            let whys = self.wrong.entry(directory.clone()).or_default();
            let separator = if whys.is_empty() { "" } else { "; " };
            *whys = format!("{whys}{separator}{why}");
        }
        if let Some((why, changed)) = trouble {
            for directory in changed {
                let text = format!("exports not changed: {why}");
                self.wrong.entry(directory.clone()).or_insert(text);
            }
        }
        for (directory, why) in &self.wrong {
            if before.get(directory) != Some(why) {
                out.error(format_args!("{directory}: {why}"));
            }
        }
    }

    /// Logs once that the servers leave requests unanswered, until they have answered all of them again.
    fn mark_silence(&mut self, refused: &[Refused], out: &mut Effects) {
        let unanswered: Vec<&Refused> = refused.iter().filter(|thing| !thing.definite).collect();
        if let Some(first) = unanswered.first().filter(|_| !self.silent) {
            out.warn(format_args!(
                "{}: whether it is served is not known ({}), nor of {} more",
                first.directory,
                first.why,
                unanswered.len() - 1
            ));
        }
        self.silent = !unanswered.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(directory: &str, protocol: Protocol, refusal: Option<&str>) -> Refused {
        Refused {
            directory: directory.to_owned(),
            protocol,
            definite: refusal.is_some(),
            why: refusal.unwrap_or("no answer").to_owned(),
        }
    }

    #[test]
    fn what_is_not_answered_for_is_as_it_was_until_it_is_or_changes() {
        let mut notes = Notes::default();
        let unknown = ["/a", "/b"].map(|at| thing(at, Protocol::Smb, None));
        notes.take(&unknown, None, &mut Effects::default());
        assert!(notes.is_empty());
        notes.take(
            &[thing("/a", Protocol::Smb, Some("no share"))],
            None,
            &mut Effects::default(),
        );
        assert_eq!(notes.about("/a"), Some("no share"));
        for _ in 0..2 {
            notes.take(&unknown, None, &mut Effects::default());
            assert!(notes.all().eq([("/a", "no share")]));
        }
        // It is no answer of the other protocol's.
        notes.take(
            &[thing("/a", Protocol::Nfs, None)],
            None,
            &mut Effects::default(),
        );
        assert!(notes.is_empty());

        notes.take(
            &[thing("/a", Protocol::Smb, Some("no share"))],
            None,
            &mut Effects::default(),
        );
        notes.forget(&BTreeSet::from(["/a".to_owned()]));
        notes.take(&unknown, None, &mut Effects::default());
        assert!(notes.is_empty());
    }

    #[test]
    fn a_change_that_was_not_made_is_said_of_what_it_was_about() {
        let mut notes = Notes::default();
        let changed = BTreeSet::from(["/a".to_owned(), "/b".to_owned()]);
        let refused = [
            thing("/a", Protocol::Nfs, Some("one")),
            thing("/a", Protocol::Smb, Some("two")),
        ];
        notes.take(&refused, Some(("full", &changed)), &mut Effects::default());
        assert_eq!(notes.about("/a"), Some("one; two"));
        assert_eq!(notes.about("/b"), Some("exports not changed: full"));
        notes.take(&[], None, &mut Effects::default());
        assert!(notes.is_empty());
    }
}
