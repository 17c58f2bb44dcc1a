//! The `pgstead` program: parse, run, map to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pgstead::cli::main(std::env::args_os()).0)
}
