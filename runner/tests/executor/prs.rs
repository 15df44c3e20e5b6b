//! Opening pull requests: git's own server and a forge on this machine, programs of forges that note what they are told.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use makima_core::effect::{Copy, Deed, Delivery, Work};
use makima_core::forge::Kind;
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::policy::{CommitText, InnerPath, RepositoryUrl};

use crate::forge::{Fault, Forge};
use crate::support::{Options, World, branch, folder, git, preparing, task, user_git};

const TOKEN: &str = "ghp_thisIsNobodysBusiness0123456789";

/// A user's clone of what is on a forge, and a task that has worked on it.
pub(crate) struct Scene {
    pub(crate) world: World,
    forge: Forge,
    id: TaskId,
    commit: String,
    /// The user's clone of what is on the forge.
    pub(crate) clone: PathBuf,
    /// On the forge.
    pub(crate) remote: PathBuf,
}

impl Scene {
    /// A forge of this kind, with a clone of the user's in which a task has one commit.
    pub(crate) async fn new(kind: Option<Kind>, more: &[(&str, &str)]) -> Self {
        let folder = folder();
        let root = folder.path().join("forge");
        std::fs::create_dir_all(root.join("o")).unwrap();
        let forge = Forge::new(&root).await;
        let user = folder.path().join("user");
        std::fs::create_dir(&user).unwrap();
        std::fs::write(user.join(".gitconfig"), "[user]\n\tname = Ada\n\temail = ada@example.org\n").unwrap();
        let mut more: Vec<(String, String)> =
            more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // No program of a forge is on the path but those of the tests.
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let path = std::env::var("PATH").unwrap();
        more.push(("PATH".to_owned(), format!("{}:{path}", bin.display())));
        let token_file = Some(user.join("token")).filter(|_| more.iter().any(|(name, _)| name == "TOKEN_FILE"));
        let named = |kind| makima_runner::executor::Forge { host: forge.host.clone(), kind, token_file };
        let forges = kind.map(named).into_iter().collect();
        let mut world = World::on(folder, Options { more, forges, ..Options::default() });
        let upstream = world.repository("upstream");
        let remote = root.join("o/r.git");
        git(&upstream, &["clone", "-q", "--bare", ".", remote.to_str().unwrap()]);
        git(&remote, &["config", "http.receivepack", "true"]);
        let clone = world.path("clone");
        git(world.folder.path(), &["clone", "-q", remote.to_str().unwrap(), "clone"]);
        git(&clone, &["remote", "set-url", "origin", &format!("http://{}/o/r.git", forge.host)]);
        let id = task();
        let base = world.prepare(id, Some(&clone)).await.base;
        world.act(id, "echo a > a").await;
        let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
        let scene = Self { world, forge, id, commit, clone, remote };
        for name in ["gh", "glab"] {
            scene.program(name, "exit 1");
        }
        scene
    }

    fn work(&self) -> Delivery {
        Delivery {
            deed: Deed::Pr,
            target: Some(self.clone.display().to_string()),
            repository: None,
            credentials: None,
            branch: branch(self.id),
            commit: Some(self.commit.clone()),
            into: None,
            base: None,
            text: CommitText::of("a task", self.id, None),
        }
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(String, Option<String>), String> {
        match self.world.run(self.id, Work::Deliver(Box::new(delivery))).await {
            Outcome::Delivered { message, url } => Ok((message, url)),
            Outcome::Failed(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    async fn open(&mut self) -> Result<(String, Option<String>), String> {
        let work = self.work();
        self.deliver(work).await
    }

    fn on_the_forge(&self) -> String {
        let name = format!("refs/heads/{}", branch(self.id));
        let output = user_git(&self.remote, &["rev-parse", "--verify", "-q", &name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A program on the path. Nothing but it answers to its name.
    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.world.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Whether a file in a folder has this in it.
fn holds(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut left = vec![folder.to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn one_is_opened_once_and_found_from_then_on() {
    for (kind, variable) in [(Kind::GitHub, "GH_ENTERPRISE_TOKEN"), (Kind::GitLab, "GITLAB_TOKEN")] {
        let mut scene = Scene::new(Some(kind), &[(variable, TOKEN)]).await;
        scene.forge.needs(TOKEN);
        let page = format!("http://{}/o/r/1", scene.forge.host);
        let (message, url) = scene.open().await.expect("it is opened");
        assert_eq!(url.as_deref(), Some(page.as_str()));
        assert!(message.ends_with("it is opened"), "{message}");
        assert_eq!(scene.on_the_forge(), scene.commit);
        let (message, url) = scene.open().await.expect("it is found");
        assert!(message.ends_with("it is open already"), "{message}");
        assert_eq!(url.as_deref(), Some(page.as_str()));
        let open = scene.forge.open();
        let [one] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!(one.get("base").unwrap(), "main");
        assert_eq!(one.get("title").unwrap(), "a task");
        // The token was shown to the forge, and is nowhere else.
        assert!(
            scene.forge.asked().iter().any(|asked| asked.authorization.as_deref() == Some(&format!("Bearer {TOKEN}")))
        );
        assert!(scene.forge.asked().iter().all(|asked| !asked.path.contains(TOKEN) && !asked.body.contains(TOKEN)));
        assert_eq!(holds(scene.world.folder.path(), TOKEN), Vec::<PathBuf>::new());
        assert!(!message.contains(TOKEN));
    }
}

/// Protects the user's tokens from a server that names a forge of its own.
#[tokio::test]
async fn a_forge_that_the_user_has_not_named_sees_no_token() {
    let tokens = ["GH_TOKEN", "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "GITLAB_TOKEN"].map(|name| (name, TOKEN));
    let mut scene = Scene::new(None, &tokens).await;
    for name in ["gh", "glab"] {
        scene.program(name, "touch \"$HOME/canary\"");
    }
    let (message, url) = scene.open().await.expect("it is pushed");
    assert!(message.contains("[forge]") && message.contains("is pushed to"), "{message}");
    assert_eq!((url, scene.on_the_forge()), (None, scene.commit.clone()));
    assert!(scene.forge.asked().iter().all(|asked| asked.authorization.is_none()));
    assert!(!scene.world.path("user/canary").exists());
    // One of another kind's is none of its own.
    let mut scene = Scene::new(Some(Kind::GitLab), &[("GH_TOKEN", TOKEN), ("GH_ENTERPRISE_TOKEN", TOKEN)]).await;
    let (message, _) = scene.open().await.expect("it is pushed");
    let page = format!("http://{}/o/r/-/merge_requests/new?merge_request%5Bsource_branch%5D=", scene.forge.host);
    assert!(message.contains("nobody is logged in") && message.contains(&page), "{message}");
    assert!(scene.forge.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn the_users_credential_helper_is_asked_last() {
    let mut scene = Scene::new(Some(Kind::GitHub), &[]).await;
    scene.forge.needs(TOKEN);
    let helper = format!("#!/bin/sh\ntest \"$1\" = get && printf 'username=ada\\npassword={TOKEN}\\n'");
    scene.program("git-credential-own", helper.trim_start_matches("#!/bin/sh\n"));
    let config = "[user]\n\tname = Ada\n\temail = ada@example.org\n[credential]\n\thelper = own\n";
    std::fs::write(scene.world.path("user/.gitconfig"), config).unwrap();
    let (message, url) = scene.open().await.expect("it is opened");
    assert!(url.is_some(), "{message}");
    // Known by now, and masked from now on.
    assert_eq!(scene.world.secrets.masked(TOKEN), "***");
}

/// A token of the configuration goes before those of the environment, and one that cannot be read is said before anything
/// is pushed.
#[tokio::test]
async fn a_forge_may_have_a_token_of_its_own() {
    let mut scene =
        Scene::new(Some(Kind::GitLab), &[("TOKEN_FILE", "1"), ("GITLAB_TOKEN", "another-hosts-token")]).await;
    scene.forge.needs(TOKEN);
    let file = scene.world.path("user/token");
    let why = scene.open().await.expect_err("it is not there");
    assert!(why.contains("the token for 127.0.0.1") && why.contains("user/token"), "{why}");
    std::fs::write(&file, "two\nlines\n").unwrap();
    let why = scene.open().await.expect_err("it is none");
    assert!(why.contains("holds no token"), "{why}");
    assert!(scene.forge.asked().is_empty());
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let (message, url) = scene.open().await.expect("it is opened");
    assert!(url.is_some(), "{message}");
    assert_eq!(scene.world.secrets.masked(TOKEN), "***");
}

/// A program of the forge's, which notes what it is told.
const GH: &str = r#"echo "$0 $*" >> "$HOME/argv"; env > "$HOME/env"
case "$1 $2" in
"auth status") test "$4" = "${GH_HOST_KNOWN:-$4}" ;;
"pr list") cat "$HOME/list" 2>/dev/null || echo '[]' ;;
"mr list") cat "$HOME/list" 2>/dev/null || echo '[]' ;;
*" create") echo "Creating it"; echo '[{"url":"https://forge/7","web_url":"https://forge/7"}]' > "$HOME/list"; echo https://forge/7 ;;
esac"#;

#[tokio::test]
async fn a_program_of_the_forges_is_asked_first() {
    for (kind, name) in [(Kind::GitHub, "gh"), (Kind::GitLab, "glab")] {
        let own = if kind == Kind::GitHub { "GH_ENTERPRISE_TOKEN" } else { "GITLAB_TOKEN" };
        let other = if kind == Kind::GitHub { "GITLAB_TOKEN" } else { "GH_ENTERPRISE_TOKEN" };
        let more = [(own, TOKEN), (other, "other-secret-of-the-users"), ("GH_TOKEN", "third-secret-of-the-users")];
        let mut scene = Scene::new(Some(kind), &more).await;
        scene.program(name, GH);
        let mut work = scene.work();
        work.text.subject = "--web $(touch canary) `x`".to_owned();
        work.into = Some("main".to_owned());
        let (_, url) = scene.deliver(work.clone()).await.expect("it is opened");
        assert_eq!(url.as_deref(), Some("https://forge/7"));
        let (message, url) = scene.deliver(work).await.expect("it is found");
        assert!(message.ends_with("open already") && url.as_deref() == Some("https://forge/7"), "{message}");
        let argv = std::fs::read_to_string(scene.world.path("user/argv")).unwrap();
        assert_eq!(argv.matches(" create ").count(), 1, "{argv}");
        assert!(argv.contains("--title=--web $(touch canary) `x`") && !argv.contains(TOKEN), "{argv}");
        assert!(argv.contains(&format!("auth status --hostname {}", scene.forge.host)), "{argv}");
        let env = std::fs::read_to_string(scene.world.path("user/env")).unwrap();
        assert!(env.contains(&format!("{own}={TOKEN}")), "{env}");
        assert!(!env.contains("secret-of-the-users"), "{env}");
        // The interface was not asked.
        assert!(scene.forge.asked().iter().all(|asked| !asked.path.starts_with("/api/")));
    }
}

#[tokio::test]
async fn a_program_that_is_not_logged_in_is_passed_over_and_one_that_fails_is_heard() {
    let mut scene = Scene::new(Some(Kind::GitHub), &[("GH_ENTERPRISE_TOKEN", TOKEN)]).await;
    scene.program("gh", "exit 1");
    let (_, url) = scene.open().await.expect("it is opened");
    assert!(url.is_some());
    let mut scene = Scene::new(Some(Kind::GitHub), &[("GH_ENTERPRISE_TOKEN", TOKEN)]).await;
    let script =
        format!("case \"$2\" in list) echo '[]';; create) echo 'No commits between them: {TOKEN}' >&2; exit 1;; esac");
    scene.program("gh", &script);
    let why = scene.open().await.expect_err("it is refused");
    assert!(why.contains("gh: No commits between them: ***") && why.contains("is pushed to"), "{why}");
    assert!(why.contains("/compare/main...makima/"), "{why}");
}

#[tokio::test]
async fn whatever_the_forge_does_there_is_one_or_a_reason() {
    use Fault::{Answer, Lost, Patience};
    const HTML: &str = "<html>gateway</html>";
    for kind in [Kind::GitHub, Kind::GitLab] {
        let more = [("GH_ENTERPRISE_TOKEN", TOKEN), ("GITLAB_TOKEN", TOKEN)];
        for (faults, said) in [
            (vec![Answer(500, HTML)], None),
            (vec![Answer(200, "[]"), Answer(502, HTML)], None),
            (vec![Answer(200, "[]"), Lost], None),
            (vec![Patience(429, 1), Lost], None),
            (vec![Answer(401, r#"{"message":"Bad credentials"}"#)], Some("Bad credentials; the token is not accepted")),
            (vec![Answer(200, "[]"), Answer(403, HTML)], Some("403; the token may not do that")),
            (vec![Answer(200, HTML)], Some("not understood")),
            (
                vec![Answer(200, "[]"), Answer(422, r#"{"message":"No commits between main and x"}"#)],
                Some("No commits between"),
            ),
            (vec![Patience(429, 3600)], Some("answered 429")),
            (vec![Answer(302, "")], Some("has moved")),
        ] {
            let mut scene = Scene::new(Some(kind), &more).await;
            faults.iter().for_each(|fault| scene.forge.fault(fault.clone()));
            let opened = scene.open().await;
            match (opened, said) {
                (Ok((_, Some(_))), None) => assert_eq!(scene.forge.open().len(), 1, "{faults:?}"),
                (Err(why), Some(said)) => {
                    assert!(
                        why.contains(said) && why.contains("is pushed to") && why.contains("to open it yourself"),
                        "{faults:?}: {why}"
                    );
                    assert_eq!(scene.forge.open().len(), 0);
                }
                (other, _) => panic!("{faults:?}: {other:?}"),
            }
            assert_eq!(scene.on_the_forge(), scene.commit);
        }
    }
}

/// Protects what others have put on the branch.
#[tokio::test]
async fn commits_of_others_are_never_written_over() {
    let mut scene = Scene::new(None, &[]).await;
    let name = format!("refs/heads/{}", branch(scene.id));
    let main = git(&scene.remote, &["rev-parse", "main"]);
    let tree = git(&scene.remote, &["rev-parse", "main^{tree}"]);
    let other = git(&scene.remote, &["commit-tree", "-p", &main, "-m", "another's", &tree]);
    git(&scene.remote, &["update-ref", &name, &other]);
    let why = scene.open().await.expect_err("it is refused");
    assert!(why.contains("commits on `makima/") && why.contains("that are not ours"), "{why}");
    assert_eq!(scene.on_the_forge(), other);
    // Of what we have pushed ourselves, the newest counts, whether it goes on from it or not.
    git(&scene.remote, &["update-ref", "-d", &name]);
    scene.open().await.expect("it is pushed");
    let worktree = scene.world.home.worktree(scene.id);
    git(&worktree, &["reset", "-q", "--soft", "HEAD~1"]);
    let change = scene.world.commit(scene.id, Some(&main)).await.expect("a change");
    let amended =
        git(&worktree, &["commit-tree", "-p", &main, "-m", "amended", &format!("{}^{{tree}}", change.commit)]);
    git(&worktree, &["reset", "-q", "--soft", &amended]);
    let change = scene.world.commit(scene.id, Some(&main)).await.expect("a change");
    assert_ne!(change.commit, scene.commit);
    let work = Delivery { commit: None, ..scene.work() };
    scene.deliver(work.clone()).await.expect("ours is replaced");
    assert_eq!(scene.on_the_forge(), change.commit);
    // Unless somebody has gone on from it.
    let other = git(&scene.remote, &["commit-tree", "-p", &change.commit, "-m", "more", &tree]);
    git(&scene.remote, &["update-ref", &name, &other]);
    scene.deliver(work).await.expect_err("it is refused");
    assert_eq!(scene.on_the_forge(), other);
}

#[tokio::test]
async fn what_a_remote_refuses_is_said_in_its_words() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut scene = Scene::new(None, &[]).await;
    let hook = scene.remote.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\necho 'GH006: Protected branch update failed' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let why = scene.open().await.expect_err("it is refused");
    assert!(why.contains("GH006: Protected branch") && why.contains("pre-receive hook declined"), "{why}");
    assert!(why.contains("the work is kept in"), "{why}");
    std::fs::remove_file(&hook).unwrap();
    scene.forge.needs(TOKEN);
    let why = scene.open().await.expect_err("nobody is let in");
    assert!(why.contains("lets nobody in that is known here"), "{why}");
    // And when it does not any more, the same again goes through.
    assert_eq!(scene.on_the_forge(), "");
}

/// Protects the disk and other machines from what a repository calls its origin.
#[tokio::test]
async fn what_is_no_forge_is_not_pushed_to() {
    let mut scene = Scene::new(Some(Kind::GitHub), &[]).await;
    let elsewhere = folder();
    git(&scene.remote, &["clone", "-q", "--bare", ".", elsewhere.path().join("x.git").to_str().unwrap()]);
    let local = elsewhere.path().join("x.git").display().to_string();
    let canary = scene.world.path("canary");
    let helper = format!("ext::touch {}", canary.display());
    for url in [
        local.as_str(),
        &format!("file://{local}"),
        &helper,
        "http://example.org/o/r.git",
        "--receive-pack=touch canary",
        "ftp://h/x",
    ] {
        let config = scene.clone.join(".git/config");
        let text = format!("[core]\n\trepositoryformatversion = 0\n[remote \"origin\"]\n\turl = \"{url}\"\n");
        std::fs::write(&config, text).unwrap();
        let why = scene.open().await.expect_err("it is refused");
        assert!(why.contains("the work is kept in"), "{url}: {why}");
        assert!(!canary.exists(), "{url}");
        assert_eq!(git(Path::new(&local), &["branch", "--list", "makima/*"]), "", "{url}");
    }
    std::fs::write(scene.clone.join(".git/config"), "[core]\n\trepositoryformatversion = 0\n").unwrap();
    assert!(scene.open().await.expect_err("none").contains("has no remote `origin`"));
}

/// Protects everybody who waits from a remote that does not answer.
#[tokio::test]
async fn a_remote_that_hangs_holds_nobody_up() {
    let mut scene = Scene::new(Some(Kind::GitHub), &[("GH_ENTERPRISE_TOKEN", TOKEN)]).await;
    let work = Work::Deliver(Box::new(scene.work()));
    scene.forge.fault(Fault::Silence);
    for git in [false, true] {
        if git {
            scene.forge.is_silent();
        }
        let begun = Instant::now();
        let effect = scene.world.ask(scene.id, work.clone());
        tokio::time::sleep(Duration::from_millis(600)).await;
        scene.world.executor.cancel(effect);
        let outcome = scene.world.answer(effect).await;
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("cancelled")), "{outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "git {git}");
    }
}

/// Protects the work, and what is shared, from a remote that goes away in the middle of an answer.
#[tokio::test]
async fn a_remote_that_drops_is_a_reason_and_no_harm() {
    let mut scene = Scene::new(Some(Kind::GitHub), &[("GH_ENTERPRISE_TOKEN", TOKEN)]).await;
    let before = git(&scene.remote, &["for-each-ref"]);
    for after in [0, 60, 200, 400] {
        scene.forge.drops(Some(after));
        let why = scene.open().await.expect_err("the remote is gone");
        assert!(why.contains("the work is kept in"), "{after}: {why}");
        assert_eq!(git(&scene.remote, &["for-each-ref"]), before, "{after}");
    }
    scene.forge.drops(None);
    scene.open().await.expect("it goes through");
    assert_eq!(scene.on_the_forge(), scene.commit);
    assert_eq!(scene.forge.open().len(), 1);
}

#[tokio::test]
async fn without_a_target_it_goes_to_where_the_work_came_from() {
    let mut scene = Scene::new(Some(Kind::GitHub), &[]).await;
    scene.forge.needs(TOKEN);
    let url = format!("http://{}/o/r.git", scene.forge.host);
    let work = Delivery { target: None, repository: Some(RepositoryUrl::Remote(url.clone())), ..scene.work() };
    let why = scene.deliver(work.clone()).await.expect_err("nobody is logged in");
    assert!(why.contains("lets nobody in"), "{why}");
    // The base is the branch that it started from, where the remote has that.
    let mut scene = Scene::new(Some(Kind::GitHub), &[("GH_ENTERPRISE_TOKEN", TOKEN)]).await;
    git(&scene.remote, &["branch", "side", "main"]);
    let url = format!("http://{}/o/r.git", scene.forge.host);
    for (base, is) in [("side", "side"), ("v1", "main")] {
        let id = scene.id;
        let repository = Some(RepositoryUrl::Remote(url.clone()));
        let work = Delivery { target: None, repository, base: Some(base.to_owned()), ..scene.work() };
        scene.deliver(work).await.expect("it is opened");
        let open = scene.forge.open();
        assert_eq!(open.first().and_then(|one| one.get("base")).unwrap(), is);
        if base == "side" {
            let name = branch(id);
            git(&scene.remote, &["branch", "-q", "-D", name.as_str()]);
            scene.forge.forget();
        }
    }
}

/// Protects what was only lent: where a branch bears it all the same, as the agent has committed it, that is told when the
/// work is committed, which is before anything is pushed. Also where it was committed by nobody but the agent.
#[tokio::test]
async fn what_was_brought_along_is_told() {
    let mut scene = Scene::new(None, &[]).await;
    // A file that the base tracks, and two that it does not.
    std::fs::write(scene.clone.join(".worktreeinclude"), "*.o\n").unwrap();
    std::fs::write(scene.clone.join("key.o"), "secret\n").unwrap();
    let parent = task();
    scene.world.prepare(parent, Some(&scene.clone)).await;
    scene.world.act(parent, "echo secret > .env; echo changed > README").await;
    for (script, borne) in [
        ("git add -f .env; git commit -qm mine", Some("`.env`")),
        ("git add -f -A; git commit -qm mine; rm .env", Some("`key.o`")),
        ("git add -f -A; git commit -qm mine", Some("`.env` and 1 more")),
        ("rm -rf .git; git init -q; git add -f -A; git commit -qm mine", Some("`.env` and 1 more")),
        ("git add -f -A; git commit -qm mine; git rm -q .env key.o; git commit -qm better", None),
    ] {
        scene.id = task();
        let paths = [".env", "README"].map(|path| InnerPath::read(path).unwrap());
        let Work::Prepare(mut work) = preparing(scene.id, Some(&scene.clone), None) else { panic!() };
        work.copy = Some(Copy { from: parent, paths: paths.to_vec() });
        let Outcome::Prepared(prepared) = scene.world.run(scene.id, Work::Prepare(work)).await else { panic!() };
        scene.world.act(scene.id, &format!("echo x > x; {script}")).await;
        let told = borne.map(|borne| format!("the branch bears what was brought along and is in no base: {borne}"));
        if told.is_some() && !script.contains("init") {
            // Nobody has committed it for the task: the first time that is all, the second is somebody's wish.
            let bare = scene.world.bare();
            let work = Delivery { commit: None, ..scene.work() };
            let why = scene.deliver(work.clone()).await.expect_err("it is told");
            assert!(why.contains("bears what was brought along") && why.contains("nothing was pushed yet"), "{why}");
            assert_eq!(scene.on_the_forge(), "");
            scene.deliver(work).await.expect("it is pushed");
            git(&scene.remote, &["update-ref", "-d", &format!("refs/heads/{}", branch(scene.id))]);
            git(&bare, &["update-ref", "-d", &format!("refs/makima/{}", scene.id)]);
        }
        let change = scene.world.commit(scene.id, prepared.base.as_deref()).await.expect("a change");
        let note = change.note.unwrap_or_default();
        assert_eq!(scene.on_the_forge(), "", "{script}: nothing is pushed by then");
        match &told {
            Some(told) => assert!(note.ends_with(told.as_str()), "{script}: {note}"),
            None => assert!(!note.contains("brought along"), "{script}: {note}"),
        }
        scene.commit = change.commit;
        scene.open().await.expect("it is pushed");
        assert_eq!(scene.on_the_forge(), scene.commit);
    }
}
