//! `docs/zoo.md`: which bugs there are, what each costs to be found, and how much it may cost.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use makima_core::zoo::Bug;

use super::Cost;

const HEAD: &str = "\
# The bug zoo

What tests are worth is what they find. These bugs stand in the core, each where somebody had it or could have written it, and
are let out one at a time (`core/src/zoo.rs`; no program for people is built with them). CI lets each out and fails where it is
not found:

    cargo run --release -p makima-tests --features zoo --bin zoo

\"1 in N\" is what was measured: on average one of so many seeds of the simulated world fails. \"Within\" is what CI allows: ten
times that. What is rarer has a run that is kept in `tests/zoo/`, made as short as can be; the same run passes where no bug is
out. `--write` measures anew and writes this table: after a bug was added, and after a change to the world or to its swarm
that made something cheaper or dearer, which is to be seen here.
";

/// What has to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// One of so many seeds.
    Seeds(u64),
    /// The run that is kept for it.
    Kept,
}

/// What is known of one bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which one.
    pub bug: Bug,
    /// What has to find it.
    pub by: By,
    /// The same for people, with what was measured.
    cost: String,
    /// What did not hold.
    why: String,
}

/// A bug that fewer than one in so many seeds find has a run that is kept: the swarm is not run for so long each time.
const RARE: u64 = 500;

impl Row {
    /// What was measured. None where nothing has found it.
    #[must_use]
    pub fn of(bug: Bug, cost: &Cost, why: &str) -> Self {
        let one_in = cost.runs.div_ceil(cost.times.max(1));
        let (by, cost) = if cost.times > 0 && one_in <= RARE {
            let within = round(one_in * 10);
            (By::Seeds(within), format!("1 in {one_in} seeds, within {within}"))
        } else if cost.times > 0 {
            (By::Kept, format!("a run that is kept; 1 in {one_in} seeds"))
        } else {
            (By::Kept, format!("a run that is kept; none of {} seeds", cost.runs))
        };
        Self { bug, by, cost, why: plain(why) }
    }

    fn read(bug: Bug, text: &str) -> Option<Self> {
        let start = format!("| `{}` |", bug.name());
        let line = text.lines().find(|line| line.starts_with(&start))?;
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, _, cost, why] = cells.as_slice() else { return None };
        let by = match cost.rsplit_once("within ") {
            Some((_, within)) => By::Seeds(within.parse().ok()?),
            None => By::Kept,
        };
        Some(Self { bug, by, cost: (*cost).to_string(), why: (*why).to_string() })
    }

    fn write(&self, text: &mut String) {
        let Self { bug, cost, why, .. } = self;
        let (name, what, lost) = (bug.name(), bug.what(), bug.lost());
        writeln!(text, "| `{name}` | {what} | {lost} | {cost} | {why} |").expect("a string takes everything");
    }
}

/// Up to the next number of one digit and zeros; fewer than a hundred are no budget.
fn round(n: u64) -> u64 {
    let mut unit = 100;
    while n > unit * 10 {
        unit *= 10;
    }
    n.div_ceil(unit).max(1) * unit
}

/// The words of a check without what is another each time, in a cell of a table.
fn plain(why: &str) -> String {
    const SHOWN: usize = 100;
    let mut words: Vec<&str> = Vec::new();
    for word in why.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let word = if word.contains(|c: char| c.is_ascii_digit() || "|`[{".contains(c)) { "…" } else { word };
        if words.last() != Some(&"…") || word != "…" {
            words.push(word);
        }
    }
    let text = words.join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{} …", text.get(..at).and_then(|text| text.rsplit_once(' ')).map_or("", |cut| cut.0)),
        None => text,
    }
}

/// Where the table is.
#[must_use]
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/zoo.md")
}

/// What the table knows of each bug that it has.
#[must_use]
pub fn rows(text: &str) -> Vec<Row> {
    Bug::ALL.iter().filter_map(|bug| Row::read(*bug, text)).collect()
}

/// The table with these rows, in the zoo's order.
#[must_use]
pub fn text(rows: &[Row]) -> String {
    let mut text = HEAD.to_string();
    let mut area = "";
    for row in rows {
        if row.bug.area() != area {
            area = row.bug.area();
            let mut title = area.to_string();
            title.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
            write!(
                text,
                "\n## {title}\n\n| bug | what it does | what is lost | what finds it | as |\n|---|---|---|---|---|\n"
            )
            .expect("a string takes everything");
        }
        row.write(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let seeds = |runs, times| Cost { runs, times, first: None };
        let rows: Vec<Row> = (0..)
            .zip(Bug::ALL)
            .map(|(n, bug)| {
                Row::of(*bug, &[seeds(70, 10), seeds(9_000, 2), seeds(5_000, 0)][n % 3], "task 7 | `x` fails")
            })
            .collect();
        assert_eq!(super::rows(&text(&rows)), rows);
        assert_eq!([rows[0].by, rows[1].by, rows[2].by], [By::Seeds(100), By::Kept, By::Kept]);
        assert_eq!(rows[0].why, "task … fails");
    }

    #[test]
    fn budgets_are_round_and_large_enough() {
        let of = [1, 100, 101, 1_000, 1_001, 4_321].map(round);
        assert_eq!(of, [100, 100, 200, 1_000, 2_000, 5_000]);
    }
}
