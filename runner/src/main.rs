//! makima: see `makima --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: this program is also the supervisor of the agents that it starts.
    if let Some(code) = makima_runner::supervise::intercept(std::env::args_os()) {
        return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
    }
    makima_transports::install_crypto();
    makima_runner::cli::main()
}
