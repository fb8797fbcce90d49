//! What the cell's network lets in, as far as it is known: one change at a time.

use std::time::{Duration, Instant};

use super::effect::{Effect, Effects};
use super::terms::Admission;
use crate::cell::keeper::rules::Rules;
use crate::cell::protocol::Cause;
use crate::cell::service::{Own, ServerSpec};

/// After this long, what did not work is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What the cell lets in, and is going to.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// What is in force.
    rules: Option<Rules>,
    /// It is without limits.
    unlimited: bool,
    /// What the admin's own configuration serves.
    own: Own,
    /// Why what is being put in force was not in time.
    late: Option<String>,
    /// What is being put in force.
    coming: Option<Rules>,
    /// What could not be, since when, and why not: until it is.
    failed: Option<(Rules, Instant, (Cause, String))>,
    /// It is to be tried again.
    again: bool,
}

/// Whether it lets in what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does.
    Open,
    /// It is going to.
    Pending,
    /// It can't.
    Broken(Cause, String),
}

impl Gate {
    /// Begins what leads to these rules, unless something is going on already.
    pub(crate) fn advance(&mut self, wanted: &Rules, out: &mut Effects) {
        let known = self.failed.as_ref().is_some_and(|(of, ..)| of == wanted);
        if self.is_busy() || (known && !self.again) || self.rules.as_ref() == Some(wanted) {
            return;
        }
        self.again = false;
        self.coming = Some(wanted.clone());
        out.push(Effect::Admit {
            rules: Box::new(wanted.clone()),
            before: self.rules.clone().map(Box::new),
        });
    }

    /// Takes note of what has ended.
    pub(crate) fn finish(&mut self, admission: Admission, now: Instant, out: &mut Effects) {
        let Some(rules) = self.coming.take() else {
            return;
        };
        match admission {
            Admission::Done => self.succeed(rules),
            Admission::Unlimited(why) => {
                out.warn(format_args!("connections are not limited: {why}"));
                self.succeed(rules);
                self.unlimited = true;
            }
            // Tried again at once: a start waits for it as long as it may.
            Admission::Late(why) => {
                out.warn(format_args!("{why}; trying again"));
                self.failed = None;
                self.late = Some(why);
            }
            Admission::Failed(cause, why) => {
                out.error(&why);
                self.failed = Some((rules, now, (cause, why)));
                self.late = None;
            }
        }
    }

    fn succeed(&mut self, rules: Rules) {
        self.rules = Some(rules);
        self.failed = None;
        self.late = None;
    }

    /// Has what did not work tried again if that was a while ago: what was in the way may be gone.
    pub(crate) fn retry(&mut self, now: Instant) {
        let failed = self.failed.as_ref();
        self.again |= failed.is_some_and(|(_, since, _)| now.duration_since(*since) >= RETRY);
    }

    /// Has it tried again at once, for these servers, which are yet to be started. So are limits that could not be.
    pub(crate) fn begin(&mut self, spec: &ServerSpec, out: &mut Effects) {
        self.failed = None;
        if std::mem::take(&mut self.unlimited) {
            self.rules = None;
        }
        out.push(Effect::Look(Box::new(spec.clone())));
    }

    /// Takes note of what the admin's own configuration serves now.
    pub(crate) fn see(&mut self, own: Own) {
        self.own = own;
    }

    /// What it served when that was looked at last.
    pub(crate) fn own(&self) -> Own {
        self.own
    }

    /// Whether something is going on.
    pub(crate) fn is_busy(&self) -> bool {
        self.coming.is_some()
    }

    /// How it stands to these rules.
    pub(crate) fn standing(&self, wanted: &Rules) -> Standing {
        match &self.failed {
            _ if self.rules.as_ref() == Some(wanted) => Standing::Open,
            Some((rules, _, (cause, why))) if rules == wanted => {
                Standing::Broken(*cause, why.clone())
            }
            _ => Standing::Pending,
        }
    }

    /// Why what is let in is not what should be.
    pub(crate) fn fault(&self) -> Option<&str> {
        let failed = self.failed.as_ref().map(|(_, _, (_, why))| why);
        failed.or(self.late.as_ref()).map(String::as_str)
    }

    /// The cell has gone, and with it what it let in and whatever was going on.
    pub(crate) fn lose(&mut self) {
        *self = Self {
            own: self.own,
            ..Self::default()
        };
    }
}
