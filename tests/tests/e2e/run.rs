//! The main job: a plan becomes a branch.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Done, Place, Repo};

/// The commands that a run printed do what they say, where they say it.
fn follow_advice(done: &Done, repo: &Repo, folder: &std::path::Path, file: &str) {
    let shell = |line: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", line]).current_dir(folder).env("GIT_PAGER", "cat");
        command.output().expect("a shell")
    };
    let look = shell(&done.fact("look"));
    assert!(look.status.success() && String::from_utf8_lossy(&look.stdout).contains(file), "{look:?}");
    let merge = shell(&done.fact("merge"));
    assert!(merge.status.success(), "{merge:?}");
    assert!(repo.path().join(file).exists(), "the work is merged");
}

#[test]
fn a_plan_becomes_a_branch_with_trailers_and_the_users_identity() {
    let place = Place::new();
    let repo = place.repo();
    let before = repo.state();
    let plan = "printf 'to stdout\\n'; echo changed > readme; mkdir new; echo hi > new/file; echo last";
    let done = place.run(&repo, &["--name", "Tidy  the\tdocs", plan]).done().code(0);
    assert_eq!(done.out(), "to stdout\nlast\n", "stdout is the agent's output and nothing else");

    let branch = repo.branch();
    assert!(branch.starts_with("makima/tidy-the-docs-"), "{branch}");
    assert_eq!(repo.show(&branch, "new/file"), "hi");
    assert_eq!(repo.show(&branch, "readme"), "changed");
    assert_eq!(repo.git(["rev-parse", &format!("{branch}^")]), repo.git(["rev-parse", "main"]));
    let said =
        repo.git(["log", "-1", "--format=%an <%ae>|%cn <%ce>|%s|%(trailers:key=Makima-Task,valueonly)", &branch]);
    let id = branch.get(branch.len() - 36..).expect("the task's id");
    let expected = "Ada Author <ada@example.com>|Cora Committer <cora@example.com>|Tidy the docs|";
    assert_eq!(said.trim(), format!("{expected}{id}"));
    let worktree = place.home().join("worktrees").join(id);
    assert_eq!(fs::read_to_string(worktree.join("new/file")).expect("it is kept"), "hi\n");
    assert_eq!(repo.state(), before, "the user's own files are left alone");
    place.assert_nothing_runs();
}

#[test]
fn the_end_names_the_branch_and_what_to_do_with_it_and_that_works() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["echo a > a; echo b >> readme"]).done().code(0);
    assert_eq!(done.fact("branch"), repo.branch());
    assert_eq!(done.fact("changes"), "2 files changed, 2 insertions(+)");
    assert_eq!(done.err().matches("] done\n").count(), 1, "the end is told once");
    follow_advice(&done, &repo, repo.path(), "a");

    // From elsewhere the same commands lead there; a path that a shell would take apart is no exception.
    let repo = Repo::with_a_commit(&place.path("it's a place"));
    let path = repo.path().to_str().expect("a plain path").to_owned();
    let done = place.makima(["run", "--agent", "shell", "--repo", &path, "echo c > c"]).done().code(0);
    follow_advice(&done, &repo, place.root(), "c");
}

#[test]
fn the_base_may_be_a_branch_a_tag_a_commit_or_where_a_detached_head_stands() {
    let place = Place::new();
    let repo = place.repo();
    let first = repo.git(["rev-parse", "HEAD"]);
    repo.git(["tag", "-m", "annotated", "v1"]);
    repo.git(["switch", "--quiet", "--create", "topic"]);
    repo.write("topic", "t\n");
    let topic = repo.commit("On topic");
    repo.git(["switch", "--quiet", "main"]);
    repo.write("main", "m\n");
    let main = repo.commit("On main");
    for (base, expected) in
        [(Some("topic"), &topic), (Some("v1"), &first), (Some(topic.as_str()), &topic), (None, &main)]
    {
        let base = base.map(|base| ["--base", base]);
        let words: Vec<&str> = base.iter().flatten().copied().chain(["echo x > x"]).collect();
        place.run(&repo, &words).done().code(0);
        let branch = repo.branch();
        assert_eq!(&repo.git(["rev-parse", &format!("{branch}^")]), expected, "{words:?}");
        repo.git(["branch", "--quiet", "-D", &branch]);
    }
    repo.git(["switch", "--quiet", "--detach", &first]);
    place.run(&repo, &["echo x > x"]).done().code(0);
    assert_eq!(repo.git(["rev-parse", &format!("{}^", repo.branch())]), first);
    assert_eq!(repo.git(["rev-parse", "HEAD"]), first);
    let done = place.run(&repo, &["--base", "nowhere", "true"]).done().code(2);
    done.noted(&["no branch, tag or commit `nowhere`", "check --base"]);
}

#[test]
fn the_plan_may_come_from_a_file_or_from_stdin() {
    let place = Place::new();
    let repo = place.repo();
    let plan = "#!/bin/sh\necho from \"$0\" | grep -q plan && echo yes\n";
    fs::write(place.path("plan.sh"), plan).expect("a plan");
    let file = place.path("plan.sh");
    let file = file.to_str().expect("a plain path");
    assert_eq!(place.run(&repo, &["--plan-file", file]).done().code(0).out(), "yes\n");
    assert_eq!(place.run(&repo, &["-"]).stdin("echo from stdin").done().code(0).out(), "from stdin\n");
    assert_eq!(place.run(&repo, &["echo", "several", "words"]).done().code(0).out(), "several words\n");
    place.run(&repo, &["--plan-file", "/nowhere/plan"]).done().code(2).noted(&["/nowhere/plan", "cannot be read"]);
    place.run(&repo, &["-"]).stdin(" \n").done().code(2).noted(&["the plan is empty"]);
    place.run(&repo, &[]).done().code(2).noted(&["PLAN"]);
    place.run(&repo, &["--plan-file", file, "and words"]).done().code(2).noted(&["cannot be used with"]);
}

#[test]
fn without_an_action_the_work_is_kept_and_it_is_said_where() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["--on-complete", "none", "echo kept > kept"]).done().code(0);
    assert!(repo.branches().is_empty());
    let look = done.fact("look");
    let output =
        std::process::Command::new("sh").args(["-c", &look]).env("GIT_PAGER", "cat").output().expect("a shell");
    assert!(String::from_utf8_lossy(&output.stdout).contains("+kept"), "{look}: {output:?}");
}

#[test]
fn json_is_a_value_a_line_with_the_end_last() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["--json", "echo one; echo two; echo x > x"]).done().code(0);
    let out = done.out();
    let values: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let kinds: Vec<&str> = values.iter().map(|value| value["type"].as_str().expect("a type")).collect();
    assert!(kinds[..kinds.len() - 1].iter().all(|kind| *kind != "end"), "{kinds:?}");
    let output: String =
        values.iter().filter(|value| value["type"] == "output").filter_map(|value| value["text"].as_str()).collect();
    assert_eq!(output, "one\ntwo\n");
    let statuses: Vec<&str> =
        values.iter().filter(|value| value["type"] == "status").filter_map(|value| value["status"].as_str()).collect();
    assert_eq!(statuses, ["preparing", "running", "finishing", "done"]);
    let end = values.last().expect("an end");
    assert_eq!(end["type"], "end");
    assert_eq!(end["task"]["success"], true);
    assert_eq!(end["task"]["branch"], repo.branch());
    let last = out.lines().last().expect("a line");
    let keys = ["id", "name", "status", "success", "error", "branch", "createdAt", "endedAt"];
    let places: Vec<_> = keys.iter().map(|key| last.find(&format!("\"{key}\":"))).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{last}");

    // A failure is told in the same way, and by the exit code.
    let done = place.run(&repo, &["--json", "exit 4"]).done().code(1);
    let out = done.out();
    let end: Value = serde_json::from_str(out.lines().last().expect("an end")).expect("JSON");
    assert_eq!((&end["task"]["success"], &end["task"]["status"]), (&Value::from(false), &Value::from("failed")));
    assert!(end["task"]["error"].as_str().is_some_and(|why| why.contains("exit code 4")), "{end}");
}

#[test]
fn raw_is_the_agents_output_and_nothing_else() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["--raw", "printf '\\033[1mbold\\033[0m\\r\\n'; echo x > x"]).done().code(0);
    assert_eq!(done.out(), "\u{1b}[1mbold\u{1b}[0m\r\n");
    assert_eq!(done.err(), "");
    assert_eq!(repo.branches().len(), 1);
}

#[test]
fn the_repository_is_found_from_a_folder_inside_it() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["cat readme; echo x > x"]).at(repo.path().join("src")).done().code(0);
    assert_eq!(done.out(), "first\n", "the plan begins at the top of its worktree");
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
    follow_advice(&done, &repo, &repo.path().join("src"), "x");
}

#[test]
fn what_the_user_has_not_committed_is_left_out_and_left_alone() {
    let place = Place::new();
    let repo = place.repo();
    repo.git(["config", "core.autocrlf", "false"]);
    repo.write("readme", "stashed\n");
    repo.git(["stash", "--quiet"]);
    repo.write("readme", "staged\n");
    repo.git(["add", "readme"]);
    repo.write("readme", "staged and changed again\n");
    repo.write("untracked", "new\n");
    repo.git(["rm", "--quiet", "--cached", "src/code"]);
    let before = repo.state();
    let done = place.run(&repo, &["cat readme src/code; ls; echo x >> readme"]).done().code(0);
    assert_eq!(done.out(), "first\none\nreadme\nsrc\n");
    assert_eq!(repo.state(), before);
    assert_eq!(repo.show(&repo.branch(), "readme"), "first\nx");
    drop(done.noted(&["with uncommitted changes: left out, and left as they are"]));
}

#[test]
fn work_of_a_plan_that_fails_is_committed_and_delivered_all_the_same() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["echo half > half; exit 3"]).done().code(1);
    let branch = repo.branch();
    assert_eq!(repo.show(&branch, "half"), "half");
    assert_eq!(done.fact("branch"), branch);
    drop(done.noted(&["error: the script ended with exit code 3"]));
    let done = place.run(&repo, &["kill -9 $$"]).done().code(1);
    drop(done.noted(&["the script was ended by signal 9", "no changes"]));
}

#[test]
fn a_plan_that_changes_nothing_leaves_no_branch_and_says_so() {
    let place = Place::new();
    let repo = place.repo();
    place.run(&repo, &["echo only words"]).done().code(0).noted(&["\nno changes\n"]);
    assert!(repo.branches().is_empty());
}

#[test]
fn a_run_ends_soon_after_its_plan() {
    let place = Place::new();
    let repo = place.repo();
    let times = (0..3).map(|_| {
        let begun = Instant::now();
        place.run(&repo, &["true"]).done().code(0);
        begun.elapsed()
    });
    // Half a second where nothing else runs; whatever waits for a timeout takes longer each time.
    let best = times.min().expect("three");
    assert!(best < Duration::from_millis(1_800), "{best:?}");
}

#[test]
fn an_agent_has_to_be_named_and_to_be_one_that_can_run() {
    let place = Place::new();
    let repo = place.repo();
    place.makima(["run", "true"]).at(repo.path()).done().code(2).noted(&["no agent was named", "--agent shell"]);
    let other = place.makima(["run", "--agent", "nobody", "true"]).at(repo.path()).done().code(2);
    drop(other.noted(&["`nobody`", "claude, acp:COMMAND, shell"]));
    let claude = place.makima(["run", "--agent", "claude", "true"]).at(repo.path()).done().code(2);
    drop(claude.noted(&["there is no `claude` on PATH", "npm install"]));
    assert!(!place.home().exists(), "nothing was started");
    place.configure("agent = \"shell\"\n");
    place.makima(["run", "echo by the file"]).at(repo.path()).done().code(0);
}
