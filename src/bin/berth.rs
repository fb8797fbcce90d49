//! The command for people.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth::cli::main(std::env::args_os())
}
