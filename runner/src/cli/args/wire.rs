//! `makima protocol`.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(in crate::cli) struct ProtocolArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ProtocolCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ProtocolCommand {
    /// Read lines of the wire on stdin and write each back as makima would send it
    #[command(after_help = "\
Examples:
  makima protocol check commands < recorded.ndjson
  echo '{\"type\":\"heartbeat\",\"activeTasks\":[]}' | makima protocol check messages

A line that cannot be read is named on stderr with its number, the place and the reason; exit code 1 then.")]
    Check {
        /// Which way the lines go
        direction: Direction,
    },
    /// Print the wire as a JSON Schema: every command, every message, the frames of version 2
    #[command(after_help = "\
Examples:
  makima protocol schema > makima-wire.json
  makima protocol schema | jq '.\"$defs\".SpawnTask'

Draft 2020-12. `#/$defs/DaemonCommand` and `#/$defs/DaemonMessage` are the two directions of version 1, `ServerFrame` and
`DaemonFrame` those of version 2.")]
    Schema,
}

/// Which way lines of the wire go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Direction {
    /// Server to daemon
    Commands,
    /// Daemon to server
    Messages,
}
