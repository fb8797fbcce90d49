use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const SOUND: Condition = Condition {
    kind: FsKind::Ext4,
    replay: Some(true),
    damaged: false,
};

const POLICIES: [Policy; 3] = [Policy::Never, Policy::Preen, Policy::Full];
const PROOFS: [Proof; 4] = [Proof::Noted, Proof::Found, Proof::Log, Proof::CutOff];
const DAMAGE: Finding = Finding::Damage { log: false };
const BAD_LOG: Finding = Finding::Damage { log: true };

fn after(kind: FsKind, policy: Policy, finding: &Finding, after: Option<Stage>) -> Decision {
    after_failed_attach(kind, policy, finding, after, "the kernel's words")
}

#[test]
fn a_journal_to_replay_is_no_reason_for_a_repair() {
    for policy in POLICIES {
        assert_eq!(before_attach(SOUND, policy), Decision::Attach);
    }
}

#[test]
fn noted_damage_is_mended_before_the_first_access() {
    let damaged = Condition {
        damaged: true,
        ..SOUND
    };
    assert_eq!(
        before_attach(damaged, Policy::Preen),
        Decision::Run(Stage::Preserve, Proof::Noted)
    );
    assert!(
        matches!(before_attach(damaged, Policy::Never), Decision::Block(w)
            if w.contains("repair is \"never\""))
    );
}

#[test]
fn what_another_node_may_cure_is_let_go_of_and_never_repaired() {
    for kind in FsKind::ALL {
        for policy in POLICIES {
            for stage in [None, Some(Stage::Preen), Some(Stage::Full)] {
                for finding in [
                    Finding::Twin("/dev/sdc".to_owned()),
                    Finding::Feature,
                    Finding::Option(Some("subvol=typo".to_owned())),
                    Finding::Option(None),
                    Finding::Unclear,
                ] {
                    let next = after(kind, policy, &finding, stage);
                    let Decision::Leave(why) = &next else {
                        panic!("{kind} {policy} {stage:?} {finding:?}: {next:?}");
                    };
                    assert!(!why.contains("full"), "{why}");
                }
                for storage in [Storage::Gone, Storage::Unreadable] {
                    let next = after(kind, policy, &Finding::Storage(storage), stage);
                    assert!(matches!(next, Decision::Wait(_)), "{next:?}");
                }
            }
        }
    }
}

#[test]
fn who_has_the_uuid_is_named_with_what_to_do_about_it() {
    let finding = Finding::Twin("/dev/sdc".to_owned());
    let Decision::Leave(why) = after(FsKind::Xfs, Policy::Full, &finding, None) else {
        panic!("it is not let go of");
    };
    for words in ["/dev/sdc", "nouuid", "xfs_admin -U generate"] {
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_log_that_cannot_be_replayed_is_given_up_only_by_a_full_repair() {
    let next = |policy| after(FsKind::Btrfs, policy, &BAD_LOG, Some(Stage::Preen));
    assert_eq!(
        next(Policy::Full),
        Decision::Run(Stage::DropLog, Proof::Log)
    );
    assert!(matches!(next(Policy::Preen), Decision::Block(w) if w.contains("are lost")));
    let holds =
        |proof, policy| after_stage(FsKind::Xfs, policy, proof, Stage::Preen, &Verdict::LogHolds);
    assert_eq!(
        holds(Proof::Log, Policy::Full),
        Decision::Run(Stage::DropLog, Proof::Log)
    );
    for proof in [Proof::Noted, Proof::Found] {
        assert!(
            matches!(holds(proof, Policy::Full), Decision::Block(w) if !w.contains("full")),
            "{proof:?}"
        );
    }
}

#[test]
fn a_sound_check_alone_gives_nothing_up() {
    for kind in [FsKind::Xfs, FsKind::Btrfs] {
        let next = after(kind, Policy::Full, &DAMAGE, Some(Stage::Preen));
        assert!(matches!(next, Decision::Block(_)), "{kind}: {next:?}");
    }
}

#[test]
fn a_check_that_was_cut_off_is_done_again() {
    assert_eq!(
        after_cut_off(Policy::Preen, "n1"),
        Decision::Run(Stage::Note, Proof::CutOff)
    );
    assert!(matches!(after_cut_off(Policy::Never, "n1"), Decision::Block(w) if w.contains("n1")));
    let next = |stage, verdict: &Verdict| {
        after_stage(FsKind::Ext4, Policy::Preen, Proof::CutOff, stage, verdict)
    };
    let failed = Verdict::Failed("exit code 1".to_owned());
    for verdict in [&Verdict::Sound, &failed] {
        let noted = next(Stage::Note, verdict);
        assert_eq!(noted, Decision::Run(Stage::Release, Proof::CutOff));
    }
    let released = next(Stage::Release, &Verdict::Sound);
    assert_eq!(released, Decision::Run(Stage::Preen, Proof::CutOff));
    let kept = next(Stage::Release, &failed);
    assert!(matches!(kept, Decision::Block(_)));
}

#[test]
fn a_program_that_could_not_begin_is_tried_again_and_leads_to_nothing_more() {
    let hindered = Verdict::Hindered("/dev/x is in use.".to_owned());
    for kind in FsKind::ALL {
        for stage in [Stage::Release, Stage::Preen, Stage::Full, Stage::DropLog] {
            for proof in PROOFS {
                let next = after_stage(kind, Policy::Full, proof, stage, &hindered);
                assert!(
                    matches!(&next, Decision::Wait(why) if why.contains("in use")),
                    "{kind} {stage:?} {proof:?}: {next:?}"
                );
            }
        }
    }
}

#[test]
fn a_mount_that_fails_after_the_last_stage_is_not_tried_for_ever() {
    for stage in [Stage::Full, Stage::DropLog] {
        for finding in [DAMAGE, BAD_LOG] {
            for kind in FsKind::ALL {
                let next = after(kind, Policy::Full, &finding, Some(stage));
                assert!(matches!(next, Decision::Block(_)), "{kind}: {next:?}");
            }
        }
    }
}

#[test]
fn each_course_ends_after_at_most_three_stages() {
    for kind in FsKind::ALL {
        for policy in [Policy::Preen, Policy::Full] {
            let mut stages = vec![];
            let mut next = first_stage(policy, Stage::Preserve, Proof::Found, "");
            while let Decision::Run(stage, proof) = next {
                assert!(!stages.contains(&stage), "{kind}: {stage:?} twice");
                stages.push(stage);
                next = after_stage(kind, policy, proof, stage, &Verdict::MoreNeeded);
            }
            assert!(matches!(next, Decision::Block(_)));
            assert_eq!(stages.len(), if policy == Policy::Full { 3 } else { 2 });
        }
    }
}

#[test]
fn storage_is_tried_ever_less_often_and_not_for_ever() {
    let pauses: Vec<u64> = (0..).map_while(pause).map(|p| p.as_secs()).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160]);
    assert_eq!(pause(u32::MAX), None);
}

#[test]
fn values_are_read_back_as_written_and_others_are_named() {
    for kind in FsKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for policy in POLICIES {
        assert_eq!(policy.to_string().parse(), Ok(policy));
        assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
    }
    assert!("zfs".parse::<FsKind>().unwrap_err().contains("\"zfs\""));
    assert!("yes".parse::<Policy>().unwrap_err().contains("\"yes\""));
}

/// Error numbers of damage and of everything else.
fn errno() -> impl Strategy<Value = i32> {
    prop_oneof![select(vec![2, 5, 16, 22, 74, 116, 117]), 1..200]
}

fn failed() -> impl Strategy<Value = Failed> {
    let words = select(vec![
        vec![],
        vec!["XFS (sdb): Filesystem has duplicate UUID x - can't mount"],
        vec!["EXT4-fs (sdb): couldn't mount because of unsupported optional features (40)"],
        vec!["I/O error, dev sdb, sector 8 op 0x0:(READ)"],
        vec!["XFS (sdb): Corruption detected. Unmount and run xfs_repair"],
        vec!["BTRFS error (device sdb): open_ctree failed: -22"],
    ]);
    (errno(), words).prop_map(|(errno, words)| Failed {
        errno,
        words: words.into_iter().map(str::to_owned).collect(),
    })
}

fn outcome() -> impl Strategy<Value = Option<Outcome>> {
    prop_oneof![
        Just(None),
        Just(Some(Outcome::Mounted)),
        failed().prop_map(|f| Some(Outcome::Failed(f))),
    ]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let storage = select(vec![
        Storage::Readable,
        Storage::Readable,
        Storage::Readable,
        Storage::Unreadable,
        Storage::Gone,
    ]);
    let twin = prop::option::weighted(0.2, Just("/dev/sdc".to_owned()));
    (failed(), storage, twin, outcome(), outcome()).prop_map(
        |(asked, storage, twin, plain, unreplayed)| Evidence {
            asked,
            storage,
            twin,
            plain,
            culprit: None,
            unreplayed,
        },
    )
}

/// Whether this error number, or these words, can stand for damage at all.
fn can_be_damage(failed: &Failed) -> bool {
    match failed.errno {
        74 | 117 => true,
        2 | 5 | 22 | 116 => failed.words.iter().any(|w| w.contains("Corruption")),
        _ => false,
    }
}

proptest! {
    /// Nothing but a proof leads to a change on the device.
    #[test]
    fn without_a_proof_no_program_is_run(
        kind in select(FsKind::ALL.to_vec()),
        policy in select(POLICIES.to_vec()),
        evidence in evidence(),
        stage in prop::option::of(select(Stage::ALL.to_vec())),
    ) {
        let finding = diagnose(kind, &evidence);
        let next = after(kind, policy, &finding, stage);
        let mut failures = vec![&evidence.asked];
        for outcome in [&evidence.plain, &evidence.unreplayed].into_iter().flatten() {
            if let Outcome::Failed(failed) = outcome {
                failures.push(failed);
            }
        }
        let repairs = matches!(next, Decision::Run(..));
        if let Decision::Block(why) | Decision::Leave(why) | Decision::Wait(why) = &next {
            prop_assert!(
                !why.contains("\"full\"") || matches!(finding, Finding::Damage { .. }),
                "{why}"
            );
        }
        if repairs {
            prop_assert!(policy != Policy::Never);
            prop_assert_eq!(evidence.storage, Storage::Readable);
            prop_assert_eq!(&evidence.twin, &None);
            prop_assert!(failures.iter().any(|f| can_be_damage(f)));
            // Without options it can't be mounted either.
            prop_assert!(evidence.plain != Some(Outcome::Mounted));
            prop_assert!(kind != FsKind::Xfs || !matches!(&evidence.plain, Some(Outcome::Failed(f)) if f.errno == 5));
            for failed in &failures {
                for innocent in ["duplicate", "unsupported", "I/O error"] {
                    prop_assert!(!failed.words.iter().any(|w| w.contains(innocent) && (innocent != "duplicate" || kind == FsKind::Xfs)));
                }
            }
        }
        if matches!(next, Decision::Run(Stage::DropLog, _)) {
            prop_assert_eq!(policy, Policy::Full);
            prop_assert_eq!(evidence.unreplayed, Some(Outcome::Mounted));
        }
    }
}

/// A log is given up only on the proof that it is the log, whatever a program says.
#[test]
fn a_log_is_given_up_on_proof_alone() {
    let mut given_up = 0;
    for kind in FsKind::ALL {
        for stage in Stage::ALL {
            for code in -1..256 {
                let verdict = verdict(kind, stage, Exit::Code(code), &Said::default());
                for policy in POLICIES {
                    for proof in PROOFS {
                        let next = after_stage(kind, policy, proof, stage, &verdict);
                        let Decision::Run(stage, kept) = next else {
                            continue;
                        };
                        assert_eq!(kept, proof);
                        if stage == Stage::DropLog {
                            given_up += 1;
                            let proven = proof == Proof::Log && policy == Policy::Full;
                            assert!(proven, "{kind:?} {policy:?} {proof:?} {code}");
                        }
                    }
                }
            }
        }
    }
    assert!(given_up > 0);
}
