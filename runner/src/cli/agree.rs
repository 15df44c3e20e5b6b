//! `makima repo`: what repositories want to be run, and what of it the user has agreed to.

use std::path::Path;

use makima_core::limits;
use makima_core::policy::RepositoryUrl;
use makima_core::wants::{FILE, Wants};

use super::args::RepoCommand;
use super::{print, repo};
use crate::config;
use crate::consent::{self, Book, Known};
use crate::edge;
use crate::report::Failure;

pub(super) fn agree(command: &RepoCommand) -> Result<(), Failure> {
    let book = Book::of(&config::home_path()?);
    match command {
        RepoCommand::Allow { repository, json } => allow(&book, repository.as_deref(), *json),
        RepoCommand::Deny { repository } => deny(&book, repository.as_deref()),
        RepoCommand::List { json } => list(&book, *json),
    }
}

/// A repository that was named, or the one that we stand in.
struct Named {
    key: String,
    /// What its file says where we stand.
    here: Option<Wants>,
}

fn named(text: Option<&str>) -> Result<Named, Failure> {
    if let Some(text) = text
        && let Ok(RepositoryUrl::Remote(url)) = RepositoryUrl::read(text)
    {
        return Ok(Named { key: consent::key(&edge::shown(&url)), here: None });
    }
    let root = repo::top(text)?;
    // As the daemon finds it.
    let path = root.canonicalize().unwrap_or_else(|_| root.clone());
    Ok(Named { key: consent::key(&path.to_string_lossy()), here: of_commit(&root)? })
}

/// What the file says in the commit that is checked out.
fn of_commit(root: &Path) -> Result<Option<Wants>, Failure> {
    let Some(bytes) = repo::blob(root, FILE)? else { return Ok(None) };
    let wrong = |why: String| {
        Failure::unusable(format!("{FILE} of {}: {why}", root.display())).hint("mend it there, and commit")
    };
    if bytes.len() as u64 > limits::WANTS {
        return Err(wrong(format!("it is larger than {} KiB", limits::WANTS >> 10)));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8".to_owned()))?;
    consent::parse(&text).map(Some).map_err(wrong)
}

fn allow(book: &Book, text: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let Named { key, here } = named(text)?;
    let asked = book.asked(&key).map_err(unreadable)?;
    let mut wanted: Vec<Wants> = [here, asked].into_iter().flatten().filter(|wants| !wants.is_empty()).collect();
    // What a task has found is mostly what stands there.
    wanted.dedup();
    if wanted.is_empty() {
        return Err(Failure::unusable(format!("{key}: nothing is known that it wants"))
            .hint(format!("commit a {FILE} there; of a repository elsewhere a task has to find it first")));
    }
    for wants in &wanted {
        book.allow(&key, wants).map_err(|why| Failure::failed(format!("it cannot be written down: {why}")))?;
    }
    if as_json {
        let all = book.list().map_err(unreadable)?;
        print::json(&all.into_iter().find(|known| known.repository == key));
        return Ok(());
    }
    print::line(&format!("{} may, in each new worktree:", print::tame(&key)));
    wanted.iter().for_each(show);
    Ok(())
}

fn deny(book: &Book, text: Option<&str>) -> Result<(), Failure> {
    // A repository that is gone, or whose file is broken, can be denied all the same.
    let key = match text.map(RepositoryUrl::read) {
        Some(Ok(RepositoryUrl::Remote(url))) => consent::key(&edge::shown(&url)),
        Some(Ok(RepositoryUrl::Local(path))) if !Path::new(&path).exists() => consent::key(&path),
        _ => {
            let root = repo::top(text)?;
            consent::key(&root.canonicalize().unwrap_or(root).to_string_lossy())
        }
    };
    match book.deny(&key) {
        Ok(true) => print::note(&format!("{}: nothing of it is run any more", print::tame(&key))),
        Ok(false) => print::note(&format!("{}: you had not agreed to anything", print::tame(&key))),
        Err(why) => return Err(Failure::failed(format!("it cannot be taken back: {why}"))),
    }
    Ok(())
}

fn list(book: &Book, as_json: bool) -> Result<(), Failure> {
    let all = book.list().map_err(unreadable)?;
    if as_json {
        print::json(&all);
        return Ok(());
    }
    if all.is_empty() {
        print::note("no repository has wanted anything yet");
    }
    for Known { repository, allowed, asked } in &all {
        for wants in allowed {
            print::line(&format!("{} may:", print::tame(repository)));
            show(wants);
        }
        if let Some(wants) = asked {
            print::line(&format!("{} wants, and may not:", print::tame(repository)));
            show(wants);
        }
    }
    Ok(())
}

fn show(wants: &Wants) {
    let Wants { setup, checks, env, submodules, sparse } = wants;
    let say = |what: &str, value: &str| print::line(&format!("  {what:10} {}", print::tame(value)));
    setup.iter().for_each(|command| say("setup", command));
    checks.iter().for_each(|command| say("check", command));
    env.iter().for_each(|(name, value)| say("env", &format!("{name}={value}")));
    sparse.iter().for_each(|folder| say("sparse", folder));
    if *submodules {
        say("submodules", "brought");
    }
}

fn unreadable(why: std::io::Error) -> Failure {
    Failure::failed(format!("what you have agreed to cannot be read: {why}"))
        .hint("makima repo deny takes the record of a repository away")
}
