//! What may be touched: however a target is spelled, and whatever is put in its place meanwhile.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use makima_core::effect::{Deed, Delivery, Work};
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::policy::CommitText;

use crate::support::{World, branch, folder, git, task};

/// How often a folder is swapped under a delivery's feet.
pub(crate) const ROUNDS: usize = 30;

/// A task with one commit, a repository that may be written to, and one outside that may not.
struct Scene {
    world: World,
    id: TaskId,
    commit: String,
    inside: PathBuf,
    elsewhere: tempfile::TempDir,
    before: Vec<String>,
}

/// Every file in a folder, with its size and its time.
pub(crate) fn inventory(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut left = vec![folder.to_path_buf()];
    let mut all = Vec::new();
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let data = entry.path().symlink_metadata().unwrap();
            if data.is_dir() {
                left.push(entry.path());
            }
            all.push(format!("{} {} {}.{}", entry.path().display(), data.len(), data.mtime(), data.mtime_nsec()));
        }
    }
    all.sort();
    all
}

impl Scene {
    async fn new() -> Self {
        let mut world = World::new();
        let inside = world.repository("upstream");
        let id = task();
        let base = world.prepare(id, Some(&inside)).await.base;
        world.act(id, "echo a > a").await;
        let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
        let elsewhere = folder();
        git(elsewhere.path(), &["clone", "-q", inside.to_str().unwrap(), "outside"]);
        let before = inventory(elsewhere.path());
        Self { world, id, commit, inside, elsewhere, before }
    }

    fn outside(&self) -> PathBuf {
        self.elsewhere.path().join("outside")
    }

    fn work(&self, deed: Deed, target: &str) -> Work {
        Work::Deliver(Box::new(Delivery {
            deed,
            target: Some(target.to_owned()),
            repository: None,
            credentials: None,
            branch: branch(self.id),
            commit: Some(self.commit.clone()),
            into: Some("main".to_owned()),
            base: None,
            text: CommitText::of("a task", self.id, None),
        }))
    }

    /// The canary: nothing outside is any different.
    fn nothing_was_touched(&self, what: &str) {
        assert_eq!(inventory(self.elsewhere.path()), self.before, "{what}");
    }

    async fn refused(&mut self, target: &str) {
        for deed in [Deed::Branch, Deed::Merge] {
            let work = self.work(deed, target);
            let why = self.world.refused(self.id, work).await;
            assert!(why.contains("the work is kept in"), "{target:?}: {why}");
            self.nothing_was_touched(target);
        }
    }
}

/// Protects what is outside from every spelling of a path, as by a server that tries them all.
#[tokio::test]
async fn no_spelling_of_a_path_leads_out() {
    let mut scene = Scene::new().await;
    let (root, outside) = (scene.world.folder.path().to_owned(), scene.outside());
    symlink(&outside, root.join("link")).unwrap();
    symlink(scene.elsewhere.path(), root.join("parent")).unwrap();
    symlink("link", root.join("twice")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let (root, away) = (root.display(), outside.display().to_string());
    let spellings = [
        away.clone(),
        format!("{away}/"),
        format!("{away}//."),
        format!("{root}/link"),
        format!("{root}/link/"),
        format!("{root}/link/."),
        format!("{root}/twice"),
        format!("{root}/loop"),
        format!("{root}/parent/outside"),
        format!("{root}/upstream/../parent/outside"),
        format!("{root}/parent/../{}/outside", scene.elsewhere.path().file_name().unwrap().display()),
        format!("{root}/absent/../../../..{away}"),
        format!("{root}/user/../../../../../../..{away}"),
        format!("/proc/self/root{away}"),
        format!("//proc/self/root{away}"),
        format!("/proc/{}/cwd", std::process::id()),
        format!("~/../../../../..{away}"),
        "~root/outside".to_owned(),
        format!("{root}/upstream\n"),
        format!("{root}/up\0stream"),
        "upstream".to_owned(),
        String::new(),
        "--upload-pack=touch canary".to_owned(),
        format!("{root}/{}", "x".repeat(5000)),
    ];
    for spelling in spellings {
        scene.refused(&spelling).await;
    }
    // And each of the ordinary ones does.
    for spelling in [format!("{root}/upstream///"), format!("{root}/./user/../upstream")] {
        let work = scene.work(Deed::Branch, &spelling);
        assert!(matches!(scene.world.run(scene.id, work).await, Outcome::Delivered { .. }), "{spelling}");
    }
}

/// Protects the daemon's own folder: an agent's worktree lies in it, and its repository's configuration is the agent's.
#[tokio::test]
async fn the_daemons_own_folder_is_no_target() {
    let mut scene = Scene::new().await;
    let worktree = scene.world.home.worktree(scene.id).display().to_string();
    let bare = scene.world.bare().display().to_string();
    let tips = git(Path::new(&bare), &["for-each-ref"]);
    scene.refused(&worktree).await;
    scene.refused(&bare).await;
    assert_eq!(git(Path::new(&bare), &["for-each-ref"]), tips);
}

/// Protects what a repository inside says is part of it, and lies outside.
#[tokio::test]
async fn a_repository_that_reaches_out_is_refused() {
    let mut scene = Scene::new().await;
    let root = scene.world.folder.path().to_owned();
    let away = scene.outside();
    let at = |name: &str| root.join(name).display().to_string();
    // Its folder is elsewhere, by a link, by a file, or as it is a worktree of another.
    std::fs::create_dir(root.join("by-link")).unwrap();
    symlink(away.join(".git"), root.join("by-link/.git")).unwrap();
    std::fs::create_dir(root.join("by-file")).unwrap();
    std::fs::write(root.join("by-file/.git"), format!("gitdir: {}/.git\n", away.display())).unwrap();
    git(&away, &["worktree", "add", "-q", "--detach", &at("by-worktree")]);
    // A part of it is.
    for part in ["refs", "refs/heads", "objects", "packed-refs", "logs"] {
        let name = format!("part-{}", part.replace('/', "-"));
        git(&root, &["clone", "-q", scene.inside.to_str().unwrap(), &name]);
        let inner = root.join(&name).join(".git").join(part);
        if inner.is_dir() {
            std::fs::remove_dir_all(&inner).unwrap();
        } else {
            let _ = std::fs::remove_file(&inner);
        }
        std::fs::write(away.join(".git/packed-refs"), "").unwrap();
        symlink(away.join(".git").join(part), inner).unwrap();
    }
    scene.before = inventory(scene.elsewhere.path());
    for name in
        ["by-link", "by-file", "by-worktree", "part-refs", "part-refs-heads", "part-objects", "part-packed-refs"]
    {
        scene.refused(&at(name)).await;
    }
    scene.refused(&at("part-logs")).await;
}

/// Protects users whose repository has parts elsewhere, on another disk say: where those may be written to, it works.
#[tokio::test]
async fn a_repository_whose_parts_lie_elsewhere_inside_is_as_good_as_any() {
    let mut scene = Scene::new().await;
    let (root, git_dir) = (scene.world.folder.path().to_owned(), scene.inside.join(".git"));
    git(&scene.inside, &["pack-refs", "--all"]);
    for part in ["objects", "refs", "logs", "packed-refs"] {
        let to = root.join(format!("elsewhere-{part}"));
        std::fs::create_dir(&to).unwrap();
        std::fs::rename(git_dir.join(part), to.join(part)).unwrap();
        symlink(to.join(part), git_dir.join(part)).unwrap();
    }
    let target = scene.inside.display().to_string();
    for deed in [Deed::Branch, Deed::Merge] {
        let work = scene.work(deed, &target);
        let outcome = scene.world.run(scene.id, work).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{deed:?}: {outcome:?}");
    }
    assert_eq!(
        git(&scene.inside, &["rev-parse", "main", branch(scene.id).as_str()]),
        format!("{0}\n{0}", scene.commit)
    );
    assert_eq!(git(&scene.inside, &["status", "--porcelain"]), "");
}

/// A folder's name need be no text; nothing that is said of it breaks.
#[tokio::test]
async fn a_link_to_a_name_that_is_no_text_is_followed() {
    let mut scene = Scene::new().await;
    let root = scene.world.folder.path().to_owned();
    let strange = root.join(OsString::from_vec(b"up\nstream".to_vec()));
    std::fs::rename(&scene.inside, &strange).unwrap();
    symlink(&strange, root.join("broken")).unwrap();
    scene.refused(root.join("broken").to_str().unwrap()).await;
    let inside = std::mem::replace(&mut scene.inside, root.join(OsString::from_vec(b"up\xffstream".to_vec())));
    assert!(!inside.exists());
    std::fs::rename(&strange, &scene.inside).unwrap();
    let strange = scene.inside.clone();
    symlink(&strange, root.join("link")).unwrap();
    let link = root.join("link").display().to_string();
    let work = scene.work(Deed::Branch, &link);
    let outcome = scene.world.run(scene.id, work).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(git(&strange, &["rev-parse", branch(scene.id).as_str()]), scene.commit);
    // What cannot be written down for the next life of the daemon is not begun.
    let before = git(&strange, &["rev-parse", "main"]);
    let work = scene.work(Deed::Merge, &link);
    scene.world.refused(scene.id, work).await;
    assert_eq!(git(&strange, &["rev-parse", "main"]), before);
}

/// Puts a link to `outside` in the place of `victim`, and back, until it is told to stop.
pub(crate) fn swap(victim: PathBuf, outside: PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let aside = victim.with_extension("aside");
        let mut pause = 0;
        while !stop.load(Ordering::Acquire) {
            std::fs::rename(&victim, &aside).unwrap();
            symlink(&outside, &victim).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(pause));
            std::fs::remove_file(&victim).unwrap();
            std::fs::rename(&aside, &victim).unwrap();
            pause = (pause + 397) % 4000;
            std::thread::sleep(std::time::Duration::from_micros(pause));
        }
    })
}

/// Protects what is outside from one who swaps the target, or the folder that it lies in, for a link between the look
/// and the use.
#[tokio::test]
async fn a_link_that_is_swapped_in_leads_nowhere() {
    for deed in [Deed::Branch, Deed::Merge] {
        for victim in ["room/upstream", "room"] {
            let mut scene = Scene::new().await;
            let root = scene.world.folder.path().to_owned();
            std::fs::create_dir(root.join("room")).unwrap();
            std::fs::rename(&scene.inside, root.join("room/upstream")).unwrap();
            let room = folder();
            let bait = room.path().join("upstream");
            std::fs::rename(scene.outside(), &bait).unwrap();
            scene.before = inventory(room.path());
            let to = if victim == "room" { room.path().to_path_buf() } else { bait.clone() };
            let stop = Arc::new(AtomicBool::new(false));
            let swapper = swap(root.join(victim), to, Arc::clone(&stop));
            let target = root.join("room/upstream").display().to_string();
            let mut done = 0;
            for _ in 0..ROUNDS {
                let work = scene.work(deed, &target);
                done += usize::from(matches!(scene.world.run(scene.id, work).await, Outcome::Delivered { .. }));
                assert_eq!(inventory(room.path()), scene.before, "{deed:?} {victim}");
            }
            stop.store(true, Ordering::Release);
            swapper.join().unwrap();
            assert_eq!(inventory(room.path()), scene.before, "{deed:?} {victim}");
            // Left in peace, it goes through, but for what a git has left that did not find its own locks again.
            let peace = root.join("room/upstream");
            let find = ["-name", "*.lock", "-delete"];
            assert!(std::process::Command::new("find").arg(peace.join(".git")).args(find).status().unwrap().success());
            git(&peace, &["reset", "-q", "--hard"]);
            git(&peace, &["clean", "-qfd"]);
            let work = scene.work(deed, &target);
            let outcome = scene.world.run(scene.id, work).await;
            assert!(matches!(outcome, Outcome::Delivered { .. }), "{deed:?} {victim}: {outcome:?}, {done} before");
        }
    }
}
