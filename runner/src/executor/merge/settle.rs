//! Settling a merge that is under way: a file, all of it, or taking it back.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use fs_err as fs;
use makima_core::effect::Side;
use makima_core::input::Merging;
use makima_core::policy::merge_message;

use super::super::foreign::{self, SMALL};
use super::super::record::forgiving;
use super::super::refs::{self, Head};
use super::super::scene::{make_folders, put_new};
use super::super::trouble::Trouble;
use super::super::{sign, user};
use super::files::{Change, Entry, Version, stage_line};
use super::look::{Sight, shown};
use super::{Begun, Job, Phase};

impl Job<'_> {
    pub(super) async fn resolve(&self, file: &str, side: Side) -> Result<Merging, Trouble> {
        let begun = self.mend().await?;
        let sight = self.look().await?;
        let Some(merging) = sight.merging.clone() else { return Ok(Merging::Nothing) };
        let lock = self.lock().await?;
        let shop = self.open(&sight).await?;
        let conflicts = self.conflicts(&shop).await?;
        let Some(path) = conflicts.into_iter().find(|path| shown(path) == file) else {
            return Ok(Merging::NoConflict);
        };
        let listed = self.run(shop.call("ls-files").args(["--unmerged", "-z"])).await?.out;
        let stage = match side {
            Side::Ours => "2",
            Side::Theirs => "3",
        };
        let chosen = listed.split(|byte| *byte == 0).find_map(|entry| entry_of(entry, &path, stage));
        let any = Entry { mode: "100644".to_owned(), oid: "0".repeat(sight.at.len()) };
        // Whatever the file is now, it is to become that.
        let change = Change { path: path.clone(), old: None, new: chosen.clone() };
        let files = self.lay_out_these(&shop, vec![change]).await?;
        let mut lines = stage_line(&Entry { mode: "0".to_owned(), ..any }, 0, &path);
        if let Some(entry) = &chosen {
            lines.extend(stage_line(entry, 0, &path));
        }
        self.run(shop.call("update-index").args(["-z", "--index-info"]).input(lines)).await?;
        let index = shop.index();
        self.done(move || {
            // In this order: what breaks off between the two is asked for again.
            files.put(Version::New)?;
            lock.put_index(&index)
        })
        .await?;
        self.opened(&shop, begun.as_ref(), &merging).await
    }

    pub(super) async fn commit(
        &self,
        message: Option<String>,
        trailers: &[(&'static str, String)],
    ) -> Result<Merging, Trouble> {
        let begun = self.mend().await?;
        let sight = self.look().await?;
        let Some(merging) = sight.merging.clone() else { return self.was_committed(&sight, begun).await };
        let lock = self.lock().await?;
        let shop = self.open(&sight).await?;
        if !self.conflicts(&shop).await?.is_empty() {
            return self.opened(&shop, begun.as_ref(), &merging).await;
        }
        if !self.is_commit(&shop, &merging).await? {
            return Err(Trouble::Plain(format!("MERGE_HEAD names {merging}, which is no commit that is there")));
        }
        let begun = begun.filter(|begun| begun.is(&merging)).unwrap_or_else(|| Begun {
            source: merging.chars().take(10).collect(),
            commit: merging.clone(),
            before: sight.at.clone(),
            tree: String::new(),
            phase: Phase::Open,
        });
        let tree = self.line(shop.call("write-tree")).await?;
        let text = worded(message, &begun.source, trailers);
        let user = user::of_task(self.hands, self.task, self.cancel).await;
        let made =
            sign::make(self.hands, &user, self.cancel, shop.call("commit-tree"), &tree, &[&sight.at, &merging], text)
                .await?;
        self.give_objects(&shop).await?;
        self.write_down(&begun, Phase::Committing(made.clone()))?;
        let (git, head, at, tip) = (self.git.clone(), sight.head.clone(), sight.at.clone(), made.clone());
        if let Err(why) = self.done(move || advance(&git, &head, &at, &tip)).await {
            self.write_down(&begun, Phase::Open)?;
            return Err(why);
        }
        self.finish(&sight, &begun, &made).await?;
        drop(lock);
        self.write_down(&begun, Phase::Committed(made.clone()))?;
        Ok(Merging::Committed(made))
    }

    /// The branch is at the merge: the rest of it.
    pub(super) async fn finish(&self, sight: &Sight, _: &Begun, made: &str) -> Result<(), Trouble> {
        let marks = self.marks();
        self.done(move || marks.iter().try_for_each(|mark| forgiving(fs::remove_file(mark)))).await?;
        let shop = self.open(&Sight { at: made.to_owned(), ..sight.clone() }).await?;
        self.bring(&shop, made).await?;
        let git = self.git.clone();
        self.done(move || super::lock::clear(&git)).await
    }

    /// Nothing is open: it may be that it was committed before, by us or by the agent.
    async fn was_committed(&self, sight: &Sight, begun: Option<Begun>) -> Result<Merging, Trouble> {
        let Some(begun) = begun else { return Ok(Merging::Nothing) };
        if begun.phase == Phase::Committed(sight.at.clone()) {
            let shop = self.open(sight).await?;
            self.bring(&shop, &sight.at).await?;
            return Ok(Merging::Committed(sight.at.clone()));
        }
        if begun.phase != Phase::Open {
            return Ok(Merging::Nothing);
        }
        let shop = self.open(sight).await?;
        let call = shop.call("rev-list").args(["--parents", "--max-count=1"]);
        let said = self.line(call.names([&sight.at])).await?;
        let parents: Vec<&str> = said.split(' ').skip(1).collect();
        if parents != [begun.before.as_str(), begun.commit.as_str()] {
            return Ok(Merging::Nothing);
        }
        self.bring(&shop, &sight.at).await?;
        self.write_down(&begun, Phase::Committed(sight.at.clone()))?;
        Ok(Merging::Committed(sight.at.clone()))
    }

    pub(super) async fn abort(&self) -> Result<Merging, Trouble> {
        let begun = self.mend().await?;
        let sight = self.look().await?;
        let Some(merging) = &sight.merging else {
            return Ok(if sight.unfinished { Merging::Busy(None) } else { Merging::Nothing });
        };
        // What somebody else began, somebody may be in the middle of.
        let Some(begun) = begun.filter(|begun| begun.is(merging)) else { return Ok(Merging::Busy(None)) };
        if sight.at != begun.before {
            return Err(Trouble::Plain(format!(
                "the worktree was at {} when the merge began, and is at {} now",
                begun.before, sight.at
            )));
        }
        let lock = self.lock().await?;
        let shop = self.open(&sight).await?;
        let files = self.lay_out(&shop, &begun.before, &begun.tree).await?;
        let strange = self.done(move || Ok(files.unknown_in_folders())).await?;
        if !strange.is_empty() {
            return Ok(Merging::InTheWay(strange.iter().map(|path| shown(path)).collect()));
        }
        self.write_down(&begun, Phase::Aborting)?;
        self.put_back(&shop, &Begun { phase: Phase::Aborting, ..begun }, &lock).await?;
        self.folder.merges_nothing()?;
        drop(lock);
        Ok(Merging::Aborted)
    }
}

/// The entry of this path and stage in a line of `ls-files --unmerged`.
pub(super) fn entry_of(line: &[u8], path: &[u8], stage: &str) -> Option<Entry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (head, rest) = line.split_at(tab);
    let head = String::from_utf8_lossy(head);
    let words: Vec<&str> = head.split(' ').collect();
    match words.as_slice() {
        [mode, oid, at] if *at == stage && rest.get(1..) == Some(path) => {
            Some(Entry { mode: (*mode).to_owned(), oid: (*oid).to_owned() })
        }
        _ => None,
    }
}

/// What the commit says.
fn worded(message: Option<String>, source: &str, trailers: &[(&'static str, String)]) -> String {
    let mut text = message.unwrap_or_else(|| merge_message(source, None));
    text.truncate(text.trim_end().len());
    text.push_str("\n\n");
    for (name, value) in trailers {
        let _ = writeln!(text, "{name}: {value}");
    }
    text
}

/// Moves what `HEAD` stands for, if it is still where it was.
fn advance(git: &Path, head: &Head, from: &str, to: &str) -> io::Result<()> {
    let name = name_of(head)?;
    make_folders(git, &name)?;
    let own = git.join("makima.new");
    put_new(&own, &mut format!("{to}\n").as_bytes())?;
    let lock = git.join(format!("{name}.lock"));
    fs::hard_link(&own, &lock).map_err(|failure| io::Error::other(format!("the branch is in use: {failure}")))?;
    fs::remove_file(&own)?;
    let is_there = refs::head(git) == *head && refs::at_head(git).as_deref() == Some(from);
    if !is_there {
        fs::remove_file(&lock)?;
        return Err(io::Error::other("the worktree's branch was moved meanwhile"));
    }
    fs::rename(&lock, git.join(&name))
}

/// Takes away the lock of a commit that was never made the branch's.
pub(super) fn let_go(git: &Path, head: &Head, commit: &str) -> io::Result<()> {
    let lock = git.join(format!("{}.lock", name_of(head)?));
    let is_ours = foreign::text(&lock, SMALL).is_ok_and(|text| text.trim() == commit);
    if is_ours { forgiving(fs::remove_file(lock)) } else { Ok(()) }
}

/// The file that is moved by a commit.
fn name_of(head: &Head) -> io::Result<String> {
    match head {
        Head::Symbolic(name) => Ok(name.clone()),
        Head::Detached(_) => Ok("HEAD".to_owned()),
        Head::Broken => Err(io::Error::other("it is not known where the worktree is")),
    }
}
