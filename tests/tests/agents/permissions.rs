//! What the agent may do, and what is left of it.

use std::fs;
use std::time::Duration;

use makima_tests::api::{Script, Turn};

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, bash, shows};
use crate::support::not_portable;

/// Who is still somebody of these.
fn left(pids: &str) -> Vec<String> {
    let is_there = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    };
    fs::read_to_string(pids).expect("their numbers").lines().filter(is_there).map(str::to_owned).collect()
}

/// Protects the machine: what the agent's commands leave behind in any way is gone once the task has ended.
#[test]
fn nothing_is_left_of_what_commands_leave_behind() {
    if not_portable("who leaves the group gets away") {
        return;
    }
    with_each(|claude| {
        let script = Script::new().fallback(Turn::text("Done."));
        let scene = Scene::new(claude, May::All, script);
        let pids = scene.file("pids");
        let stay = format!("echo $$ >> '{pids}'; exec sleep 100000");
        let deaf = format!("trap '' TERM INT HUP; echo $$ >> '{pids}'; while :; do sleep 0.05; done");
        fs::write(scene.place.path("stay"), stay).expect("a script");
        fs::write(scene.place.path("deaf"), deaf).expect("a script");
        let [stay, deaf] = ["stay", "deaf"].map(|name| scene.file(name));
        let command = format!(
            "sh '{stay}' > /dev/null 2>&1 &
            nohup sh '{stay}' > /dev/null 2>&1 &
            setsid sh '{deaf}' > /dev/null 2>&1 &
            (env -i PATH=\"$PATH\" setsid sh -c \"cd / && exec sh '{stay}'\" > /dev/null 2>&1 &)
            until test \"$(grep -c . '{pids}')\" = 4; do sleep 0.05; done; echo work > work"
        );
        scene.api.push(bash(Turn::default(), &command));
        scene.api.push(Turn::text("They stay.").first_delay(Duration::from_millis(500)));
        let run = scene.run("Leave something behind").start();
        assert!(scene.api.wait_for(2, PATIENCE), "{:#?}", scene.short());
        assert_eq!(left(&pids).len(), 4, "they outlive their command");
        let done = run.wait(PATIENCE).code(0);
        assert_eq!(left(&pids), Vec::<String>::new(), "the end is told");
        assert_eq!(scene.repo.show(&scene.repo.branch(), "work"), "work");
        assert_eq!(scene.asked().len(), 2, "{:#?}", scene.short());
        drop(done.noted(&["ended processes that the agent left behind: "]));
    });
}

/// Protects a machine from an agent that may only change files: a command is denied, which is told, and the agent goes on.
#[test]
fn a_command_is_denied_where_only_edits_are_accepted() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new().fallback(Turn::text("I do without it.")));
        let denied = scene.place.path("denied");
        scene.api.push(bash(Turn::text("I try."), &format!("sh -c 'echo no > {}'", denied.display())));
        let done = scene.done("Try it").code(0);
        assert!(!denied.exists(), "it was not run");
        let results = scene.asked()[1].tool_results();
        assert!(results.len() == 1 && results[0].is_error, "{results:#?}");
        assert!(results[0].text.contains("Nobody can be asked"), "{results:#?}");
        assert_eq!(scene.asked().len(), 2, "{:#?}", scene.short());
        shows(&done, &["I try.", "I do without it."]);
        drop(done.noted(&["denied, as its permissions are: Bash: sh -c", "] done\n"]));
    });
}
