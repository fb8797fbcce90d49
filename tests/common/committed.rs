//! Files that are generated and committed. With `BERTH_REGENERATE=1` (`make gen`) they are written anew; otherwise they
//! are compared.

use std::fs;
use std::path::Path;

/// Panics unless the file at this path in the source tree is as expected.
#[track_caller]
pub fn compare(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BERTH_REGENERATE").is_some_and(|value| value == "1") {
        let directory = path.parent().expect("the path has a directory");
        fs::create_dir_all(directory).expect("the directory can be made");
        fs::write(&path, expected).expect("the file can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what is generated: run make gen",
        path.display()
    );
}
