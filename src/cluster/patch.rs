//! A change of the configuration as a patch that only fits the version it was made for, and its way into
//! a CIB that changes all the time.
//!
//! A CIB has three numbers. Two of them, `admin_epoch` and `epoch`, count changes of the configuration;
//! `num_updates` counts those of the cluster's state since. A patch is to fit as long as nobody else has
//! changed the configuration, whatever becomes of the state, which a busy cluster changes many times a
//! second.
//!
//! Pacemaker up to 3.0.1 takes a patch that does not say for which `num_updates` it was made. 3.0.2 calls
//! that an invalid argument, before it does anything. So it is tried without, and if that is the answer,
//! for one state after the other, each as soon as it was read. Asking what is installed here would not
//! do: it is the controller's node that decides, which may have another version than this one while a
//! cluster is upgraded.

use std::io;
use std::time::{Duration, Instant};

use super::element::Element;
use crate::sys::command::Output;

/// cibadmin's exit code for a patch made for an older version (CRM_EX_OLD).
const OLD: i32 = 103;
/// Its exit code for an invalid argument (CRM_EX_SOFTWARE, what EINVAL becomes).
const INVALID: i32 = 70;
/// Its exit codes where nobody has dealt with a patch, or has not said so: the cluster has no controller
/// at the moment, or another one than a moment ago (`CRM_EX_DISCONNECT`, `CRM_EX_UNSATISFIED`,
/// `CRM_EX_TIMEOUT`).
const UNANSWERED: [i32; 3] = [102, 113, 124];
/// How the count of changes of the cluster's state is called.
const STATE: &str = "num_updates";

/// How an attempt to change the CIB ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// It is changed.
    Done,
    /// Somebody changed it since it was read: nothing was done.
    Outdated,
    /// Whether it is changed is not known, as these words of the tool say; the CIB itself will tell.
    Unanswered(String),
}

/// The version of a CIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    admin_epoch: u64,
    epoch: u64,
    num_updates: u64,
}

impl Version {
    /// That of a `<cib>`.
    pub(crate) fn of(cib: &Element) -> Self {
        let number = |name| cib.get(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            admin_epoch: number("admin_epoch"),
            epoch: number("epoch"),
            num_updates: number(STATE),
        }
    }

    /// Of the configuration after one change.
    pub(crate) fn next_epoch(self) -> u64 {
        self.epoch + 1
    }

    fn has_configuration_of(self, other: Self) -> bool {
        (self.admin_epoch, self.epoch) == (other.admin_epoch, other.epoch)
    }
}

/// Where a patch is sent.
pub(crate) trait Target {
    /// The version that it has now.
    ///
    /// # Errors
    /// It does not answer.
    fn version(&mut self) -> io::Result<Version>;

    /// Hands a patch to `cibadmin --patch`.
    ///
    /// # Errors
    /// The tool can't be run.
    fn send(&mut self, patch: &Element) -> io::Result<Output>;
}

/// A patch, in the form of `cibadmin --patch`, and the version it was made for.
#[derive(Debug)]
pub(crate) struct Patch {
    made_for: Version,
    element: Element,
}

impl Patch {
    /// What crm_diff has found to be different from a CIB of this version.
    pub(crate) fn new(made_for: Version, mut element: Element) -> Self {
        // It is a digest of the whole CIB, of which this is only a part.
        element.attributes.retain(|(name, _)| name != "digest");
        Self { made_for, element }
    }

    fn for_any_state(&self) -> Element {
        let mut patch = self.element.clone();
        let source = patch.child_mut("version").child_mut("source");
        source.attributes.retain(|(name, _)| name != STATE);
        patch
    }

    fn for_state_of(&self, version: Version) -> Element {
        let mut patch = self.element.clone();
        let source = patch.child_mut("version").child_mut("source");
        source.set(STATE, version.num_updates);
        patch
    }

    /// Makes it part of the CIB; tries that for at most `patience` where it has to fit the state.
    ///
    /// # Errors
    /// The CIB can't be reached, or Pacemaker refuses the patch for another reason than its age.
    pub(crate) fn load(&self, target: &mut impl Target, patience: Duration) -> io::Result<Loaded> {
        let output = target.send(&self.for_any_state())?;
        match output.status.code() {
            Some(INVALID) => self.load_for_each_state(target, patience),
            _ => self.judged(output, target, |now| {
                now.has_configuration_of(self.made_for)
            }),
        }
    }

    fn load_for_each_state(
        &self,
        target: &mut impl Target,
        patience: Duration,
    ) -> io::Result<Loaded> {
        let begin = Instant::now();
        loop {
            let read = target.version()?;
            if !read.has_configuration_of(self.made_for) || begin.elapsed() > patience {
                return Ok(Loaded::Outdated);
            }
            let output = target.send(&self.for_state_of(read))?;
            match self.judged(output, target, |now| now == read)? {
                Loaded::Outdated => {}
                end => return Ok(end),
            }
        }
    }

    /// What became of a patch. A refusal counts only if the version is still that for which it was: of
    /// what has changed meanwhile, Pacemaker says one thing or another.
    fn judged(
        &self,
        output: Output,
        target: &mut impl Target,
        still: impl Fn(Version) -> bool,
    ) -> io::Result<Loaded> {
        match output.status.code() {
            Some(0) => Ok(Loaded::Done),
            Some(OLD) => Ok(Loaded::Outdated),
            Some(code) if UNANSWERED.contains(&code) => {
                let words = output.check("change the CIB").err();
                let words = words.map_or_else(String::new, |e| e.to_string());
                Ok(Loaded::Unanswered(words))
            }
            _ if !still(target.version()?) => Ok(Loaded::Outdated),
            _ => output.check("change the CIB").map(|_| Loaded::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which Pacemaker answers.
    #[derive(Clone, Copy, PartialEq)]
    enum Release {
        /// It takes what a source does not say from the CIB.
        Lenient,
        /// It wants all three numbers of a source.
        Strict,
    }

    /// A CIB, in the words that Pacemaker 2.1.5, 3.0.0 and 3.0.2 have for patches.
    struct Cluster {
        release: Release,
        now: Version,
        /// How often the state changes before each further patch arrives; none at the end.
        busy: Vec<u64>,
        /// How often the configuration changes before the first patch arrives.
        edits: u64,
        sent: usize,
        /// What it says of a patch that fits.
        verdict: (i32, &'static str),
    }

    impl Cluster {
        fn new(release: Release) -> Self {
            Self {
                release,
                now: version(7, 40),
                busy: Vec::new(),
                edits: 0,
                sent: 0,
                verdict: (0, ""),
            }
        }

        fn answer(&self, source: &Element) -> (i32, &'static str) {
            let number = |name: &str| source.get(name).map(|n| n.parse::<u64>().unwrap());
            let Some(updates) = number(STATE).or(match self.release {
                Release::Lenient => Some(self.now.num_updates),
                Release::Strict => None,
            }) else {
                return (70, "CIB API call failed: Invalid argument");
            };
            let wanted = (number("epoch").unwrap(), updates);
            match wanted.cmp(&(self.now.epoch, self.now.num_updates)) {
                std::cmp::Ordering::Less => {
                    let words = "CIB API call failed: Update was older than existing configuration";
                    (103, words)
                }
                std::cmp::Ordering::Greater => {
                    let words = "CIB API call failed: Application of an update diff failed";
                    (1, words)
                }
                std::cmp::Ordering::Equal => self.verdict,
            }
        }
    }

    impl Target for Cluster {
        fn version(&mut self) -> io::Result<Version> {
            Ok(self.now)
        }

        fn send(&mut self, patch: &Element) -> io::Result<Output> {
            self.now.epoch += std::mem::take(&mut self.edits);
            self.now.num_updates += self.busy.pop().unwrap_or(0);
            self.sent += 1;
            let source = patch.child("version").unwrap().child("source").unwrap();
            let (code, words) = self.answer(source);
            Ok(Output::recorded(code, "", words))
        }
    }

    fn version(epoch: u64, num_updates: u64) -> Version {
        Version {
            admin_epoch: 0,
            epoch,
            num_updates,
        }
    }

    /// As crm_diff writes it.
    fn patch() -> Patch {
        let text = r#"<diff format="2" digest="d">
            <version><source admin_epoch="0" epoch="7" num_updates="40"/><target admin_epoch="0" epoch="8" num_updates="0"/></version>
            <change operation="delete" path="/cib/configuration/resources/primitive[@id='a']"/></diff>"#;
        Patch::new(version(7, 40), Element::parse(text).unwrap())
    }

    fn loaded(cluster: &mut Cluster) -> io::Result<Loaded> {
        patch().load(cluster, Duration::from_secs(5))
    }

    #[test]
    fn where_a_patch_need_not_name_the_state_a_busy_cluster_is_no_obstacle() {
        let mut cluster = Cluster::new(Release::Lenient);
        cluster.busy = vec![3; 1000];
        assert_eq!(loaded(&mut cluster).unwrap(), Loaded::Done);
        assert_eq!(cluster.sent, 1);
    }

    #[test]
    fn where_it_must_it_is_tried_until_there_is_a_gap() {
        let mut cluster = Cluster::new(Release::Strict);
        cluster.busy = vec![0, 1, 3, 2, 9];
        assert_eq!(loaded(&mut cluster).unwrap(), Loaded::Done);
        assert_eq!(cluster.sent, 5);
        cluster = Cluster::new(Release::Strict);
        cluster.busy = vec![1; 1_000_000];
        let ended = patch().load(&mut cluster, Duration::from_millis(20));
        assert_eq!(ended.unwrap(), Loaded::Outdated);
        assert!(cluster.sent > 2);
    }

    #[test]
    fn another_configuration_is_never_overwritten() {
        for release in [Release::Lenient, Release::Strict] {
            let mut cluster = Cluster::new(release);
            cluster.edits = 1;
            cluster.now.num_updates = 0;
            assert_eq!(loaded(&mut cluster).unwrap(), Loaded::Outdated);
            assert!(cluster.sent <= 1);
        }
    }

    #[test]
    fn a_configuration_that_went_back_is_outdated_too() {
        let mut cluster = Cluster::new(Release::Lenient);
        cluster.now = version(6, 90);
        assert_eq!(loaded(&mut cluster).unwrap(), Loaded::Outdated);
    }

    #[test]
    fn what_is_refused_for_itself_is_an_error_at_once() {
        let words = "CIB API call failed: Update does not conform to the configured schema";
        for (release, code) in [
            (Release::Lenient, 78),
            (Release::Strict, 78),
            (Release::Strict, 70),
        ] {
            let mut cluster = Cluster::new(release);
            cluster.verdict = (code, words);
            let error = loaded(&mut cluster).unwrap_err().to_string();
            assert!(error.ends_with(words), "{error}");
            assert!(cluster.sent <= 2);
        }
    }

    #[test]
    fn what_nobody_has_answered_is_neither_done_nor_refused() {
        for release in [Release::Lenient, Release::Strict] {
            for (code, words) in [
                (124, "Error performing operation: Timeout occurred"),
                (102, "Could not send request: Not connected"),
            ] {
                let mut cluster = Cluster::new(release);
                cluster.verdict = (code, words);
                let Loaded::Unanswered(said) = loaded(&mut cluster).unwrap() else {
                    panic!("{words}");
                };
                assert!(said.ends_with(words), "{said}");
            }
        }
    }

    #[test]
    fn no_digest_is_sent_and_the_target_names_all_numbers() {
        let patch = patch();
        for sent in [patch.for_any_state(), patch.for_state_of(version(7, 41))] {
            assert_eq!(sent.get("digest"), None);
            let target = sent.child("version").unwrap().child("target").unwrap();
            assert_eq!(target.get(STATE), Some("0"));
        }
    }
}
