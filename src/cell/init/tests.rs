use super::*;
use crate::sys::command::{command, run};

const ALONE: &str = "BERTH_TEST_PANICKING_INIT";

/// Another process runs this one alone: a hook is the whole process's.
#[test]
fn panics() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let (keeper, init) = Channel::pair().unwrap();
    report_panics(&init);
    std::thread::spawn(|| panic!("on purpose"))
        .join()
        .unwrap_err();
    let Received::Message(Event::Broken(why), _) = keeper.receive().unwrap() else {
        panic!("the keeper was told something else");
    };
    assert!(
        why.starts_with("mistake in berth: ") && why.ends_with("on purpose"),
        "{why}"
    );
}

#[test]
fn the_keeper_hears_of_a_panic() {
    let mut init = command(std::env::current_exe().unwrap());
    init.args(["--exact", "cell::init::tests::panics"])
        .env(ALONE, "1");
    let output = run(init, Instant::now() + Duration::from_secs(60)).unwrap();
    output.check("the panicking init").unwrap();
}

#[test]
fn what_confines_a_server_is_told_from_what_does_not() {
    assert_eq!(running::confinement("smbd (enforce)\n"), Some("smbd"));
    assert_eq!(
        running::confinement("/usr/bin/ganesha.nfsd (enforce)\0"),
        Some("/usr/bin/ganesha.nfsd")
    );
    for free in [
        "unconfined\n",
        "smbd (complain)",
        "system_u:system_r:cluster_t:s0\0",
        "",
    ] {
        assert_eq!(running::confinement(free), None, "{free}");
    }
}
