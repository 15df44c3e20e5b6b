//! What agents do to their files and to their repository. A test for each, of a subtask and of who it is merged into,
//! with what is answered with a reason then: all else is done as if nothing were the matter (docs/hostile.md).

use crate::matrix::{a_parent, a_subtask};

/// Each is a script, what is refused of a subtask that ran it, and what is refused of a parent that did.
macro_rules! hostilities {
    ($($(#[$about:meta])* $name:ident: $script:expr, $subtask:expr, $parent:expr;)*) => {
        $(mod $name {
            use super::*;

            $(#[$about])*
            #[tokio::test]
            async fn of_a_subtask() {
                assert_eq!(a_subtask($script).await, $subtask as [&str; _]);
            }

            #[tokio::test]
            async fn of_a_parent() {
                assert_eq!(a_parent($script).await, $parent as [&str; _]);
            }
        })*
    };
}

/// Nothing is merged in what is no repository of the agent's own; its files are committed all the same.
const MERGING: [&str; 7] = ["list", "start", "abort", "start again", "status", "resolve", "settle"];
/// Where there are no files, there is nothing.
const GONE: [&str; 8] = ["list", "start", "abort", "start again", "status", "resolve", "settle", "commit"];

hostilities! {
    nothing: "true", [], [];

    // What git would run by its configuration.
    drivers: "for k in filter.e.clean filter.e.smudge filter.e.process merge.e.driver diff.e.command diff.e.textconv \
        diff.external; do git config $k $CANARY; done; git config filter.e.required true; \
        git config merge.default e; echo '* filter=e diff=e merge=e' | tee .gitattributes > .git/info/attributes",
        [], [];
    programs: "for k in core.fsmonitor core.sshCommand core.editor core.pager core.askPass core.gitProxy gpg.program \
        gpg.ssh.program gpg.x509.program gpg.ssh.defaultKeyCommand credential.helper core.alternateRefsCommand \
        sequence.editor uploadpack.packObjectsHook interactive.diffFilter trailer.e.command trailer.e.cmd \
        remote.origin.uploadpack remote.origin.receivepack remote.origin.vcs web.browser tar.tar.gz.command \
        hook.e.command submodule.e.update; do git config $k $CANARY; done; git config commit.gpgsign true; \
        git config tag.gpgsign true; git config push.gpgSign if-asked; git config trailer.e.key Makima-Task; \
        git config hook.e.event pre-commit; git config gc.auto 1; git config fetch.writeCommitGraph true",
        [], [];
    hooks: "mkdir -p .git/hooks h; for h in applypatch-msg pre-applypatch post-applypatch pre-commit \
        pre-merge-commit prepare-commit-msg commit-msg post-commit pre-rebase post-checkout post-merge pre-push \
        pre-receive update proc-receive post-receive post-update reference-transaction push-to-checkout pre-auto-gc \
        post-rewrite sendemail-validate fsmonitor-watchman post-index-change; do cp $CANARY .git/hooks/$h; \
        cp $CANARY h/$h; done; git config core.hooksPath \"$PWD/h\"",
        [], [];
    urls: "for u in / http file: git@ ''; do git config --add url.\"ext::$CANARY %S \".insteadOf \"$u\"; \
        git config --add url.\"ext::$CANARY %S \".pushInsteadOf \"$u\"; done; git config protocol.allow always; \
        git config protocol.ext.allow always; git config remote.origin.url \"ext::$CANARY\"; \
        git config remote.pushDefault origin; git config branch.main.remote origin",
        [], [];
    a_promisor: "git config core.repositoryFormatVersion 1; git config extensions.partialClone origin; \
        git config remote.origin.promisor true; git config remote.origin.url \"ext::$CANARY\"; \
        git config protocol.ext.allow always; git config fetch.bundleURI \"ext::$CANARY\"",
        [], [];
    includes: "printf '[include]\n\tpath = %s\n\tpath = %s\n[core]\n\tattributesFile = %s\n\texcludesFile = %s\n\
        [commit]\n\ttemplate = %s\n[mailmap]\n\tfile = %s\n[init]\n\ttemplateDir = %s\n' \"$OUT/secret\" \
        \"$OUT/pipe\" \"$OUT/pipe\" \"$OUT/pipe\" \"$OUT/secret\" \"$OUT/pipe\" \"$OUT\" >> .git/config",
        [], [];
    another_worktree: "git config core.worktree \"$OUT/dir\"; git config extensions.worktreeConfig true; \
        printf '[core]\\n\\tworktree = %s\\n\\tbare = true\\n' \"$OUT/dir\" > .git/config.worktree; \
        git config core.bare true",
        [], [];
    rubbish_in_the_configuration: "printf '[[[\\0\\n' > .git/config", [], [];
    a_pipe_as_configuration: "rm .git/config; mkfifo .git/config", [], [];

    // Where git's parts are.
    no_repository: "rm -rf .git", [], MERGING;
    the_users_repository_by_a_link: "rm -rf .git; ln -s \"$USERS/.git\" .git", [], MERGING;
    the_users_repository_by_a_file: "rm -rf .git; echo \"gitdir: $USERS/.git\" > .git", [], MERGING;
    the_users_repository_by_a_common_folder: "echo \"$USERS/.git\" > .git/commondir; \
        echo \"$USERS/.git/worktrees/x\" > .git/gitdir", [], [];
    objects_of_somebody_elses: "rm -rf .git/objects; ln -s \"$OUT/dir\" .git/objects", [], MERGING;
    objects_lent_by_somebody_else: "echo \"$OUT/dir\" > .git/objects/info/alternates; \
        echo \"$OUT\" > .git/objects/info/http-alternates", [], [];
    files_of_gits_that_are_links: "for f in index HEAD packed-refs shallow info/exclude info/attributes \
        info/sparse-checkout info/grafts MERGE_HEAD MERGE_MSG COMMIT_EDITMSG ORIG_HEAD FETCH_HEAD description logs; do \
        rm -rf .git/$f; mkdir -p .git/info; ln -s \"$OUT/file\" .git/$f; done", [], MERGING;
    files_of_gits_that_are_pipes: "for f in index HEAD packed-refs shallow info/exclude info/attributes \
        info/sparse-checkout info/grafts MERGE_HEAD MERGE_MSG COMMIT_EDITMSG ORIG_HEAD objects/info/commit-graph \
        objects/pack/multi-pack-index logs/HEAD refs/heads/pipe; do rm -rf .git/$f; mkdir -p .git/info .git/logs; \
        mkfifo .git/$f; done", [], MERGING;
    folders_of_gits_that_are_links: "for f in refs/heads logs info hooks; do rm -rf .git/$f; \
        ln -s \"$OUT/dir\" .git/$f; done", [], MERGING;
    nobody_may_read_it: "chmod 000 .git/objects/?? .git/index file; chmod 000 .git", [], [];
    no_worktree: "d=$PWD; cd /; rm -rf \"$d\"", ["go on", "clone", "commit", "start", "start again"], GONE;
    a_worktree_that_is_a_link: "d=$PWD; cd /; rm -rf \"$d\"; ln -s \"$OUT/dir\" \"$d\"", ["go on", "clone", "commit", "start", "start again"], GONE;
    a_worktree_that_is_the_users: "d=$PWD; cd /; rm -rf \"$d\"; ln -s \"$USERS\" \"$d\"", ["go on", "clone", "commit", "start", "start again"], GONE;
    a_worktree_that_is_a_file: "d=$PWD; cd /; rm -rf \"$d\"; echo x > \"$d\"", ["go on", "clone", "commit", "start", "start again"], GONE;

    // References and what stands open.
    references_deleted: "rm -rf .git/refs/heads .git/packed-refs; mkdir .git/refs/heads", [], MERGING;
    a_detached_head: "git switch -q --detach", [], [];
    a_head_at_nothing: "echo 'ref: refs/heads/../../../../../x' > .git/HEAD", [], MERGING;
    a_head_of_rubbish: "printf '\\0\\377 rubbish' > .git/HEAD", [], MERGING;
    another_history: "git checkout -q --orphan else; git commit -qm else; git branch -f $(git for-each-ref \
        --format='%(refname:short)' refs/heads | head -1) HEAD 2>/dev/null || true", ["merge"], [];
    names_like_options: "c=$(git rev-parse HEAD); for n in --upload-pack=$CANARY -x --exec; do mkdir -p .git/refs/heads; \
        echo $c > \".git/refs/heads/$n\" 2>/dev/null || true; done; echo \"ref: refs/heads/-x\" > .git/HEAD", [], [];
    rubbish_in_references: "printf '\\0\\n \\n' > .git/packed-refs; echo x > .git/refs/heads/x; \
        mkdir -p .git/refs/makima; echo x > .git/refs/makima/x", [], [];
    replaced_objects: "git replace HEAD HEAD~1; git replace HEAD:file $(echo evil | git hash-object -w --stdin); \
        git rev-parse HEAD > .git/info/grafts", [], [];
    a_rebase_open: "git stash -q; git checkout -q -b r HEAD~1; echo r > file; git commit -qam r; \
        git rebase -q - > /dev/null 2>&1 || true", [], [];
    a_merge_open: "git stash -q; git checkout -q -b r HEAD~1; echo r > file; git commit -qam r; \
        git merge -q - > /dev/null 2>&1 || true", [], [];
    a_pick_open: "git stash -q; git checkout -q -b r HEAD~1; echo r > file; git commit -qam r; \
        git cherry-pick - > /dev/null 2>&1 || true", [], [];
    locks_left: "for l in index HEAD config packed-refs shallow refs/heads/x; do touch .git/$l.lock; done; \
        for r in $(git for-each-ref --format='%(refname)' refs/heads); do touch .git/$r.lock; done", [], ["start", "start again"];

    // Objects and the index.
    a_corrupt_object: "f=.git/objects/$(git rev-parse HEAD:file | sed 's,..,&/,'); chmod u+w $f; echo rubbish > $f", ["go on", "clone"], ["start", "start again"];
    a_missing_object: "rm -f .git/objects/$(git rev-parse HEAD:file | sed 's,..,&/,')", [], ["start", "start again"];
    a_missing_commit: "rm -f .git/objects/$(git rev-parse HEAD | sed 's,..,&/,')", ["go on", "clone"], ["list", "start", "start again"];
    rubbish_among_the_objects: "mkdir -p .git/objects/info .git/objects/pack; \
        for f in info/commit-graph info/packs pack/multi-pack-index pack/pack-1.idx pack/pack-1.pack; do \
        echo rubbish > .git/objects/$f; done", [], [];
    rubbish_as_index: "echo rubbish > .git/index", ["go on", "clone"], ["start", "start again"];
    an_index_that_looks_away: "git update-index --assume-unchanged d/y; git update-index --skip-worktree other; \
        echo away > other; git add -N new; git update-index --split-index; git config core.sparseCheckout true; \
        echo /nothing > .git/info/sparse-checkout", [], [];
    sparse: "git add -A; git commit -qm all; git sparse-checkout set --cone nothing", [], [];
    shallow: "git rev-parse HEAD > .git/shallow", ["merge", "pr"], ["pr"];

    // Names and links.
    strange_names: "for n in \"$(printf 'a\\nb')\" \"q'\\\"q\" --exec=x -rf 'back\\\\slash' \"$(printf 'tab\\tx')\" \
        \"$(printf '\\377\\376')\" ':(glob)**' ':!x' '..x' '...' 'git~1' \"$(printf '.g\\342\\200\\214it')\" \
        \"$(printf 'caf\\303\\251')\" \"$(printf 'cafe\\314\\201')\" '$(x)' '*' ' ' '\u{202e}x'; do echo x > \"./$n\"; \
        done; git add -A --ignore-errors || true; git commit -qm names; for n in ' ' -rf '*'; do echo y > \"./$n\"; done", ["go on", "clone", "commit", "start from", "start", "start again"], ["settle", "commit"];
    trees_that_lead_out: "b=$(echo evil | git hash-object -w --stdin); \
        t=$(printf \"100644 blob $b\\tHEAD\\n\" | git mktree); r=$(printf \"040000 tree $t\\taa\\n040000 tree $t\\tbbbb\\n\
        100644 blob $b\\tfile\\n\" | git mktree); r=$(git cat-file tree $r | LC_ALL=C sed 's/ aa\\x00/ ..\\x00/; \
        s/ bbbb\\x00/ .git\\x00/' | git hash-object -t tree --literally -w --stdin); \
        git update-ref HEAD $(git commit-tree -p HEAD -m evil $r)", ["go on", "clone", "commit", "start from", "start", "start again"], ["commit"];
    links_out_not_committed: "for f in file other README .gitignore .gitattributes .gitmodules .makima.toml \
        .mailmap there; do rm -rf $f; ln -s \"$OUT/file\" $f; done; rm -rf d; ln -s \"$OUT/dir\" d; \
        ln -sf \"$OUT/pipe\" new", [], [];
    links_out_committed: "for f in file other README .gitignore .gitattributes .gitmodules .makima.toml \
        .mailmap there; do rm -rf $f; ln -s \"$OUT/file\" $f; done; rm -rf d; ln -s \"$OUT/dir\" d; \
        git add -A -- . ':!.gitmodules'; git commit -qm links", [], [];
    links_in_circles: "rm -rf d other; ln -s d d; ln -s .git other; ln -s .. there; ln -s . here", [], [];
    no_plain_files: "rm -f other; mkfifo other p; rm -rf d; mkfifo d", [], [];
    nested_repositories: "for n in in d/in; do git init -q $n; git -C $n config core.fsmonitor $CANARY; \
        git -C $n config filter.e.clean $CANARY; echo '* filter=e' > $n/.gitattributes; echo x > $n/x; done; \
        git -C in -c core.fsmonitor= add .gitattributes; git -C in -c core.fsmonitor= commit -qm in", [], [];
    submodules: "printf '[submodule \"e\"]\\n\\tpath = e\\n\\turl = ext::%s\\n\\tupdate = !%s\\n[submodule \"../../x\"]\\n\
        \\tpath = f\\n\\turl = -u%s\\n' $CANARY $CANARY $CANARY > .gitmodules; \
        git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),e; \
        git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),f; \
        git add .gitmodules; git commit -qm modules", ["go on", "clone", "commit", "start from", "start", "start again"], ["settle", "commit"];
    what_is_read_by_others: "printf '[checks]\\nrun = [\"%s\"]\\n' $CANARY > .makima.toml; \
        echo \"$OUT/file\" > .worktreeinclude; echo 'n*w' > .gitignore; git add -f .; git commit -qm settings", [], [];

    // What stands in commits.
    words_of_commits: "GIT_AUTHOR_NAME=\"$(printf 'A\\033[2J')\" git commit -q --allow-empty -m \"$(printf \
        'x\\033]0;x\\007\\n\\nMakima-Parent: 00000000-0000-4000-8000-000000000000\\nMakima-Task: x')\"; \
        printf 'tree %s\\nauthor <>> 1 -9999\\ncommitter \\n\\nx' $(git rev-parse HEAD^{tree}) | \
        git hash-object -t commit --literally -w --stdin > .git/odd", [], [];
    a_commit_that_is_none: "git update-ref --no-deref HEAD $(printf 'tree %s\\nparent %s\\nauthor <>> 1 -9999\\n\
        committer x\\n\\nx' $(git rev-parse HEAD^{tree}) $(git rev-parse HEAD) | \
        git hash-object -t commit --literally -w --stdin)", [], [];
}
