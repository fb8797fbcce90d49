//! The agent's environment, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::error::Error;
use crate::types::ResourceId;

/// The prefix of every parameter's variable.
const PARAMETER: &str = "OCF_RESKEY_";

/// The variable that names the resource.
const INSTANCE: &str = "OCF_RESOURCE_INSTANCE";

/// What an action without `CRM_meta_timeout` may take when its declaration says nothing either:
/// Pacemaker's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// A snapshot of the variables that OCF and Pacemaker define (`OCF_*`, `HA_*`).
#[derive(Debug, Clone)]
pub struct Env {
    variables: BTreeMap<String, OsString>,
    timeout: Duration,
    instance: ResourceId,
}

impl Env {
    /// The environment of this process.
    pub(crate) fn from_process() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    /// An environment of the given variables, by their full names (`OCF_RESKEY_ip`); others than
    /// `OCF_*` and `HA_*` are left out.
    pub fn from_variables<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables: BTreeMap<String, OsString> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into().into_string().ok()?, value.into())))
            .filter(|(name, _)| name.starts_with("OCF_") || name.starts_with("HA_"))
            .collect();
        let mut env = Self {
            variables,
            timeout: DEFAULT_TIMEOUT,
            instance: ResourceId::unnamed(),
        };
        if let Some(instance) = env.text(INSTANCE).and_then(|id| id.parse().ok()) {
            env.instance = instance;
        }
        if let Some(timeout) = env.given_timeout() {
            env.timeout = timeout;
        }
        env
    }

    /// The same environment, with `timeout` where the cluster gave none.
    #[must_use]
    pub(crate) fn with_default_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = self.given_timeout().unwrap_or(timeout);
        self
    }

    fn given_timeout(&self) -> Option<Duration> {
        self.milliseconds("OCF_RESKEY_CRM_meta_timeout")
            .filter(|t| !t.is_zero())
    }

    /// The resource's name, as in the cluster's configuration; of a clone, with its instance number.
    pub(crate) fn instance(&self) -> &ResourceId {
        &self.instance
    }

    /// Whether the resource's name is one that a resource can have, if there is one.
    ///
    /// # Errors
    /// `OCF_RESOURCE_INSTANCE` is something else.
    pub(crate) fn check_instance(&self) -> Result<(), Error> {
        let Some(id) = self.text(INSTANCE) else {
            return Ok(());
        };
        id.parse::<ResourceId>().map(drop).map_err(|why| {
            Error::failed(format!("{INSTANCE}: the name of the resource {id:?} {why}"))
        })
    }

    /// How long the action may take before Pacemaker kills it.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The interval of a recurring action; zero for one that runs once.
    pub(crate) fn interval(&self) -> Duration {
        self.milliseconds("OCF_RESKEY_CRM_meta_interval")
            .unwrap_or_default()
    }

    /// `OCF_CHECK_LEVEL`: 0, 10 or 20; how deep a monitor or validation goes.
    pub(crate) fn check_level(&self) -> u32 {
        self.text("OCF_CHECK_LEVEL")
            .and_then(|level| level.trim().parse().ok())
            .unwrap_or(0)
    }

    /// The name of the node that the action runs on, if the cluster told it.
    pub(crate) fn on_node(&self) -> Option<&str> {
        self.text("OCF_RESKEY_CRM_meta_on_node")
    }

    /// Whether the caller speaks a version of the API that berth does.
    ///
    /// # Errors
    /// `OCF_RA_VERSION_MAJOR` is something else than 1.
    pub(crate) fn check_version(&self) -> Result<(), Error> {
        match self.text("OCF_RA_VERSION_MAJOR") {
            None | Some("1") => Ok(()),
            Some(other) => Err(Error::failed(format!(
                "OCF_RA_VERSION_MAJOR={other}: this agent speaks OCF 1.1 only"
            ))),
        }
    }

    /// What stands in front of an exit reason, so that Pacemaker finds it in standard error.
    pub(crate) fn reason_prefix(&self) -> String {
        self.text("OCF_EXIT_REASON_PREFIX")
            .unwrap_or("ocf-exit-reason:")
            .to_owned()
    }

    /// A variable that is set and not empty, by its full name.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// The same, without a copy.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .and_then(|value| value.to_str())
            .filter(|value| !value.is_empty())
    }

    /// The raw value of a parameter; an empty one counts as not set.
    pub(crate) fn parameter(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(&format!("{PARAMETER}{name}"))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    fn milliseconds(&self, name: &str) -> Option<Duration> {
        let count = self.text(name)?.trim().parse().ok()?;
        Some(Duration::from_millis(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_has_defaults() {
        let env = Env::from_variables::<&str, &str>([]);
        assert_eq!(env.instance(), "unnamed");
        assert_eq!(env.timeout(), DEFAULT_TIMEOUT);
        assert_eq!((env.interval(), env.check_level()), (Duration::ZERO, 0));
        assert!(env.on_node().is_none() && env.check_version().is_ok());
    }

    #[test]
    fn pacemakers_variables_are_read_in_milliseconds() {
        let env = Env::from_variables([
            ("OCF_RESKEY_CRM_meta_timeout", "30000"),
            ("OCF_RESKEY_CRM_meta_interval", "10000"),
            ("OCF_CHECK_LEVEL", "10"),
            ("OCF_RESOURCE_INSTANCE", "alpha-ip1"),
        ])
        .with_default_timeout(Duration::from_secs(5));
        assert_eq!(env.timeout(), Duration::from_secs(30));
        assert_eq!(env.interval(), Duration::from_secs(10));
        assert_eq!(
            (env.check_level(), env.instance().as_str()),
            (10, "alpha-ip1")
        );
    }

    #[test]
    fn a_timeout_that_is_no_number_gives_way_to_the_declared_one() {
        for value in ["", "0", "soon", "20s", "99999999999999999999999"] {
            let env = Env::from_variables([("OCF_RESKEY_CRM_meta_timeout", value)])
                .with_default_timeout(Duration::from_secs(5));
            assert_eq!(env.timeout(), Duration::from_secs(5), "{value}");
        }
    }

    #[test]
    fn another_major_version_is_refused() {
        let env = Env::from_variables([("OCF_RA_VERSION_MAJOR", "2")]);
        assert!(env.check_version().is_err());
    }

    #[test]
    fn a_name_that_no_resource_can_have_is_refused() {
        let named = |id| Env::from_variables([("OCF_RESOURCE_INSTANCE", id)]);
        for good in ["", "alpha-ip1", "portwatch:0", "büro"] {
            assert!(named(good).check_instance().is_ok(), "{good}");
        }
        let error = named("a b").check_instance().unwrap_err();
        let why =
            "OCF_RESOURCE_INSTANCE: the name of the resource \"a b\" has ' ' in it; allowed are ";
        assert!(error.to_string().starts_with(why), "{error}");
        assert_eq!(named("../x").instance(), "unnamed");
    }

    #[test]
    fn foreign_variables_are_left_out() {
        let env = Env::from_variables([("LD_PRELOAD", "x"), ("HA_debug", "1")]);
        assert_eq!(env.text("LD_PRELOAD"), None);
        assert_eq!(env.text("HA_debug"), Some("1"));
    }
}
