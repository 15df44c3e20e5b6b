//! The branches of subtasks into their orchestrator's worktree, as a person does it: looked at anew after each step, as
//! each may have been done or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use makima_tests::real::{Failure, git};
use serde_json::{Value, json};

use super::people::People;

/// An orchestrator, and who merges for it.
pub(crate) struct Merging<'a> {
    pub(crate) people: People<'a>,
    pub(crate) boss: &'a str,
}

impl Merging<'_> {
    fn path(&self, what: &str) -> String {
        format!("/api/v1/tasks/{}/{what}", self.boss)
    }

    /// Merges the branch of this subtask. Where it is to be taken back, it is begun and taken back before. Gives the files
    /// of which not its own way stayed.
    pub(crate) fn merge(&self, child: &str, mut take_back: bool) -> Result<BTreeSet<String>, Failure> {
        let (mut has_conflicts, mut others) = (false, BTreeSet::new());
        loop {
            let status = self.people.ask("GET", &self.path("merge?wait=60"), &Value::Null)?;
            let branch = match self.branch(child)? {
                Some((_, true)) if status["inProgress"] == false => break,
                Some((branch, _)) => branch,
                None => {
                    self.people.pause(&format!("the branch of {child}, which is not listed"))?;
                    continue;
                }
            };
            let conflicts: Vec<&str> =
                status["conflictedFiles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if status["inProgress"] != true {
                self.tell("merge?wait=60", &json!({ "branch": branch }))?;
            } else if status["sourceBranch"] != branch.as_str() {
                return Err(format!("{status} is under way, and nobody has begun that; {branch} was to be").into());
            } else if take_back {
                self.tell("merge/abort?wait=60", &json!({}))?;
                take_back = false;
            } else if conflicts.is_empty() {
                self.tell("merge/commit?wait=60", &json!({ "message": format!("Take {child}") }))?;
            } else {
                has_conflicts = true;
                for file in conflicts {
                    if !self.resolve(file)? {
                        others.insert(file.to_owned());
                    }
                }
            }
            self.people.ledger.may_go_on(&format!("the merge of {child}: {status}"))?;
        }
        self.people.ledger.note(&format!("{child} is merged"));
        self.people.ledger.count(|counts| {
            counts.merges += 1;
            counts.conflicts += u64::from(has_conflicts);
        });
        Ok(others)
    }

    /// The branch of a subtask, and whether it is merged.
    fn branch(&self, child: &str) -> Result<Option<(String, bool)>, Failure> {
        let list = self.people.ask("GET", &self.path("branches?wait=60"), &Value::Null)?;
        let all = list["branches"].as_array();
        let found = all.into_iter().flatten().find(|branch| branch["taskId"] == child);
        Ok(found.and_then(|branch| Some((branch["name"].as_str()?.to_owned(), branch["isMerged"] == true))))
    }

    /// One step, which may be done or not.
    fn tell(&self, what: &str, body: &Value) -> Result<(), Failure> {
        let answer = self.people.once("POST", &self.path(what), body)?;
        self.people.ledger.note(&format!("{what} {body}: {answer:?}"));
        Ok(())
    }

    /// Of files that each writes in its own way one stays, of others the lines of both. Gives whether the subtask's are
    /// there.
    fn resolve(&self, file: &str) -> Result<bool, Failure> {
        let (is_choice, is_theirs) = (file.starts_with("choice/"), file.ends_with(['0', '2']));
        if !is_choice && !file.starts_with("shared/") {
            return Err(format!("{file} is in conflict, and only one task writes it").into());
        }
        if is_choice && (is_theirs || !self.is_half_merged(file)) {
            let strategy = if is_theirs { "theirs" } else { "ours" };
            self.tell("merge/resolve?wait=60", &json!({ "file": file, "strategy": strategy }))?;
            return Ok(is_theirs);
        }
        // Nothing is lost by a try that fails: what both sides have, git has.
        if let Err(why) = self.edit(file, is_choice) {
            self.people.ledger.note(&format!("{file} could not be edited: {why}"));
            self.people.pause(file)?;
        }
        Ok(!is_choice)
    }

    fn side(&self, stage: u8, file: &str) -> Result<String, Failure> {
        git(&self.worktree(), &["show", &format!(":{stage}:{file}")])
    }

    /// Whether our side is what was committed of a merge that its orchestrator's end came upon.
    fn is_half_merged(&self, file: &str) -> bool {
        self.side(2, file).is_ok_and(|ours| ours.lines().any(|line| line.starts_with("<<<<<<<")))
    }

    /// Puts the lines of both sides, or of `ours` only, into the file, each once, and says that it is settled.
    fn edit(&self, file: &str, is_ours: bool) -> Result<(), Failure> {
        let worktree = self.worktree();
        let (ours, theirs) = (self.side(2, file)?, self.side(3, file)?);
        let is_mark = |line: &&str| ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|mark| line.starts_with(mark));
        let all = ours.lines().chain(theirs.lines());
        let own = ours.lines().take_while(|line| !line.starts_with("======="));
        let wanted: Vec<&str> = if is_ours { own.collect() } else { all.collect() };
        let mut lines: Vec<&str> = Vec::new();
        for line in wanted.into_iter().filter(|line| !is_mark(line)) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        fs::write(worktree.join(file), lines.join("\n") + "\n")?;
        git(&worktree, &["add", file])?;
        Ok(())
    }

    fn worktree(&self) -> PathBuf {
        self.people.root.join("makima/worktrees").join(self.boss)
    }

    /// This one's branch is meant not to be merged.
    pub(crate) fn skip(&self, child: &str, why: &str) -> Result<(), Failure> {
        let body = json!({ "subtaskId": child, "reason": why });
        loop {
            let answer = self.people.ask("POST", &self.path("merge/skip?wait=60"), &body)?;
            if answer["success"] == true {
                return Ok(());
            }
            self.people.pause(&format!("{child}, which cannot be skipped: {answer}"))?;
        }
    }

    /// Nothing is left to be merged, by the daemon's word.
    pub(crate) fn is_complete(&self) -> Result<(), Failure> {
        loop {
            let answer = self.people.ask("GET", &self.path("merge/check?wait=60"), &Value::Null)?;
            if answer["canComplete"] == true {
                return Ok(());
            }
            // Where nothing could be found out, there is nothing in it.
            if answer["unmergedBranches"].as_array().is_some_and(|branches| !branches.is_empty()) {
                return Err(format!("everything is merged or skipped, and it says {answer}").into());
            }
            self.people.pause(&format!("the check of the merges: {answer}"))?;
        }
    }
}
