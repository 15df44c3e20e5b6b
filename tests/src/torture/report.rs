//! What came of a night, in numbers.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::plan::Kind;

/// What was done and seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) faults: BTreeMap<Kind, u64>,
    pub(crate) recoveries: BTreeMap<Kind, Vec<Duration>>,
    pub(crate) graphs: u64,
    /// Tasks that were asked for, and those of them that do again what one before was to do.
    pub(crate) tasks: u64,
    pub(crate) again: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// Tasks that fail as one that they come after did.
    pub(crate) in_vain: u64,
    pub(crate) lines: u64,
    /// Bytes of output of which it was said that they could not be written.
    pub(crate) told_missing: u64,
    pub(crate) merges: u64,
    pub(crate) conflicts: u64,
    pub(crate) messages: u64,
    /// How often daemon and server were started again.
    pub(crate) daemons: u64,
    pub(crate) servers: u64,
    /// The most memory that daemon and server had, in bytes.
    pub(crate) memory: [u64; 2],
}

impl Counts {
    fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// In one line, while it goes on.
    pub(crate) fn line(&self) -> String {
        let Self { graphs, tasks, again, done, failed, in_vain, lines, merges, .. } = self;
        format!(
            "{} faults; {graphs} graphs, {tasks} tasks ({again} of them again): {done} done, {failed} failed, {in_vain} in vain; \
             {merges} merges; {lines} lines",
            self.all_faults()
        )
    }
}

/// The value that so much of them is not above.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Display for Counts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fault                      times    recovery: p50      p99  (from when it was over to an answer of the daemon's)"
        )?;
        let mut all = Vec::new();
        for kind in Kind::all() {
            let times = self.faults.get(&kind).copied().unwrap_or_default();
            let mut took = self.recoveries.get(&kind).cloned().unwrap_or_default();
            took.sort_unstable();
            let [half, most] = [50, 99].map(|percent| percentile(&took, percent).as_secs_f64());
            let measured = if took.is_empty() { String::new() } else { format!("{half:12.2} s {most:6.2} s") };
            writeln!(f, "{:<26}{times:>6}    {measured}", kind.name())?;
            all.extend(took);
        }
        all.sort_unstable();
        let [half, most] = [50, 99].map(|percent| percentile(&all, percent).as_secs_f64());
        writeln!(f, "{:<26}{:>6}    {half:12.2} s {most:6.2} s", "all", self.all_faults())?;
        let Self { graphs, tasks, again, done, failed, in_vain, daemons, servers, conflicts, merges, .. } = self;
        writeln!(
            f,
            "graphs {graphs}; tasks {tasks}, {again} of them again: {done} done, {failed} failed, {in_vain} in vain"
        )?;
        writeln!(f, "merges {merges}, {conflicts} of them with conflicts; messages {}", self.messages)?;
        writeln!(f, "lines {}; {} bytes of others told to be missing on a full disk", self.lines, self.told_missing)?;
        let [daemon, server] = self.memory.map(mib);
        writeln!(
            f,
            "started again: daemon {daemons}, server {servers}; peak memory: daemon {daemon:.1} MiB, server {server:.1} MiB"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::percentile;

    #[test]
    fn percentiles_are_of_those_that_are_there() {
        let all: Vec<_> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!([50, 99, 100].map(|it| percentile(&all, it).as_secs()), [100, 198, 200]);
        assert_eq!(percentile(&all[..1], 99).as_secs(), 1);
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
