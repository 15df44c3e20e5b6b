//! Recognising branches that were squashed: the worktree's commit does not lead to theirs, and has all of them.
//!
//! A branch of which everything is there still would change nothing if it were merged. One of which something was changed
//! again since is recognised by its patch: all of it as one, beside those of the worktree's own commits. Only commits
//! that touch the very same files are compared, so that there is next to nothing to do where none was squashed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::git::{BRING, Call};
use super::super::refs;
use super::super::trouble::Trouble;
use super::super::workshop::Workshop;
use super::Job;
use super::look::Sight;

/// So many of the worktree's newest commits are compared with a branch.
const COMMITS: usize = 1000;
/// Of so many branches git is asked by itself where they came from.
const TANGLED: usize = 32;
/// For each call of git that a patch is looked for by.
const LOOK: Duration = Duration::from_secs(20);

/// Commits that the worktree's does not lead to, each with its parents.
pub(super) struct History {
    at: String,
    parents: BTreeMap<String, Vec<String>>,
}

impl History {
    pub(super) fn read(listed: &str, at: &str) -> Self {
        let oids = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let lines = listed.lines().map(oids).filter_map(|oids| {
            let (commit, parents) = oids.split_first()?;
            Some((commit.clone(), parents.to_vec()))
        });
        Self { at: at.to_owned(), parents: lines.collect() }
    }

    /// Whether the worktree's commit leads to this one, of those that were asked for.
    pub(super) fn has(&self, oid: &str) -> bool {
        !self.parents.contains_key(oid)
    }

    /// Commits that go on from the worktree's.
    pub(super) fn going_on(&self) -> BTreeSet<&str> {
        let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (commit, parents) in &self.parents {
            parents.iter().for_each(|parent| children.entry(parent).or_default().push(commit));
        }
        let mut found = BTreeSet::new();
        let mut next = vec![self.at.as_str()];
        while let Some(commit) = next.pop() {
            for child in children.remove(commit).unwrap_or_default() {
                found.insert(child);
                next.push(child);
            }
        }
        found
    }

    /// The commits of the worktree's that this one came from.
    pub(super) fn roots(&self, tip: &str) -> BTreeSet<&str> {
        let (mut roots, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        next.extend(self.parents.get_key_value(tip));
        while let Some((commit, parents)) = next.pop() {
            if seen.insert(commit.as_str()) {
                for parent in parents {
                    match self.parents.get_key_value(parent) {
                        Some(entry) => next.push(entry),
                        None => drop(roots.insert(parent.as_str())),
                    }
                }
            }
        }
        roots
    }
}

/// What is compared with another: a commit, and the one that it is to be seen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step<'a> {
    commit: &'a str,
    /// None for its own parent.
    from: Option<&'a str>,
}

impl Job<'_> {
    /// The commits that lead to these and that the worktree's commit does not have.
    pub(super) async fn history(&self, sight: &Sight, asked: &BTreeSet<&str>) -> Result<History, Trouble> {
        if asked.is_empty() {
            return Ok(History::read("", &sight.at));
        }
        let lenders = refs::quoted(&self.git.join("objects"));
        let call = Call::on(&self.bare, "rev-list").env("GIT_ALTERNATE_OBJECT_DIRECTORIES", lenders);
        let asked: String = asked.iter().map(|oid| format!("{oid}\n")).collect();
        let call = call.args(["--parents", "--stdin"]).input(format!("^{}\n{asked}", sight.at));
        let said = self.run(call.limit(BRING)).await?.out;
        Ok(History::read(&String::from_utf8_lossy(&said), &sight.at))
    }

    /// Those of which the worktree's commit has everything, though it does not lead to them.
    pub(super) async fn squashed(
        &self,
        sight: &Sight,
        history: &History,
        asked: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, Trouble> {
        // What goes on from the worktree's commit was not squashed into it.
        let going_on = history.going_on();
        let aside = |oid: &&str| !history.has(oid) && !going_on.contains(oid);
        let aside: BTreeSet<&str> = asked.iter().copied().filter(aside).collect();
        if aside.is_empty() {
            return Ok(BTreeSet::new());
        }
        let shop = self.open(sight).await?;
        let mut found = known(self.changing_nothing(&shop, sight, &aside).await);
        let left: BTreeSet<&str> = aside.iter().copied().filter(|oid| !found.contains(*oid)).collect();
        found.extend(known(self.patched(&shop, history, &left).await));
        Ok(found)
    }

    /// Whether one was squashed, where its merge would change something.
    pub(super) async fn was_squashed(&self, shop: &Workshop, sight: &Sight, tip: &str) -> Result<bool, Trouble> {
        let asked = BTreeSet::from([tip]);
        let history = self.history(sight, &asked).await?;
        Ok(known(self.patched(shop, &history, &asked).await).contains(tip))
    }

    /// Those whose merge would change nothing.
    async fn changing_nothing(
        &self,
        shop: &Workshop,
        sight: &Sight,
        asked: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, Trouble> {
        // The first is what the worktree's commit has: that, merged with itself.
        let theirs = std::iter::once(sight.at.as_str()).chain(asked.iter().copied());
        let lines: String = theirs.map(|oid| format!("{} {oid}\n", sight.at)).collect();
        let call = shop.call("merge-tree").args(["--stdin", "-z", "--no-messages", "--allow-unrelated-histories"]);
        let said = self.run(call.input(lines).limit(BRING)).await?.out;
        let mut results = results(&said).into_iter();
        let own = results.next().flatten();
        let same = asked.iter().zip(results).filter(|(_, result)| result.is_some() && *result == own);
        Ok(same.map(|(oid, _)| (*oid).to_owned()).collect())
    }

    /// Those whose patch is that of one of the worktree's commits since.
    async fn patched(
        &self,
        shop: &Workshop,
        history: &History,
        asked: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, Trouble> {
        let bases = self.bases(shop, history, asked).await?;
        let Some(since) = self.since(shop, &bases).await? else { return Ok(BTreeSet::new()) };
        let call = shop.call("rev-list").args(["--no-merges", &format!("--max-count={COMMITS}")]).limit(LOOK);
        let listed = self.run(call.names([history.at.as_str(), &format!("^{since}")])).await?.out;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let branches = bases.iter().map(|(tip, base)| Step { commit: tip, from: Some(base) });
        let own = listed.lines().map(|commit| Step { commit, from: None });
        let steps: Vec<Step<'_>> = branches.chain(own).collect();
        let files = self.files_of(shop, &steps).await?;
        // The same files on both sides: else it is not the same patch.
        let touched = |branches: bool| -> BTreeSet<_> {
            steps
                .iter()
                .filter(|step| step.from.is_some() == branches)
                .filter_map(|step| files.get(step.commit))
                .collect()
        };
        let shared: BTreeSet<_> = touched(true).intersection(&touched(false)).copied().collect();
        let alike = steps.iter().filter(|step| files.get(step.commit).is_some_and(|files| shared.contains(files)));
        let alike: Vec<Step<'_>> = alike.copied().collect();
        if alike.is_empty() {
            return Ok(BTreeSet::new());
        }
        let patches = self.patches(shop, &alike).await?;
        let (branches, own): (Vec<_>, Vec<_>) = alike.into_iter().partition(|step| step.from.is_some());
        let own: BTreeSet<&String> = own.iter().filter_map(|step| patches.get(step.commit)).collect();
        let found = branches.iter().filter(|step| patches.get(step.commit).is_some_and(|id| own.contains(id)));
        Ok(found.map(|step| step.commit.to_owned()).collect())
    }

    /// Where each of these came from.
    async fn bases<'a>(
        &self,
        shop: &Workshop,
        history: &History,
        asked: &BTreeSet<&'a str>,
    ) -> Result<BTreeMap<&'a str, String>, Trouble> {
        let (mut bases, mut tangled) = (BTreeMap::new(), 0);
        for tip in asked {
            let roots = history.roots(tip);
            let base = match (roots.len(), roots.first()) {
                (0, _) | (_, None) => None,
                (1, Some(root)) => Some((*root).to_owned()),
                _ if tangled < TANGLED => {
                    tangled += 1;
                    let call = shop.call("merge-base").fine(&[0, 1]).limit(LOOK);
                    self.run(call.names([history.at.as_str(), tip])).await?.line()
                }
                _ => None,
            };
            bases.extend(base.filter(|base| *base != history.at).map(|base| (*tip, base)));
        }
        Ok(bases)
    }

    /// A commit behind which nothing has to be looked at; none if nothing has to be at all.
    async fn since(&self, shop: &Workshop, bases: &BTreeMap<&str, String>) -> Result<Option<String>, Trouble> {
        let all: BTreeSet<&String> = bases.values().collect();
        match (all.len(), all.first()) {
            (0 | 1, first) => Ok(first.map(|base| (*base).clone())),
            _ => {
                let call = shop.call("merge-base").arg("--octopus").fine(&[0, 1]).limit(LOOK);
                Ok(self.run(call.names(all)).await?.line())
            }
        }
    }

    /// Which files each of these touches. What touches none is left out.
    async fn files_of<'a>(
        &self,
        shop: &Workshop,
        steps: &[Step<'a>],
    ) -> Result<BTreeMap<&'a str, BTreeSet<Vec<u8>>>, Trouble> {
        let call = comparing(shop, steps).args(["--raw", "-z"]);
        let said = self.run(call).await?.out;
        let by_name: BTreeMap<&str, &'a str> = steps.iter().map(|step| (step.commit, step.commit)).collect();
        let mut found: BTreeMap<&'a str, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let (mut of, mut fields) = (None, said.split(|byte| *byte == 0));
        while let Some(field) = fields.next() {
            if !field.starts_with(b":") {
                of = std::str::from_utf8(field).ok().and_then(|commit| by_name.get(commit).copied());
                continue;
            }
            let path = fields.next().unwrap_or_default().to_vec();
            found.entry(of.ok_or("git named files of no commit".to_owned())?).or_default().insert(path);
        }
        Ok(found)
    }

    /// What git knows the patch of each by. White space counts: there are languages to which it is not nothing.
    async fn patches(&self, shop: &Workshop, steps: &[Step<'_>]) -> Result<BTreeMap<String, String>, Trouble> {
        // By the full ids of files that are no text, it tells these apart.
        let call = comparing(shop, steps).args(["--patch", "--full-index", "--submodule=short"]);
        let text = self.run(call).await?.out;
        let call = shop.call("patch-id").arg("--verbatim").input(text).limit(LOOK);
        let said = self.run(call).await?.out;
        let said = String::from_utf8_lossy(&said);
        let pairs = said.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(id, commit)| (commit.to_owned(), id.to_owned())).collect())
    }
}

/// One that cannot be read is not known to be merged, nor is any other then.
fn known(found: Result<BTreeSet<String>, Trouble>) -> BTreeSet<String> {
    found.unwrap_or_else(|why| {
        tracing::warn!("it is not known which branches were squashed: {}", why.into_words());
        BTreeSet::new()
    })
}

/// Compares the trees of each. Nothing that attributes name is run.
fn comparing(shop: &Workshop, steps: &[Step<'_>]) -> Call {
    let line = |step: &Step<'_>| match step.from {
        Some(from) => format!("{} {from}\n", step.commit),
        None => format!("{}\n", step.commit),
    };
    let call = shop.call("diff-tree").args(["--stdin", "-r", "--root", "--no-renames", "--ignore-submodules=none"]);
    let call = call.args(["--no-ext-diff", "--no-textconv"]);
    call.input(steps.iter().map(line).collect::<String>()).limit(LOOK)
}

/// The trees of clean merges. Each answer is `<status>\0<tree>\0`, files in conflict, and `\0`.
pub(super) fn results(said: &[u8]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    let mut fields = said.split(|byte| *byte == 0);
    while let (Some(status), Some(tree)) = (fields.next(), fields.next()) {
        if status.is_empty() {
            break;
        }
        found.push((status == b"1").then(|| String::from_utf8_lossy(tree).into_owned()));
        // Up to the end of the answer.
        let _ = fields.by_ref().take_while(|field| !field.is_empty()).count();
    }
    found
}
