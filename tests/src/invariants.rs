//! What always holds, by name: the checks of the world say which of these they are for, and `docs/invariants.md` names the
//! tests that hold the program to each.

use std::fmt;

/// Something that always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// One end, told until it is acknowledged; one start.
    EndsOnce,
    /// A command is applied once.
    AppliedOnce,
    /// What was acknowledged is done.
    NothingLost,
    /// Commands in the server's order.
    InOrder,
    /// Nothing before what it stands on is on the disk.
    WrittenFirst,
    /// No hole in the output, and nothing twice.
    OutputWhole,
    /// The end behind the output.
    EndBehindOutput,
    /// No agent waits for a server.
    NeverBlocked,
    /// Memory and disk have bounds, and what goes beyond is told.
    Bounded,
    /// No process is left.
    TreeEmpty,
    /// No stranger is signalled.
    OwnProcesses,
    /// An interrupt ends a task in time.
    EndsInTime,
    /// An agent outlives its daemon.
    Survives,
    /// What the daemon says that it has, it has.
    NamedAsItIs,
    /// One connection has the say.
    OneLink,
    /// A connection that carries nothing is given up.
    FoundBroken,
    /// The wall clock decides nothing.
    NoWallClock,
    /// No secret stands anywhere.
    SecretsHidden,
    /// No word from outside is run.
    NoWordRuns,
    /// A repository is in the old or the new state.
    GitWhole,
    /// What an agent says of its own work decides.
    AgentDecides,
}

/// What an invariant says, and which tests hold it.
struct Row {
    invariant: Invariant,
    name: &'static str,
    says: &'static str,
    /// Files from the root, each with tests in it.
    tests: &'static [(&'static str, &'static [&'static str])],
}

const WORLD: &str = "tests/tests/world.rs";
const FLEET: &str = "tests/tests/fleet.rs";
const TABLE: &str = "tests/tests/transcripts/table.rs";
const E2E_KILLS: &str = "tests/tests/e2e/kills.rs";
const UPGRADES: &str = "tests/tests/e2e/upgrades.rs";
const NUMBERS: &str = "tests/tests/e2e/numbers.rs";
const WAYS: &str = "tests/tests/e2e/ways.rs";
const SEEDS: &str = "seeds_run_clean_and_see_everything";
const FLEETS: &str = "a_fleet_comes_to_rest";

const ROWS: [Row; 21] = [
    Row {
        invariant: Invariant::EndsOnce,
        name: "ends-once",
        says: "A task that was taken on comes to one end, which is told until it is acknowledged, wherever between two steps \
               the daemon is killed. Its agent is started once at most.",
        tests: &[
            (WORLD, &[SEEDS]),
            (FLEET, &[FLEETS]),
            ("tests/tests/exhaust.rs", &["every_run_of_one_task_comes_to_rest"]),
            (E2E_KILLS, &["kills_at_any_moment_lose_nothing_and_end_nothing_twice"]),
        ],
    },
    Row {
        invariant: Invariant::AppliedOnce,
        name: "applied-once",
        says: "In version 2 a command is applied once, whatever becomes of link, way and daemon; in version 1 the same task \
               is not begun twice, and no message of one session is said twice.",
        tests: &[(WORLD, &[SEEDS]), (FLEET, &[FLEETS]), (WAYS, &["the_way_changes_under_a_task"])],
    },
    Row {
        invariant: Invariant::NothingLost,
        name: "nothing-lost",
        says: "What the daemon acknowledged to the server is applied, and is after any crash. What the server acknowledged \
               to whoever asked is done, once its daemon is there.",
        tests: &[
            (WORLD, &[SEEDS]),
            (FLEET, &[FLEETS, "the_file_keeps_what_the_records_add_up_to"]),
            (E2E_KILLS, &["a_server_that_is_killed_knows_everything_when_it_is_back"]),
        ],
    },
    Row {
        invariant: Invariant::InOrder,
        name: "in-order",
        says: "A task's commands are applied in the server's order. An interrupt that comes before the agent was started \
               ends the task as `interrupted`, and no agent is started.",
        tests: &[
            (WORLD, &[SEEDS]),
            (TABLE, &["each_command_in_each_status"]),
            ("tests/tests/e2e/together.rs", &["ctrl_c_before_the_agent_starts_starts_nothing"]),
        ],
    },
    Row {
        invariant: Invariant::WrittenFirst,
        name: "written-first",
        says: "No process is started, nothing is committed and no end is told before what it stands on is on the disk for \
               good. A task that was taken on goes on in the daemon's next life, also while the server is away.",
        tests: &[
            (WORLD, &[SEEDS]),
            ("runner/tests/executor/records.rs", &["what_is_told_lasts", "a_task_is_remembered_as_far_as_it_came"]),
            ("tests/tests/e2e/faults.rs", &["a_full_disk_at_each_write", "a_broken_disk_at_each_write"]),
        ],
    },
    Row {
        invariant: Invariant::OutputWhole,
        name: "output-whole",
        says: "What the server has of a task's output is a beginning of what the agent wrote, masked: no hole, and in version \
               2 nothing twice. What was cut away for want of room stands in it as a line that says so.",
        tests: &[
            (WORLD, &[SEEDS]),
            (FLEET, &[FLEETS]),
            (
                "tests/tests/e2e/kill_loop.rs",
                &["a_daemon_that_is_killed_all_the_time_loses_nothing_and_doubles_nothing"],
            ),
        ],
    },
    Row {
        invariant: Invariant::EndBehindOutput,
        name: "end-behind-output",
        says: "The end of a task is told behind all of its output, or behind the line that says what was cut.",
        tests: &[(WORLD, &[SEEDS]), ("tests/tests/transcripts/main.rs", &["a_task_from_spawn_to_branch"])],
    },
    Row {
        invariant: Invariant::NeverBlocked,
        name: "never-blocked",
        says: "A server that is slow or away neither blocks an agent nor ends one.",
        tests: &[
            (
                "runner/tests/executor/bound.rs",
                &["with_nobody_to_take_it_the_first_and_the_newest_are_kept_and_the_rest_is_told_of"],
            ),
            ("runner/tests/executor/output.rs", &["a_full_disk_neither_blocks_nor_kills_and_is_said"]),
        ],
    },
    Row {
        invariant: Invariant::Bounded,
        name: "bounded",
        says: "What the daemon holds in memory and on the disk is bounded. What goes beyond is told, never dropped without a \
               word.",
        tests: &[
            (
                "tests/tests/e2e/bounds.rs",
                &[
                    "more_than_the_disk_is_to_hold_is_cut_in_the_middle_and_the_server_is_told",
                    "after_two_hundred_tasks_no_process_is_left_and_no_descriptor_open",
                ],
            ),
            ("tests/tests/transcripts/bounds.rs", &["one_task_too_many_waits"]),
        ],
    },
    Row {
        invariant: Invariant::TreeEmpty,
        name: "tree-empty",
        says: "After the end of a task no process of its is left, which is looked at; where one cannot be ended it is said.",
        tests: &[
            (WORLD, &[SEEDS]),
            (
                "runner/tests/executor/processes.rs",
                &["nobody_gets_away", "the_next_life_of_the_daemon_ends_what_the_last_one_left"],
            ),
        ],
    },
    Row {
        invariant: Invariant::OwnProcesses,
        name: "own-processes",
        says: "No process is signalled that is not proven to be a task's: by its control group, its kin, the lock that its \
               supervisor holds, and the moment it began.",
        tests: &[
            (
                NUMBERS,
                &[
                    "leaders_of_sessions_with_the_numbers_of_the_dead_are_left_alone",
                    "after_a_restart_of_the_machine_not_even_an_equal_process_is_signalled",
                ],
            ),
            ("runner/tests/executor/processes.rs", &["others_are_left_alone"]),
        ],
    },
    Row {
        invariant: Invariant::EndsInTime,
        name: "ends-in-time",
        says: "An interrupt ends a task within its graces, or it is said that it could not. Pause and interrupt may come twice \
               and in any state.",
        tests: &[(WORLD, &[SEEDS]), ("tests/tests/cells.rs", &["each_cell_is_as_it_was_reviewed"])],
    },
    Row {
        invariant: Invariant::Survives,
        name: "survives",
        says: "An agent outlives its daemon, killed or replaced by another version: the same process, no byte lost, its own \
               exit code.",
        tests: &[
            (
                E2E_KILLS,
                &[
                    "under_a_killed_daemon_the_agent_goes_on_and_the_next_one_has_it_in_hand",
                    "an_agent_that_ends_while_no_daemon_is_there_has_ended_as_it_did",
                ],
            ),
            (UPGRADES, &["another_version_goes_on_from_the_state_and_finds_the_agents"]),
        ],
    },
    Row {
        invariant: Invariant::NamedAsItIs,
        name: "named-as-it-is",
        says: "What the daemon names in a heartbeat or when a session of version 2 begins is what it has: a task that was \
               taken on is left out only once its end was told.",
        tests: &[(WORLD, &[SEEDS]), (FLEET, &[FLEETS])],
    },
    Row {
        invariant: Invariant::OneLink,
        name: "one-link",
        says: "One connection has the say. What comes over one that is gone is counted and nothing else; going over to \
               another way loses and doubles nothing.",
        tests: &[
            (WORLD, &[SEEDS]),
            (WAYS, &["whatever_stands_between_the_result_is_the_same", "the_way_changes_under_a_task"]),
        ],
    },
    Row {
        invariant: Invariant::FoundBroken,
        name: "found-broken",
        says: "A connection that carries nothing is given up within 45 seconds, and many daemons do not come back at once.",
        tests: &[
            (WORLD, &[SEEDS]),
            (
                "core/tests/chance.rs",
                &["waits_are_spread_over_the_whole_window", "waits_stay_in_windows_that_double_to_a_limit"],
            ),
            (WAYS, &["one_that_holds_back_is_found_out"]),
        ],
    },
    Row {
        invariant: Invariant::NoWallClock,
        name: "no-wall-clock",
        says: "The wall clock decides nothing but what has lain for days: set by a day, or stopped by a sleep, it changes no \
               task and no wait.",
        tests: &[(WORLD, &[SEEDS]), ("tests/tests/e2e/faults.rs", &["a_wall_clock_that_is_set_changes_nothing"])],
    },
    Row {
        invariant: Invariant::SecretsHidden,
        name: "secrets-hidden",
        says: "Keys, tokens and passwords of URLs stand in no argument, no agent's environment, no log, no journal, no output \
               and no configuration of git.",
        tests: &[
            ("tests/tests/e2e/secrets_nowhere.rs", &["no_secret_stands_in_journal_states_recordings_or_logs"]),
            (
                "tests/tests/e2e/secrets.rs",
                &[
                    "the_key_and_secret_variables_are_shown_nowhere_and_kept_nowhere",
                    "a_url_with_a_password_is_never_shown_with_it",
                ],
            ),
            ("runner/tests/executor/output.rs", &["secrets_do_not_come_through_however_they_are_written"]),
        ],
    },
    Row {
        invariant: Invariant::NoWordRuns,
        name: "no-word-runs",
        says: "Nothing that a server, a repository or an agent says becomes an option, a transport, a path that leads out, a \
               shell's word or a hook that runs as the daemon.",
        tests: &[
            ("core/tests/policy.rs", &["repositories_that_are_refused", "revisions_that_are_read_and_refused"]),
            ("runner/tests/executor/commits.rs", &["nothing_that_an_agent_chooses_is_run"]),
            ("runner/tests/executor/prepares.rs", &["nothing_that_a_repository_chooses_is_run"]),
        ],
    },
    Row {
        invariant: Invariant::GitWhole,
        name: "git-whole",
        says: "After any crash a repository has the old or the new state, no lock that blocks, no worktree of others' gone \
               and no half of a merge.",
        tests: &[
            (
                "runner/tests/executor/failing.rs",
                &[
                    "a_daemon_killed_at_any_moment_can_do_it_again",
                    "who_comes_after_prepares_and_commits",
                    "a_lock_that_a_killed_git_of_ours_left_is_taken_away",
                ],
            ),
            ("runner/tests/executor/merges_hostile.rs", &["a_daemon_killed_at_any_moment_leaves_before_or_after"]),
        ],
    },
    Row {
        invariant: Invariant::AgentDecides,
        name: "agent-decides",
        says: "A task of an agent that tells how it gets on ends well only where that says so, of all that it was told: each \
               message is taken up once, and none is cut off by the end that is asked of the agent.",
        tests: &[(WORLD, &[SEEDS])],
    },
];

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = ROWS.iter().find(|row| row.invariant == *self);
        f.write_str(row.map_or("", |row| row.name))
    }
}

/// The tests that are named, each with the file that it is in.
pub fn tests() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().flat_map(|row| row.tests).flat_map(|(file, tests)| tests.iter().map(move |test| (*file, *test)))
}

/// What stands in `docs/invariants.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(HEAD);
    for (n, row) in ROWS.iter().enumerate() {
        let test = |(file, tests): &(&str, &[&str])| {
            let names: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            format!("{file}: {}", names.join(", "))
        };
        let tests: Vec<String> = row.tests.iter().map(test).collect();
        text.push_str(&format!("| {} | **{}** | {} | {} |\n", n + 1, row.name, row.says, tests.join("; ")));
    }
    text
}

const HEAD: &str = "\
# What always holds

Twenty things, whatever fails. Each has a name, which the checks of the simulated world say when they fail, and tests that
hold the program to it. Where the world is named it is held in every step of every run: over lost links, kills at any
moment, disks that are full or forget, agents that do not want to end. This file is written from `tests/src/invariants.rs`
(`MAKIMA_WRITE=1 cargo test -p makima-tests --test tidy`), and a test sees to it that the tests are there.

| | name | what holds | tests |
|---|---|---|---|
";

/// Fails the run, by the name of what does not hold.
#[macro_export]
macro_rules! holds {
    ($invariant:ident, $holds:expr, $($why:tt)+) => {
        assert!($holds, "{}: {}", $crate::invariants::Invariant::$invariant, format_args!($($why)+))
    };
}
