//! Tests of what is made of answers, as recorded from Pacemaker 2.1.5 and 3.0.0 and shortened.

use super::progress::Until;
use super::*;

const ANSWER: &str = r#"<pacemaker-result api-version="2.25" request="crm_mon">
  <resources>
    <resource id="alpha" role="Started" active="true" failed="false"><node name="n1" id="1" cached="true"/></resource>
    <resource id="alpha-ip1" role="Starting" failed="false" pending="Starting"/>
    <resource id="beta" role="Stopped" target_role="Stopped" failed="false"/>
    <resource id="beta-ip1" role="Stopped" failed="false"/>
    <clone id="portwatch-clone"><resource id="portwatch:0" role="Started" failed="true"><node name="n2"/></resource></clone>
    <clone id="other-clone"><resource id="other" role="Started"><node name="n2"/></resource><resource id="other" role="Stopped"/><resource id="other" role="Stopped"/><resource id="other" role="Stopped"/></clone>
  </resources></pacemaker-result>"#;

fn status(answer: &str) -> Status {
    Status::from_answer(&Element::parse(answer).unwrap())
}

fn progress(ids: &[&str], status: &Status) -> Progress {
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    Progress::of(&ids, status, |id, on| id == format!("{on}-ip1"))
}

#[test]
fn instances_of_a_clone_that_have_no_node_are_not_waited_for() {
    let waiting = |answer: &str| progress(&["other"], &status(answer)).waiting.len();
    let nodes = r#"<nodes><node online="true" standby="false"/><node online="false"/><node online="true" standby="true"/></nodes><resources>"#;
    assert_eq!(waiting(ANSWER), 3);
    assert_eq!(waiting(&ANSWER.replacen("<resources>", nodes, 1)), 1);
    // A resource that is there once is waited for, even if all nodes are down.
    let alone = ANSWER
        .replacen("<resources>", nodes, 1)
        .replace("target_role=\"Stopped\"", "");
    let progress = progress(&["beta"], &status(&alone));
    assert_eq!(progress.texts(), ["beta (stopped)"]);
}

#[test]
fn only_what_is_neither_started_nor_kept_stopped_is_waited_for() {
    let ids = [
        "alpha",
        "alpha-ip1",
        "beta",
        "beta-ip1",
        "portwatch",
        "gamma",
    ];
    let progress = progress(&ids, &status(ANSWER));
    assert_eq!(
        progress.texts(),
        [
            "alpha-ip1 (starting)",
            "portwatch (started on n2, failed)",
            "gamma (unknown to the cluster yet)"
        ]
    );
    // And what can't run without it.
    assert_eq!(progress.kept_stopped, ["beta", "beta-ip1"]);
}

/// A start that was refused and a first monitor that found a service degraded: of either release.
fn with_failures(degraded: &str, ended: &str) -> String {
    format!(
        r#"<pacemaker-result><summary><current_dc present="true" name="n1" with_quorum="true"/><cluster_options maintenance-mode="false" no-quorum-policy="stop"/></summary>
        <nodes><node name="n1" id="1" online="true" standby="false" maintenance="false"/><node name="n2" id="2" online="true" standby="false" maintenance="false"/></nodes>
        <resources>
        <resource id="alpha-ip1" role="Started" active="true" blocked="false" managed="true" failed="false" nodes_running_on="1" pending="Monitoring"><node name="n1" id="1" cached="true"/></resource>
        <resource id="beta-data" role="Stopped" active="false" blocked="false" managed="true" failed="false" nodes_running_on="0"/>
        </resources><failures>
        <failure op_key="beta-data_start_0" node="n2" exitstatus="not configured" exitreason="options: bogus is not known" exitcode="6" call="66" status="{ended}" interval="0" task="start"/>
        <failure op_key="alpha-ip1_monitor_10000" node="n1" exitstatus="{degraded}" exitreason="no path to the subnet" exitcode="190" call="66" status="{ended}" interval="10000" task="monitor"/>
        </failures></pacemaker-result>"#
    )
}

#[test]
fn a_degraded_service_is_started_and_a_refused_start_says_why() {
    for (degraded, ended) in [
        ("OCF_DEGRADED", "complete"),
        ("Service is active but might fail soon", "Done"),
    ] {
        let status = status(&with_failures(degraded, ended));
        let both = progress(&["alpha-ip1", "beta-data"], &status);
        let text = "beta-data (stopped; start failed on n2: options: bogus is not known)";
        assert_eq!(both.texts(), [text]);
        assert_eq!(
            both.notes,
            ["alpha-ip1 on n1 is degraded: no path to the subnet"]
        );
        // The cluster will try it again by itself.
        assert!(!both.is_stuck());
        assert_eq!(both.given_up().collect::<Vec<_>>(), ["beta-data"]);
        assert_eq!(progress(&["alpha-ip1"], &status).waiting, []);
    }
}

#[test]
fn what_the_cluster_leaves_alone_is_told_where_it_runs_and_is_stuck_where_not() {
    let managed = with_failures("", "").replace(" pending=\"Monitoring\"", "");
    let answer = managed.replace("managed=\"true\"", "managed=\"false\"");
    let both = progress(&["alpha-ip1", "beta-data"], &status(&answer));
    assert_eq!(both.unmanaged, [("alpha-ip1".to_owned(), "n1".to_owned())]);
    assert!(both.is_stuck() && both.given_up().next().is_none());
    assert_eq!(progress(&["alpha-ip1"], &status(&managed)).unmanaged, []);
}

#[test]
fn before_its_first_monitor_has_a_result_a_service_is_not_yet_good() {
    let answer = with_failures("", "").replace("exitcode=\"190\"", "exitcode=\"1\"");
    let progress = progress(&["alpha-ip1"], &status(&answer));
    assert_eq!(progress.waiting[0].until, Until::Monitored);
    assert!(progress.is_only_monitored() && !progress.is_stuck());
}

#[test]
fn a_failure_without_a_reason_is_told_as_it_ended() {
    let answer = r#"<r><failures>
        <failure op_key="a_b_start_0" node="n1" exitstatus="error" exitreason="none" exitcode="1" status="Timed Out" task="start"/>
        <failure op_key="portwatch:1_monitor_10000" node="n2" exitstatus="error" exitreason="" exitcode="1" status="complete" task="monitor"/>
        <failure node="n2"/></failures></r>"#;
    let said: Vec<(String, String)> = status(answer)
        .failures
        .into_iter()
        .map(|f| (f.id, f.reason))
        .collect();
    let expected = [
        ("a_b", "error (Timed Out)"),
        ("portwatch", "error (complete)"),
    ];
    assert_eq!(
        said,
        expected.map(|(id, reason)| (id.to_owned(), reason.to_owned()))
    );
}

#[test]
fn what_keeps_a_resource_from_being_stopped_is_named() {
    let answer = |quorum: &str, options: &str, node: &str, resource: &str, failure: &str| {
        format!(
            r#"<r><summary><current_dc present="true" with_quorum="{quorum}"/><cluster_options {options}/></summary>
            <nodes><node name="n1" {node}/></nodes><resources><resource id="alpha" role="Started" {resource}><node name="n1"/></resource></resources>
            <failures>{failure}</failures></r>"#
        )
    };
    let why = |answer: &str, id: &str| status(answer).why_unstoppable(&[id.to_owned()]);
    let good = answer("true", "", "", r#"managed="true""#, "");
    assert_eq!(why(&good, "alpha"), None);
    let failure = r#"<failure op_key="alpha_stop_0" node="n1" task="stop" exitcode="1" exitreason="device is held"/>"#;
    let unmanaged = r#"managed="false""#;
    let blocked = r#"managed="false" blocked="true""#;
    for (quorum, options, node, resource, failure, expected) in [
        (
            "true",
            r#"maintenance-mode="true""#,
            "",
            unmanaged,
            "",
            "the cluster is in maintenance mode",
        ),
        (
            "false",
            r#"no-quorum-policy="freeze""#,
            "",
            "",
            "",
            "this part of the cluster has no quorum",
        ),
        (
            "true",
            "",
            r#"maintenance="true""#,
            unmanaged,
            "",
            "node n1, where alpha runs, is in maintenance",
        ),
        (
            "true",
            "",
            "",
            unmanaged,
            "",
            "alpha is not managed by the cluster (is-managed or maintenance is set)",
        ),
        (
            "true",
            "",
            "",
            blocked,
            failure,
            "alpha could not be stopped on n1: device is held",
        ),
        ("true", "", "", blocked, "", "alpha is blocked by a failure"),
    ] {
        let answer = answer(quorum, options, node, resource, failure);
        assert_eq!(why(&answer, "alpha").as_deref(), Some(expected));
        // What does not run is in nobody's way.
        assert_eq!(why(&answer, "beta"), None);
    }
    let ignored = answer("false", r#"no-quorum-policy="ignore""#, "", "", "");
    assert_eq!(why(&ignored, "alpha"), None);
}

#[test]
fn a_monitor_is_nothing_that_the_cluster_has_to_do() {
    let told = |actions: &str| {
        let text = format!("<r><actions/><transition>{actions}</transition></r>");
        prospect_in(
            &Element::parse(&text).unwrap(),
            &["a".to_owned(), "alpha-ip1".to_owned()],
        )
    };
    let monitor = r#"<rsc_action resource="alpha-ip1" op="monitor" node="n1"/>"#;
    let forget = r#"<cluster_action task="clear_failcount" node="n1"/>"#;
    let start = r#"<rsc_action resource="a:0" op="start" node="n1"/>"#;
    let foreign = r#"<rsc_action resource="b" op="stop" node="n1"/>"#;
    let fence = r#"<fencing_action action="reboot" target="n1"/>"#;
    assert_eq!(told(""), Prospect::Nothing);
    assert_eq!(told(foreign), Prospect::Nothing);
    assert_eq!(
        told(&format!(r#"{monitor}<pseudo_action task="x_running_0"/>"#)),
        Prospect::Nothing
    );
    assert_eq!(told(&format!("{monitor}{forget}")), Prospect::Forget);
    for (act, said) in [(start, "start a:0"), (fence, "reboot n1")] {
        let prospect = told(&format!("{forget}{monitor}{act}"));
        assert_eq!(prospect, Prospect::Act(vec![said.to_owned()]));
    }
}

#[test]
fn a_node_is_down_only_where_the_cluster_can_know() {
    let down = |quorum: bool, fencing: &str, node: &str| {
        let answer = format!(
            r#"<pacemaker-result><summary><current_dc present="true" name="n1" with_quorum="{quorum}"/><cluster_options {fencing}/></summary><nodes>
            <node name="n1" id="1" online="true" standby="false" unclean="false" pending="false" type="member"/>
            <node name="n2" id="2" {node}/>
            </nodes></pacemaker-result>"#
        );
        let members = status(&answer).members.into_iter();
        let down: Vec<String> = members.filter(|m| m.down).map(|m| m.name).collect();
        assert!(down.iter().all(|name| name == "n2"), "{down:?}");
        !down.is_empty()
    };
    let fences = r#"stonith-enabled="true""#;
    let off = r#"online="false" standby="false" unclean="false" pending="false" type="member""#;
    assert!(down(true, fences, off));
    assert!(down(true, r#"fencing-enabled="true""#, off));
    assert!(!down(false, fences, off));
    assert!(!down(true, r#"stonith-enabled="false""#, off));
    assert!(!down(true, "", off));
    for (is, other) in [
        (r#"online="false""#, r#"online="true""#),
        (r#"unclean="false""#, r#"unclean="true""#),
        (r#"unclean="false""#, ""),
        (r#"pending="false""#, r#"pending="true""#),
        (r#"type="member""#, r#"type="remote""#),
    ] {
        assert!(!down(true, fences, &off.replace(is, other)), "{other}");
    }
}
