//! Parameters as an agent takes them: the declaration that [`spec`] has, and the parser of its values.

use std::fmt;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::env::Env;
use super::error::{Error, Fault};
use crate::spec::{self, Integer, Parameter, Time, Words};
use crate::text::{LOST_IN_XML, is_plain, survives_xml};

/// Turns a value into a `T`; the error says what would be right: `is not an IP address`. One that begins
/// with a quote names by itself which part of the value is meant: `"10.1.0.300" is no NFS client`.
pub(crate) type Parser<T> = fn(&str) -> Result<T, String>;

/// A parameter that always has a value: it is required, or has a default.
pub(crate) struct Param<T> {
    spec: Parameter,
    parse: Parser<T>,
}

/// A parameter that may be left out, and then means nothing.
pub(crate) struct Optional<T> {
    spec: Parameter,
    parse: Parser<T>,
}

/// A declared parameter, whatever its Rust type.
pub trait Declared: Sync {
    /// What the meta-data say of it.
    fn spec(&self) -> &Parameter;

    /// Whether the value in `env` (or the default) is acceptable.
    ///
    /// # Errors
    /// [`Fault::Config`], or [`Fault::Host`] of one that may differ from node to node, with the
    /// parameter's name, its value and what would be right.
    fn check(&self, env: &Env) -> Result<(), Error>;
}

impl<T> Param<T> {
    /// A parameter that is required, or has a default, which the parser must accept.
    ///
    /// # Panics
    /// If it is neither or both: the build fails where it makes a constant.
    pub(crate) const fn new(spec: Parameter, parse: Parser<T>) -> Self {
        assert!(
            spec.required != spec.default.is_some(),
            "without either it is an Optional, and what is required has no use for a default"
        );
        Self { spec, parse }
    }

    /// One of a few words, which the parser must know.
    ///
    /// # Panics
    /// As [`Param::new`].
    pub(crate) const fn select(spec: Parameter<Words>, parse: Parser<T>) -> Self {
        Self::new(spec.any(), parse)
    }

    /// Its value.
    ///
    /// # Errors
    /// [`Fault::Config`]: not set although required, or not acceptable.
    pub(crate) fn get(&self, env: &Env) -> Result<T, Error> {
        read(&self.spec, self.parse, env)?.ok_or_else(|| {
            Error::config(format!(
                "required parameter {} is not set ({})",
                self.spec.name, self.spec.shortdesc
            ))
        })
    }

    /// Its value if it has an acceptable one: for `stop`, which may not fail for a parameter that
    /// became invalid.
    pub(crate) fn try_get(&self, env: &Env) -> Option<T> {
        self.get(env).ok()
    }
}

impl Param<u32> {
    /// A whole number.
    pub(crate) const fn integer(spec: Parameter<Integer>) -> Self {
        Self::new(spec.any(), integer)
    }
}

impl Param<Duration> {
    /// A time.
    pub(crate) const fn time(spec: Parameter<Time>) -> Self {
        Self::new(spec.any(), time)
    }
}

impl<T> Optional<T> {
    /// A parameter that may be left out.
    ///
    /// # Panics
    /// If it is required or has a default: the build fails where it makes a constant.
    pub(crate) const fn new(spec: Parameter, parse: Parser<T>) -> Self {
        assert!(
            !spec.required && spec.default.is_none(),
            "it always has a value: that is a Param"
        );
        Self { spec, parse }
    }

    /// One of a few words, which the parser must know.
    ///
    /// # Panics
    /// As [`Optional::new`].
    pub(crate) const fn select(spec: Parameter<Words>, parse: Parser<T>) -> Self {
        Self::new(spec.any(), parse)
    }

    /// Its value, if it is set.
    ///
    /// # Errors
    /// [`Fault::Config`]: set, but not acceptable.
    pub(crate) fn get(&self, env: &Env) -> Result<Option<T>, Error> {
        read(&self.spec, self.parse, env)
    }
}

/// The declarations that [`Param`] and [`Optional`] share.
macro_rules! declaration {
    ($kind:ident) => {
        impl<T> Declared for $kind<T> {
            fn spec(&self) -> &Parameter {
                &self.spec
            }

            fn check(&self, env: &Env) -> Result<(), Error> {
                self.get(env).map(drop)
            }
        }

        impl<T> fmt::Debug for $kind<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.spec.fmt(f)
            }
        }
    };
}

declaration!(Param);
declaration!(Optional);

fn read<T>(spec: &Parameter, parse: Parser<T>, env: &Env) -> Result<Option<T>, Error> {
    let value = match env.parameter(spec.name) {
        Some(value) => value
            .to_str()
            .ok_or_else(|| wrong(spec, &value.to_string_lossy(), "is not UTF-8"))?,
        None => match spec.default {
            Some(default) => default,
            None => return Ok(None),
        },
    };
    // None has a meaning in any parameter, a line break could smuggle a line into a server's configuration, and
    // what is not seen could have people read something else than what is done.
    if !value.chars().all(is_plain) {
        return Err(wrong(spec, value, "contains a control character"));
    }
    if !survives_xml(value) {
        return Err(wrong(spec, value, LOST_IN_XML));
    }
    spec.content
        .check(value)
        .and_then(|()| parse(value))
        .map(Some)
        .map_err(|why| wrong(spec, value, &why))
}

fn wrong(spec: &Parameter, value: &str, why: &str) -> Error {
    let fault = match spec.node_bound {
        true => Fault::Host,
        false => Fault::Config,
    };
    if why.starts_with('"') {
        return Error::new(fault, format!("parameter {}: {why}", spec.name));
    }
    // The reason has 128 bytes in all: an endless value may not push out what is wrong with it.
    let shown: String = value.chars().take(48).collect();
    let dots = if shown.len() < value.len() { "..." } else { "" };
    let text = format!("parameter {}: \"{shown}{dots}\" {why}", spec.name);
    Error::new(fault, text)
}

/// Parser of any text.
///
/// # Errors
/// None.
pub(crate) fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

/// A network such as `10.1.0.0/24`; `None` for what has not the form of one.
///
/// # Errors
/// Why it can't be a subnet.
pub(crate) fn network(cidr: &str) -> Result<Option<IpNetwork>, String> {
    let (Some((_, length)), Ok(network)) = (cidr.split_once('/'), cidr.parse::<IpNetwork>()) else {
        return Ok(None);
    };
    if network.network() != network.ip() {
        return Err(format!(
            "has host bits set; its network is {}/{length}",
            network.network()
        ));
    }
    match network.prefix() {
        0 => Err("is no subnet but everything".into()),
        _ => Ok(Some(network)),
    }
}

/// Parser of words separated by white space.
///
/// # Errors
/// None.
pub(crate) fn words(value: &str) -> Result<Vec<String>, String> {
    Ok(value.split_whitespace().map(str::to_owned).collect())
}

/// Parser of a whole number; its range is the declaration's.
fn integer(value: &str) -> Result<u32, String> {
    value
        .parse()
        .map_err(|_| "is not a whole number".to_owned())
}

/// Parser of a time; its range is the declaration's.
fn time(value: &str) -> Result<Duration, String> {
    spec::duration(value).ok_or_else(|| "is not a time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::error::Fault;
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    static PORT: Param<u32> = Param::new(
        Parameter {
            default: None,
            required: true,
            ..Parameter::integer("port", (1..=65535, "1"), "Port", "Where.").any()
        },
        integer,
    );
    static REPAIR: Param<String> = Param::select(
        Parameter::select("repair", &["never", "preen"], "R", "R.").with_default("preen"),
        text,
    );
    static SHARE: Optional<Vec<String>> = Optional::new(Parameter::text("share", "S", "S."), words);

    fn env(variables: &[(&str, &str)]) -> Env {
        Env::from_variables(variables.iter().copied())
    }

    #[test]
    fn values_are_parsed() {
        let env = env(&[("OCF_RESKEY_port", "2049"), ("OCF_RESKEY_share", "a  b")]);
        assert_eq!(PORT.get(&env).unwrap(), 2049);
        assert_eq!(SHARE.get(&env).unwrap().unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_not_set_or_empty_has_its_default_or_none() {
        let env = env(&[("OCF_RESKEY_repair", ""), ("OCF_RESKEY_share", "")]);
        assert_eq!(REPAIR.get(&env).unwrap(), "preen");
        assert_eq!(SHARE.get(&env).unwrap(), None);
    }

    #[test]
    fn a_wrong_value_is_named_with_what_would_be_right() {
        let env = env(&[("OCF_RESKEY_port", "70000"), ("OCF_RESKEY_repair", "maybe")]);
        let e = PORT.get(&env).unwrap_err();
        assert_eq!(e.fault(), Fault::Config);
        assert_eq!(
            e.to_string(),
            "parameter port: \"70000\" is not a whole number from 1 to 65535"
        );
        assert_eq!(
            REPAIR.get(&env).unwrap_err().to_string(),
            "parameter repair: \"maybe\" is not one of never, preen"
        );
        assert_eq!(PORT.try_get(&env), None);
    }

    #[test]
    fn of_several_words_the_wrong_one_is_named() {
        const WORDS: Param<()> =
            Param::new(
                Parameter::text("words", "", "").required(),
                |value| match value {
                    "a b" => Err("\"b\" is none of them".to_owned()),
                    _ => Ok(()),
                },
            );
        let e = WORDS.get(&env(&[("OCF_RESKEY_words", "a b")])).unwrap_err();
        assert_eq!(e.to_string(), "parameter words: \"b\" is none of them");
    }

    #[test]
    fn a_missing_required_parameter_is_named() {
        let e = PORT.check(&env(&[])).unwrap_err();
        assert_eq!(e.to_string(), "required parameter port is not set (Port)");
    }

    #[test]
    fn a_value_that_is_not_utf8_is_refused_not_guessed() {
        let value = OsString::from_vec(vec![b'x', 0xff]);
        let env = Env::from_variables([("OCF_RESKEY_share", value)]);
        assert!(
            SHARE
                .get(&env)
                .unwrap_err()
                .to_string()
                .contains("is not UTF-8")
        );
    }

    #[test]
    fn what_not_every_pacemaker_can_keep_is_refused() {
        let e = SHARE
            .get(&env(&[("OCF_RESKEY_share", "\u{e9}<b")]))
            .unwrap_err();
        assert!(e.to_string().ends_with(LOST_IN_XML), "{e}");
    }

    #[test]
    fn control_characters_are_refused_whatever_the_type() {
        for value in ["a\nb", "a\u{1}", "\u{7f}", "a\u{2028}b", "a\u{202e}b"] {
            let e = SHARE.get(&env(&[("OCF_RESKEY_share", value)])).unwrap_err();
            assert!(
                e.to_string().ends_with("contains a control character"),
                "{e}"
            );
        }
    }

    #[test]
    fn a_long_value_leaves_room_for_the_reason() {
        let long = "9".repeat(4000);
        let e = PORT.get(&env(&[("OCF_RESKEY_port", &long)])).unwrap_err();
        assert!(e.to_string().len() < 128, "{e}");
    }
}
