//! Every agent against the rules of the OCF API, as `ocf-tester` and Pacemaker apply them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::AgentCall;
use crate::installed::{AGENTS, Installed, copy_program};
use berth::ocf::{Agent, meta, usage};
use berth::spec::Content;

/// Parameters of an agent that are right in form but name nothing that exists.
fn parameters(agent: &Agent) -> &'static [(&'static str, &'static str)] {
    match agent.name {
        "fscheck" => &[
            ("vserver", "contract"),
            ("device", "/dev/berth-contract-test"),
            ("directory", "/data"),
        ],
        "vserver" => &[("name", "contract")],
        "vip" => &[("vserver", "contract"), ("ip", "192.0.2.50")],
        "portwatch" => &[
            ("subnets", "contract=192.0.2.0/24,192.0.2.254"),
            ("ports", "contract0=contract"),
        ],
        other => panic!("{other} is installed, but these tests know no parameters for it"),
    }
}

/// A call with all its parameters.
fn complete(subject: Installed) -> AgentCall {
    let bare = AgentCall::new(subject.executable);
    let parameters = parameters(subject.agent).iter();
    parameters.fold(bare, |call, (name, value)| call.parameter(name, value))
}

/// A value that no parameter with a form can have.
const GARBAGE: &str = "\u{1}no such thing/..";

#[test]
fn the_parameters_of_these_tests_are_all_the_required_ones() {
    for subject in AGENTS {
        for spec in subject.agent.params.iter().map(|p| p.spec()) {
            let given = parameters(subject.agent)
                .iter()
                .any(|(name, _)| *name == spec.name);
            assert!(
                given || !spec.required,
                "{} {}",
                subject.agent.name,
                spec.name
            );
        }
    }
}

#[test]
fn meta_data_and_usage_need_no_environment() {
    for subject in AGENTS {
        let call = AgentCall::new(subject.executable).empty_environment();
        let outcome = call.run("meta-data").expect(0);
        assert_eq!(outcome.stdout, meta::xml(subject.agent));
        assert_eq!(outcome.stderr, "");
        for word in ["usage", "help", "--help"] {
            let outcome = call.run(word).expect(0);
            assert_eq!(outcome.stdout, usage::text(subject.agent));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn meta_data_and_usage_need_no_privilege() {
    // Where the tests are built, nobody may not be allowed to go.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for subject in AGENTS {
        let copy = dir.path().join(subject.agent.name);
        copy_program(subject.executable, &copy);
        let call = AgentCall::new(copy).empty_environment().unprivileged();
        let outcome = call.run("meta-data").expect(0);
        assert_eq!(outcome.stdout, meta::xml(subject.agent));
        call.run("usage").expect(0);
    }
}

#[test]
fn an_unknown_action_is_unimplemented_whatever_the_parameters() {
    for subject in AGENTS {
        for action in [
            "promote",
            "demote",
            "notify",
            "migrate_to",
            "migrate_from",
            "reload",
            "",
        ] {
            let reason = ["is none of start, stop, monitor"];
            complete(subject)
                .run(action)
                .expect(3)
                .expect_reason(&reason);
            AgentCall::new(subject.executable)
                .run(action)
                .expect(3)
                .expect_reason(&reason);
        }
    }
}

#[test]
fn right_parameters_are_valid_where_nothing_of_them_exists() {
    for subject in AGENTS {
        complete(subject).run("validate-all").expect(0);
    }
}

#[test]
fn a_link_local_address_may_be_the_gateway_of_an_ipv6_address() {
    let vip = AGENTS.iter().find(|subject| subject.agent.name == "vip");
    let call = complete(*vip.expect("it is installed"))
        .parameter("ip", "2001:db8::50")
        .parameter("subnet", "2001:db8::/64");
    let at = |gateway| call.clone().parameter("gateway", gateway);
    at("fe80::1").run("validate-all").expect(0);
    let outcome = at("192.0.2.254").run("validate-all").expect(6);
    outcome.expect_reason(&["gateway", "192.0.2.254"]);
}

#[test]
fn further_arguments_are_ignored() {
    for subject in AGENTS {
        let call = complete(subject).argument("start").argument("--force");
        call.run("validate-all").expect(0);
    }
}

#[test]
fn a_missing_required_parameter_is_named() {
    for subject in AGENTS {
        for spec in subject.agent.params.iter().map(|p| p.spec()) {
            if spec.required {
                for action in ["validate-all", "start"] {
                    let outcome = complete(subject).without(spec.name).run(action).expect(6);
                    outcome.expect_reason(&["required parameter", spec.name]);
                }
            }
        }
    }
}

#[test]
fn a_malformed_parameter_is_named_with_its_value() {
    for subject in AGENTS {
        for spec in subject.agent.params.iter().map(|p| p.spec()) {
            let call = complete(subject).parameter(spec.name, GARBAGE);
            for action in ["validate-all", "start"] {
                // One that is wrong on this node only must not stop the resource everywhere.
                let code = if spec.node_bound { 2 } else { 6 };
                let outcome = call.run(action).expect(code);
                let outcome = outcome.expect_reason(&["parameter", spec.name, "no such thing"]);
                assert_eq!(outcome.stdout, "", "{outcome}");
            }
        }
    }
}

#[test]
fn nothing_that_an_agent_says_to_pacemaker_can_be_taken_for_xml() {
    // Pacemaker 2.1.3 to 2.1.7 escape nothing behind the first letter beyond ASCII, and send on all that an agent writes.
    for subject in AGENTS {
        for spec in subject.agent.params.iter().map(|p| p.spec()) {
            let call = complete(subject).parameter(spec.name, "caf\u{e9}\" rc=\"0\" <&");
            for action in ["validate-all", "start"] {
                let outcome = call.run(action);
                assert_ne!(outcome.code, Some(0), "{outcome}");
                let reason = outcome.expect_reason(&["caf\u{e9}' rc='0' (+"]);
                assert!(!reason.stderr.contains(['"', '<', '&']), "{reason}");
            }
        }
    }
}

#[test]
fn a_word_outside_the_choice_is_answered_with_the_choice() {
    for subject in AGENTS {
        for spec in subject.agent.params.iter().map(|p| p.spec()) {
            if let Content::Select(options) = spec.content {
                let call = complete(subject).parameter(spec.name, "nonsense");
                call.run("validate-all").expect(6).expect_reason(options);
            }
        }
    }
}

#[test]
fn the_prefix_of_the_reason_is_the_callers() {
    for subject in AGENTS {
        let call = AgentCall::new(subject.executable).variable("OCF_EXIT_REASON_PREFIX", "reason=");
        let outcome = call.run("start").expect(6);
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("reason="), "{outcome}");
    }
}

#[test]
fn another_version_of_the_api_is_refused() {
    for subject in AGENTS {
        let call = complete(subject).variable("OCF_RA_VERSION_MAJOR", "2");
        call.run("start")
            .expect(1)
            .expect_reason(&["OCF_RA_VERSION_MAJOR=2"]);
        call.run("meta-data").expect(0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_probe_finds_what_never_was_here_stopped() {
    for subject in AGENTS {
        let call = complete(subject).apart();
        call.run("monitor").expect(7);
        call.variable("OCF_RESKEY_CRM_meta_interval", "0")
            .run("monitor")
            .expect(7);
        let recurring = complete(subject).apart();
        let recurring = recurring.variable("OCF_RESKEY_CRM_meta_interval", "10000");
        recurring.run("monitor").expect(7);
        recurring
            .variable("OCF_CHECK_LEVEL", "10")
            .run("monitor")
            .expect(7);
    }
}

#[test]
#[ignore = "needs root"]
fn stop_of_what_never_was_here_succeeds() {
    for subject in AGENTS {
        complete(subject).apart().run("stop").expect(0);
    }
}

#[test]
#[ignore = "needs root"]
fn stop_succeeds_whatever_became_of_the_parameters() {
    for subject in AGENTS {
        AgentCall::new(subject.executable)
            .apart()
            .run("stop")
            .expect(0);
        let mut all = complete(subject).apart();
        for spec in subject.agent.params.iter().map(|p| p.spec()) {
            let garbage = complete(subject).apart().parameter(spec.name, GARBAGE);
            garbage.run("stop").expect(0);
            complete(subject)
                .apart()
                .without(spec.name)
                .run("stop")
                .expect(0);
            all = all.parameter(spec.name, GARBAGE);
        }
        all.run("stop").expect(0);
    }
}
