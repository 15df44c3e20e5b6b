//! `makima protocol`.

use std::path::PathBuf;

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
  makima protocol check recording < session.ndjson
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
    /// Connect to a server as a daemon does and write down every frame, without taking on any work
    #[command(after_help = "\
Examples:
  MAKIMA_API_KEY=secret makima protocol record wss://makima.example.com --out session.ndjson
  makima protocol record http://127.0.0.1:7600 --for 60 | jq -c .frame
  makima protocol check recording < session.ndjson

One session of version 1 of the wire, until the server ends it, the time is over, or Ctrl-C. Each line is
{t, dir, frame}: milliseconds since the beginning, in or out, and what went over the wire. Secrets are shown as ***: the
key, tool keys, credentials of URLs, values of names that end in KEY, TOKEN, SECRET or PASSWORD. Plans are in it.
A TASK THAT THE SERVER GIVES IS ENDED AS FAILED, with the words `this is a recorder`.
Exit codes: 0 a session was recorded, 1 it broke off or the file cannot be written, 3 the key was refused,
4 the server was not reached.")]
    Record(RecordArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RecordArgs {
    /// The server
    pub(in crate::cli) url: String,
    /// Where it is written to, readable for you alone; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECS")]
    pub(in crate::cli) seconds: Option<u64>,
    /// End when the server ends it, which is the default
    #[arg(long, conflicts_with = "seconds")]
    pub(in crate::cli) until_closed: bool,
    /// A file that holds the server's key; MAKIMA_API_KEY holds the key itself
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    /// Let the key go over the network unencrypted
    #[arg(long)]
    pub(in crate::cli) insecure: bool,
}

/// Which way lines of the wire go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Direction {
    /// Server to daemon
    Commands,
    /// Daemon to server
    Messages,
    /// Both, as `makima protocol record` writes them down
    Recording,
}
