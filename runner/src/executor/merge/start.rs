//! Beginning a merge: the result first, then the worktree.

use std::collections::BTreeMap;

use fs_err as fs;
use makima_core::effect::{Child, Source};
use makima_core::input::Merging;
use makima_core::policy::merge_message;

use super::super::bare::OURS;
use super::super::git::BRING;
use super::super::harvest::{self, Harvest};
use super::super::record::{Folder, forgiving};
use super::super::refs;
use super::super::scene::put_new;
use super::super::trouble::Trouble;
use super::super::workshop::Workshop;
use super::files::{Entry, Files, Version, names, stage_line};
use super::lock::{Lock, put_index};
use super::look::{Sight, shown};
use super::{Begun, Job, Phase, list};

/// What is to be merged.
enum Meant {
    /// The branch of this name, at this commit.
    Branch(String, String),
    /// A subtask that ended without a change.
    Unchanged,
    /// Nothing that may be.
    Nothing,
}

/// What merging comes to.
pub(super) struct Merged {
    pub(super) tree: String,
    /// The stages of each file in conflict.
    pub(super) stages: BTreeMap<Vec<u8>, Vec<(u8, Entry)>>,
}

impl Merged {
    /// Reads `<tree>\0`, and `<mode> <oid> <stage>\t<path>\0` for each stage of a file in conflict. None where there is
    /// no tree.
    pub(super) fn read(said: &[u8]) -> Option<Self> {
        let mut fields = said.split(|byte| *byte == 0);
        let tree = String::from_utf8_lossy(fields.next().unwrap_or_default()).trim().to_owned();
        if !refs::is_oid(&tree) {
            return None;
        }
        let mut stages: BTreeMap<Vec<u8>, Vec<(u8, Entry)>> = BTreeMap::new();
        for field in fields.take_while(|field| !field.is_empty()) {
            let Some(tab) = field.iter().position(|byte| *byte == b'\t') else { continue };
            let (head, path) = field.split_at(tab);
            let head = String::from_utf8_lossy(head);
            let words: Vec<&str> = head.split(' ').collect();
            let ([mode, oid, stage], Some(path)) = (words.as_slice(), path.get(1..)) else { continue };
            let entry = Entry { mode: (*mode).to_owned(), oid: (*oid).to_owned() };
            stages.entry(path.to_vec()).or_default().push((stage.parse().unwrap_or_default(), entry));
        }
        Some(Self { tree, stages })
    }
}

impl Job<'_> {
    pub(super) async fn start(&self, source: &Source) -> Result<Merging, Trouble> {
        let begun = self.mend().await?;
        let sight = self.look().await?;
        let found = self.find(source).await?;
        if sight.unfinished {
            let merging = sight.merging.as_deref().unwrap_or_default();
            let ours = begun.filter(|begun| begun.is(merging));
            return match (ours, found) {
                (Some(ours), Meant::Branch(name, _)) if ours.source == name => {
                    let shop = self.open(&sight).await?;
                    self.opened(&shop, Some(&ours), merging).await
                }
                (ours, _) => Ok(Merging::Busy(ours.map(|ours| ours.source))),
            };
        }
        let (source, commit) = match found {
            Meant::Branch(name, commit) => (name, commit),
            Meant::Unchanged => return Ok(Merging::Already),
            Meant::Nothing => return Ok(Merging::NoBranch),
        };
        let lock = self.lock().await?;
        let shop = self.open(&sight).await?;
        if !self.is_commit(&shop, &commit).await? {
            return Ok(Merging::NoBranch);
        }
        if self.leads_to(&shop, &sight.at, &commit).await? {
            return Ok(Merging::Already);
        }
        let call = shop.call("diff-index").args(["--cached", "--name-only", "-z", "--ignore-submodules=none"]);
        let staged = names(&self.run(call.names([&sight.at])).await?.out);
        if !staged.is_empty() {
            return Ok(in_the_way(staged));
        }
        let merged = self.result(&shop, &sight.at, &commit).await?;
        let before =
            self.line(shop.call("rev-parse").arg("--verify").names([format!("{}^{{tree}}", sight.at)])).await?;
        if before == merged.tree && merged.stages.is_empty() || self.was_squashed(&shop, &sight, &commit).await? {
            return Ok(Merging::Already);
        }
        let files = self.lay_out(&shop, &before, &merged.tree).await?;
        let dirty = self.dirty(&shop).await?;
        let (looked, files) = self.done(move || Ok((files.in_the_way(&dirty), files))).await?;
        if !looked.is_empty() {
            return Ok(in_the_way(looked));
        }
        let begun = Begun { source, commit, before: sight.at.clone(), tree: merged.tree.clone(), phase: Phase::Open };
        self.apply(&shop, &sight, begun.clone(), merged, files, lock).await?;
        self.opened(&shop, Some(&begun), &begun.commit).await
    }

    /// Which branch is meant, and where it stands.
    async fn find(&self, source: &Source) -> Result<Meant, Trouble> {
        match source {
            Source::Child(child) if !child.ended => Ok(Meant::Nothing),
            Source::Child(child) => {
                let Some(commit) = self.child_tip(child.task).await? else { return self.without_tip(child).await };
                let is_ours = child.branch.is_some()
                    || list::bears(self.hands, self.cancel, &self.bare, child.task, self.task).await?;
                let name = child.branch.as_ref().map_or_else(|| self.name_of(child.task), ToString::to_string);
                Ok(if is_ours { Meant::Branch(name, commit) } else { Meant::Nothing })
            }
            Source::Branch(name) => {
                let odd = name.starts_with(['-', '/', '.']) || name.contains("..") || name.contains("//");
                if odd || name.contains(|letter: char| letter.is_control() || " ~^:?*[\\".contains(letter)) {
                    return Ok(Meant::Nothing);
                }
                let full = format!("refs/heads/{name}");
                if let Some(commit) = refs::find(&self.git, &full).await {
                    return Ok(Meant::Branch(name.clone(), commit));
                }
                for found in self.others().await? {
                    if found.name == *name {
                        return Ok(Meant::Branch(name.clone(), found.oid));
                    }
                }
                let found = refs::find(&self.bare, &full).await;
                Ok(found.map_or(Meant::Nothing, |commit| Meant::Branch(name.clone(), commit)))
            }
        }
    }

    /// A subtask of which no work is here.
    async fn without_tip(&self, child: &Child) -> Result<Meant, Trouble> {
        if child.branch.is_none() {
            return Ok(Meant::Nothing);
        }
        match harvest::of(self.hands, child.task).await? {
            Harvest::Nothing => Ok(Meant::Unchanged),
            Harvest::Commit { tip } => Err(Trouble::Plain(format!("its work is the commit {tip}, which is not there"))),
            Harvest::Lies { why } => Err(Trouble::Plain(format!("its work is in no commit that is here: {why}"))),
        }
    }

    /// Where the work of a subtask stands, which is in the repository that this one borrows from by then.
    async fn child_tip(&self, child: makima_core::id::TaskId) -> Result<Option<String>, Trouble> {
        let name = format!("{OURS}{child}");
        let here = refs::find(&self.bare, &name).await;
        let standing = Folder::of(&self.hands.home, child).standing().ok().flatten();
        let Some(other) = standing.map(|standing| standing.bare).filter(|bare| *bare != self.bare) else {
            return Ok(here);
        };
        let there = refs::find(&other, &name).await;
        if there.is_none() || there == here {
            return Ok(here);
        }
        let wanted = [format!("+{name}:{name}")];
        self.hands.bare(self.bare.clone()).take(self.hands, self.cancel, &other, &wanted).await?;
        Ok(there)
    }

    async fn result(&self, shop: &Workshop, ours: &str, theirs: &str) -> Result<Merged, Trouble> {
        let call = shop.call("merge-tree").args(["--write-tree", "-z", "--no-messages", "--allow-unrelated-histories"]);
        let said = self.run(call.names([ours, theirs]).fine(&[0, 1]).limit(BRING)).await?.out;
        Merged::read(&said).ok_or_else(|| Trouble::Plain("git made no tree of it".to_owned()))
    }

    /// Makes it the worktree's. All that may be refused is done before anything is touched.
    async fn apply(
        &self,
        shop: &Workshop,
        sight: &Sight,
        begun: Begun,
        merged: Merged,
        files: Files,
        lock: Lock,
    ) -> Result<(), Trouble> {
        let saved = self.folder.file("index");
        fs::copy(shop.index(), &saved)?;
        self.run(shop.call("read-tree").args(["-i", "-m"]).names([&sight.at, &merged.tree])).await?;
        let mut lines = Vec::new();
        let nothing = Entry { mode: "0".to_owned(), oid: "0".repeat(merged.tree.len()) };
        for (path, stages) in &merged.stages {
            lines.extend(stage_line(&nothing, 0, path));
            for (stage, entry) in stages {
                lines.extend(stage_line(entry, *stage, path));
            }
        }
        if !lines.is_empty() {
            self.run(shop.call("update-index").args(["-z", "--index-info"]).input(lines)).await?;
        }
        self.give_objects(shop).await?;
        let mut message = merge_message(&begun.source, None) + "\n";
        if !merged.stages.is_empty() {
            message.push_str("\n# Conflicts:\n");
            merged.stages.keys().for_each(|path| message.push_str(&format!("#\t{}\n", shown(path).escape_debug())));
        }
        let (folder, git, index, marks) = (self.folder.clone(), self.git.clone(), shop.index(), self.marks());
        // From here on nothing calls it off.
        self.done(move || {
            folder.merges(&Begun { phase: Phase::Starting, ..begun.clone() })?;
            let put = || {
                files.put(Version::New)?;
                lock.put_index(&index)?;
                put_new(&git.join("MERGE_MSG"), &mut message.as_bytes())?;
                put_new(&git.join("MERGE_MODE"), &mut &b""[..])?;
                put_new(&git.join("makima.new"), &mut format!("{}\n", begun.commit).as_bytes())?;
                fs::rename(git.join("makima.new"), git.join("MERGE_HEAD"))
            };
            if let Err(failure) = put() {
                for mark in &marks {
                    forgiving(fs::remove_file(mark))?;
                }
                files.put_back()?;
                lock.put_index(&saved)?;
                folder.merges_nothing()?;
                return Err(failure);
            }
            folder.merges(&begun)
        })
        .await
    }

    /// Puts everything where it was before a merge.
    pub(super) async fn put_back(&self, shop: &Workshop, begun: &Begun, lock: &Lock) -> Result<(), Trouble> {
        let files = self.lay_out(shop, &begun.before, &begun.tree).await?;
        let (marks, started) = (self.marks(), begun.phase == Phase::Starting);
        let (git, index) = (lock.git().to_path_buf(), self.folder.file("index"));
        self.done(move || {
            if started {
                files.put_back()?
            } else {
                files.put(Version::Old)?
            }
            marks.iter().try_for_each(|mark| forgiving(fs::remove_file(mark)))?;
            put_index(&git, &index)
        })
        .await
    }
}

fn in_the_way(paths: std::collections::BTreeSet<Vec<u8>>) -> Merging {
    Merging::InTheWay(paths.iter().map(|path| shown(path)).collect())
}
