//! The rules for connections to the cell: which are in force, and which are being put in force, one change at a time.

use std::time::{Duration, Instant};

use super::effect::{Effect, Effects};
use super::terms::Admission;
use crate::cell::keeper::rules::Rules;
use crate::cell::protocol::Cause;
use crate::cell::service::{Own, ServerSpec};

/// After how long rules that could not be put in force are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The rules for connections to the cell, and how far their changes have come.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The rules in force.
    rules: Option<Rules>,
    /// Whether these are in force without limits of connections.
    unlimited: bool,
    /// What the admin's own configuration exports.
    own: Own,
    /// Why the last attempt to put rules in force was not in time.
    late: Option<String>,
    /// The rules that are being put in force.
    coming: Option<Rules>,
    /// The rules that could not be put in force, when, and why not.
    failed: Option<(Rules, Instant, (Cause, String))>,
    /// Whether the failed rules are to be tried again.
    again: bool,
}

/// Whether the wanted rules are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They are in force.
    Open,
    /// They are going to be.
    Pending,
    /// They can't be put in force.
    Broken(Cause, String),
}

impl Gate {
    /// Begins to put these rules in force, unless a change is going on already.
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

    /// Notes the result of a change.
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
            // Tried again at once: the start of the servers waits for it until its own deadline.
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

    /// Has rules that could not be put in force tried again after [`RETRY`]: what was in the way may be gone.
    pub(crate) fn retry(&mut self, now: Instant) {
        let failed = self.failed.as_ref();
        self.again |= failed.is_some_and(|(_, since, _)| now.duration_since(*since) >= RETRY);
    }

    /// Prepares for servers that are yet to be started: failed rules are tried again at once, and so are limits of
    /// connections.
    pub(crate) fn begin(&mut self, spec: &ServerSpec, out: &mut Effects) {
        self.failed = None;
        if std::mem::take(&mut self.unlimited) {
            self.rules = None;
        }
        out.push(Effect::Look(Box::new(spec.clone())));
    }

    /// Notes what the admin's own configuration exports now.
    pub(crate) fn see(&mut self, own: Own) {
        self.own = own;
    }

    /// What the admin's own configuration exported when it was last looked at.
    pub(crate) fn own(&self) -> Own {
        self.own
    }

    /// Whether a change is going on.
    pub(crate) fn is_busy(&self) -> bool {
        self.coming.is_some()
    }

    /// Whether these rules are in force.
    pub(crate) fn standing(&self, wanted: &Rules) -> Standing {
        match &self.failed {
            _ if self.rules.as_ref() == Some(wanted) => Standing::Open,
            Some((rules, _, (cause, why))) if rules == wanted => {
                Standing::Broken(*cause, why.clone())
            }
            _ => Standing::Pending,
        }
    }

    /// Why the rules in force are not the wanted ones.
    pub(crate) fn fault(&self) -> Option<&str> {
        let failed = self.failed.as_ref().map(|(_, _, (_, why))| why);
        failed.or(self.late.as_ref()).map(String::as_str)
    }

    /// Notes that the cell is gone, and with it the rules and any change that was going on.
    pub(crate) fn lose(&mut self) {
        *self = Self {
            own: self.own,
            ..Self::default()
        };
    }
}
