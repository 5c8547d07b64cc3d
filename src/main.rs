//! Arguments → runtime → exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kms_rotationd::cli::main(std::env::args_os()) as u8)
}
