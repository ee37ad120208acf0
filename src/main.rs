//! Parses the arguments, runs the command, prints what went wrong.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    s3veil::cli::harden();
    let arguments = s3veil::cli::Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("s3veil: the runtime can't start: {why}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(s3veil::cli::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("s3veil: {error:#}");
            ExitCode::FAILURE
        }
    }
}
