//! What looks after the program itself: `makima doctor` and the like.

use clap::Args;

use super::ServerArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima doctor
  makima doctor --server wss://makima.example.com
  makima doctor --json | jq '.[] | select(.state != \"ok\")'

Nothing is changed. The server is shown the key as a machine without a name: no session comes of that.
Exit codes: 0 nothing is wrong (warnings are no errors), 1 something is.")]
pub(in crate::cli) struct DoctorArgs {
    /// Print a JSON array of {check, state, detail, help}; the state is ok, warn or fail
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) server: ServerArgs,
}
