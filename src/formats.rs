//! What the versions of berth say to each other on a node, and leave for each other under /run: during an
//! upgrade a keeper or a daemon is asked by agents of the next version, and finds what those have written.
//!
//! `tests/fixtures/formats` has examples, one a line, by the version that wrote them first. A line is taken
//! away only when no upgrade is to start from its version any more.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats");

/// Reads the examples in `file`: those of all versions can be read, and those of the last one are what this
/// one writes. `kinds` are all that there has to be an example of, and `kind` tells that of one.
pub(crate) fn check<T>(file: &str, kinds: &[&str], kind: impl Fn(&T) -> &'static str)
where
    T: Serialize + DeserializeOwned + Debug,
{
    check_each(file, kinds, |example| vec![kind(example)]);
}

/// As [`check`], of examples that are of several kinds at once.
pub(crate) fn check_each<T>(file: &str, kinds: &[&str], kinds_of: impl Fn(&T) -> Vec<&'static str>)
where
    T: Serialize + DeserializeOwned + Debug,
{
    let path = Path::new(EXAMPLES).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut found, mut differs) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with("# ") {
            // Of an earlier version: it need not be what is written today.
            differs.clear();
            continue;
        }
        let example: T = serde_json::from_str(line)
            .unwrap_or_else(|e| panic!("{file}: can't be read any more: {line}: {e}"));
        found.extend(kinds_of(&example));
        let written = serde_json::to_value(&example).expect("it can be written");
        let known: Value = serde_json::from_str(line).expect("it is JSON");
        if written != known {
            differs.push(format!("{known}\n  is written as\n{written}"));
        }
    }
    assert!(
        differs.is_empty(),
        "{file}: this version writes something else: add it under its number\n{}",
        differs.join("\n")
    );
    assert_eq!(found, kinds.iter().copied().collect(), "{file}");
}

/// All that the library consists of.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn each_file_of_examples_is_read_by_a_test_and_says_of_which_versions_they_are() {
    let mut text = String::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut text,
    );
    for entry in fs::read_dir(EXAMPLES).expect("the examples") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name");
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
        let examples = fs::read_to_string(&path).expect("examples");
        assert!(examples.starts_with("# "), "{name}");
    }
}
