//! `berth.toml`: read, checked, and rendered to resources and constraints.
//!
//! [`mod@parse`] reads each key, [`check`] compares them, [`model`] turns the result into resources and
//! constraints as data. All of it is pure but [`load`], which reads the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

pub mod build;
mod check;
mod detour;
pub(crate) mod file;
pub mod ids;
pub(crate) mod keys;
pub mod model;
mod parse;
mod portwatch;
pub(crate) mod problem;
mod reader;
pub mod render;
mod score;
mod warnings;

pub(crate) use check::subnet_of;
pub use file::Config;
pub(crate) use problem::Problems;
pub use warnings::warnings;

/// The largest file that is read, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// Reads and checks the configuration in a file.
///
/// # Errors
/// All that is wrong with it, each with its line.
pub(crate) fn load(path: &Path) -> Result<Config, Problems> {
    let file = path.display().to_string();
    let whole = |text: String| {
        let problem = problem::Problem {
            line: 0,
            key: String::new(),
            text,
        };
        Problems::new(file.clone(), vec![problem])
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|f| f.take(SIZE_LIMIT + 1).read_to_end(&mut text))
        .map_err(|e| whole(format!("can't be read: {e}")))?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(whole(format!("is larger than {SIZE_LIMIT} bytes")));
    }
    let text = String::from_utf8(text).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        whole(format!("line {line} is not UTF-8"))
    })?;
    let config = parse(&file, &text)?;
    if config == Config::default() {
        // The file may have been cut off, and to apply it would remove every virtual server.
        return Err(whole(
            "says nothing: no subnet, no node, no virtual server".into(),
        ));
    }
    Ok(config)
}

/// Reads and checks the configuration in `text`; `file` is its name in messages.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &str, text: &str) -> Result<Config, Problems> {
    let reader = reader::Reader::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut repeated = Vec::new();
    for error in &errors {
        let line = reader.line(error.span().map_or(0, |span| span.start));
        let written = lines.get(line - 1).copied().unwrap_or_default();
        if error.message().contains("duplicate key") {
            // Of a table that is there twice, the keys are too.
            let above = &lines[..line.min(lines.len())];
            let head = above.iter().rposition(|line| line.starts_with('['));
            if written.starts_with('[') {
                repeated.push(head);
            } else if repeated.contains(&head) {
                continue;
            }
        }
        let written: String = written.chars().take(60).collect();
        reader.problem(line, "", format!("{}: {written}", error.message()));
    }
    let mut config = Config::default();
    // A document with holes would only bring errors that follow from the first.
    if errors.is_empty() {
        config = parse::config(&reader, document.get_ref());
        check::config(&reader, &mut config);
    }
    let problems = reader.into_problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems::new(file, problems))
    }
}

/// What the file describes, in one line.
pub fn summary(config: &Config) -> String {
    let count = |n: usize, one: &str| {
        let end = if n == 1 { "" } else { "s" };
        format!("{n} {one}{end}")
    };
    let vservers = &config.vservers;
    format!(
        "good: {}, {}, {}",
        count(vservers.len(), "virtual server"),
        count(
            vservers.iter().map(|v| v.filesystems.len()).sum(),
            "file system"
        ),
        count(vservers.iter().map(|v| v.vips.len()).sum(), "VIP"),
    )
}
