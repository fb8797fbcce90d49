//! The core has no hands, no clock and no voice.

use std::fs;
use std::path::Path;

/// What would give it some.
const FOREIGN: [&str; 11] = [
    "Instant::now",
    "std::fs",
    "std::process",
    "std::env",
    "std::io",
    "std::os",
    "std::thread",
    "nix::",
    "rustix::",
    "log::",
    "job::",
];

fn check(directory: &Path) -> usize {
    let mut checked = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "tests" {
            checked += check(&path);
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                let foreign = FOREIGN.iter().find(|word| line.contains(*word));
                let at = path.display();
                assert_eq!(foreign, None, "{at}:{}: {line}", number + 1);
            }
            checked += 1;
        }
    }
    checked
}

#[test]
fn the_core_does_nothing_itself() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cell/keeper/core");
    assert!(check(&core) > 10);
}
