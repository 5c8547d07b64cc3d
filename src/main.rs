//! Passes the arguments to the library and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kms_rotationd::cli::main(std::env::args_os()) as u8)
}
