//! Configuration files: which are refused, each mistake with a line of its own and with nothing else.

use berth::config;

mod filesystem;
mod keys;
mod names;
mod network;
mod services;
mod values;
mod warnings;

/// A good file, of which each case spoils something.
const GOOD: &str = r#"[subnets]
office = { cidr = "10.1.0.0/24", gateway = "10.1.0.254", cidr6 = "fd00:1::/64" }
lab = { cidr = "10.2.0.0/24" }
[nodes.n1]
ports = { eth1 = "office", eth2 = "lab" }
[nodes.n2]
[storage.array1]
probe = ["/dev/sdb"]
[vserver.alpha]
priority = 100
stay_on = "n1"
vips = ["10.1.0.50", { ip = "10.2.0.50", subnet = "lab" }]
[[vserver.alpha.filesystem]]
device = "/dev/a1"
path = "/data"
unit = "array1"
nfs = { clients = ["10.1.0.0/24"] }
smb = { share = "data" }
[[vserver.alpha.filesystem]]
device = "/dev/a2"
path = "/more"
smb = { share = "more" }
[vserver.beta]
vips = ["fd00:1::50"]
[[vserver.beta.filesystem]]
device = "UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10"
path = "/data"
nfs = { clients = ["*"] }
"#;

/// [`GOOD`], in which the first of two texts is spoiled to the second, is refused with exactly these lines.
#[track_caller]
fn refused(cases: &[(&str, &str, &[&str])]) {
    for (good, bad, expected) in cases {
        assert!(GOOD.contains(good), "{good}");
        let Err(problems) = config::parse("berth.toml", &GOOD.replace(good, bad)) else {
            panic!("{good:?} spoiled to {bad:?} is taken");
        };
        let lines: Vec<String> = problems.lines().collect();
        assert_eq!(&lines, expected, "{good:?} spoiled to {bad:?}");
        assert!(lines.iter().all(|line| !line.contains('\n')), "{bad}");
    }
}

#[test]
fn the_unspoiled_file_is_good() {
    let config = config::parse("berth.toml", GOOD).unwrap();
    assert_eq!(
        config::summary(&config),
        "good: 2 virtual servers, 3 file systems, 3 VIPs"
    );
    let both = GOOD.replace(
        "[nodes.n2]",
        "[nodes.n2]\nports = { eth1 = \"office\", eth2 = \"lab\" }",
    );
    let config = config::parse("berth.toml", &both).unwrap();
    let warnings = config::warnings(&config);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let copied = "the device of beta-data is named by what is written on it, which a clone or a snapshot has too";
    assert!(warnings[0].starts_with(copied), "{warnings:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\PC|\n|[\\[\\]={}\"'.,a-z0-9 ]){0,200}") {
        let _ = config::parse("f", &text);
    }

    #[test]
    fn no_cut_or_doubled_part_makes_it_panic(from in 0..GOOD.len(), length in 0..60_usize, twice: bool) {
        let end = (from + length).min(GOOD.len());
        let part = if twice { &GOOD[from..end] } else { "" };
        let text = format!("{}{part}{part}{}", &GOOD[..from], &GOOD[end..]);
        let _ = config::parse("f", &text);
    }
}
