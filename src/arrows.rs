//! Reads which module uses which, and holds that against what lib.rs draws.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod calls;

/// A module: the names that lead to it from the crate's root.
type Module = Vec<String>;
/// Who uses whom.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The source files of the library, by their modules; tests are left out.
fn sources() -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut left = vec![top.clone()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if path.is_dir() {
                left.extend((!is_test && path != top.join("bin")).then_some(path));
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(
                    module(path.strip_prefix(&top).unwrap()),
                    without_tests(&text),
                );
            }
        }
    }
    for (name, only_for_tests) in [
        (["arrows"].as_slice(), true),
        (&["arrows", "calls"], true),
        (&["formats"], true),
        (&["ocf", "sample"], true),
    ] {
        let name: Module = name.iter().map(|&part| part.to_owned()).collect();
        assert_eq!(found.remove(&name).is_some(), only_for_tests, "{name:?}");
    }
    found
}

fn module(file: &Path) -> Module {
    let path: PathBuf = file.with_extension("");
    let mut names: Module = path
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    if names
        .last()
        .is_some_and(|name| name == "mod" || name == "lib")
    {
        names.pop();
    }
    names
}

/// The code of a file without its comments and its tests, which stand last.
fn without_tests(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths in `code` that begin at the crate's root or go up from `module`, from the root.
fn paths(module: &[String], code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_name(c) || c == ':') {
                continue;
            }
            let mut base = match start {
                "crate::" => Vec::new(),
                _ => module[..module.len() - 1].to_vec(),
            };
            let mut rest = &code[at + start.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            expand(&base, &mut rest.chars().peekable(), &mut found);
        }
    }
    found
}

/// Reads what follows `base`: a path, or a list of them in braces.
fn expand(
    base: &[String],
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    found: &mut Vec<Module>,
) {
    let skip = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
    };
    let mut path = base.to_vec();
    loop {
        skip(rest);
        if rest.next_if_eq(&'{').is_some() {
            loop {
                skip(rest);
                if rest.next_if_eq(&'}').is_some() || rest.peek().is_none() {
                    return;
                }
                expand(&path, rest, found);
                while rest.next_if(|&c| c != ',' && c != '}').is_some() {}
                rest.next_if_eq(&',');
            }
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|&c| c.is_alphanumeric() || c == '_') {
            name.push(c);
        }
        if !name.is_empty() {
            path.push(name);
        }
        if rest.next_if_eq(&':').is_none() || rest.next_if_eq(&':').is_none() {
            found.push(path);
            return;
        }
    }
}

/// For each module that has some within it, who of these uses whom: the files below each count as its own.
fn levels() -> BTreeMap<Module, Arrows> {
    let sources = sources();
    let mut levels: BTreeMap<Module, Arrows> = BTreeMap::new();
    for (module, code) in &sources {
        for path in paths(module, code) {
            let ends = (0..=path.len()).rev().map(|end| &path[..end]);
            let Some(used) = ends.into_iter().find(|end| sources.contains_key(*end)) else {
                continue;
            };
            let both = module.iter().zip(used);
            let common = both.take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), used.get(common)) {
                let level = levels.entry(module[..common].to_vec()).or_default();
                level.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    levels
}

/// Those that can be reached from themselves.
fn in_circles(arrows: &Arrows) -> BTreeSet<&str> {
    let reachable = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&str> = arrows
            .get(from)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        while let Some(next) = left.pop() {
            if seen.insert(next) {
                left.extend(arrows.get(next).into_iter().flatten().map(String::as_str));
            }
        }
        seen
    };
    let all = arrows.keys().map(String::as_str);
    all.filter(|name| reachable(name).contains(name)).collect()
}

/// The lines `room → room room` of lib.rs.
fn drawn() -> Arrows {
    let text = include_str!("lib.rs");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split_once(" → "));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    lines
        .map(|(from, to)| (from.trim().to_owned(), words(to)))
        .collect()
}

#[test]
fn rooms_use_each_other_as_is_drawn() {
    let real = levels().remove(&Vec::new()).unwrap();
    let drawing: String = real
        .iter()
        .map(|(from, to)| {
            let to: Vec<&str> = to.iter().map(String::as_str).collect();
            format!("//! {from:<9} → {}\n", to.join(" "))
        })
        .collect();
    assert_eq!(drawn(), real, "the arrows that there are:\n{drawing}");
}

#[test]
fn no_file_uses_another_that_uses_it() {
    for (module, arrows) in levels() {
        let circle = in_circles(&arrows);
        assert!(
            circle.is_empty(),
            "in {}: {circle:?}, by {arrows:?}",
            module.join("::")
        );
    }
}

#[test]
fn paths_are_found_in_use_lines_and_in_code() {
    let module: Module = ["a", "b", "c"].map(str::to_owned).to_vec();
    let code = "use crate::x::{self, y::{Z, w}, v};\nuse super::d::E;\nfn f() { super::super::g::h(crate::i::J); my_crate::k() }";
    let found: BTreeSet<String> = paths(&module, code)
        .iter()
        .map(|path| path.join("::"))
        .collect();
    let expected = [
        "a::b::d::E",
        "a::g::h",
        "i::J",
        "x::self",
        "x::v",
        "x::y::Z",
        "x::y::w",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn a_circle_is_found() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = Arrows::new();
        for (from, to) in pairs {
            arrows
                .entry((*from).into())
                .or_default()
                .insert((*to).into());
        }
        arrows
    };
    assert!(in_circles(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let round = arrows(&[("a", "b"), ("b", "c"), ("c", "b")]);
    assert_eq!(in_circles(&round), BTreeSet::from(["b", "c"]));
}
