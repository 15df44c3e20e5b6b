//! Names from outside: what they may be, and what becomes of them.

use makima_core::id::TaskId;
use makima_core::limits;
use makima_core::policy::{self, BranchName, CommitText, RepositoryUrl};
use proptest::prelude::*;
use uuid::Uuid;

const ID: &str = "6f1c3b0a-4a38-4c5e-9d0b-0d5a2a6c7e11";

fn id() -> TaskId {
    TaskId(Uuid::try_parse(ID).expect("an id"))
}

#[test]
fn repositories_that_are_read() {
    let local = [
        "/srv/repo",
        "~/repo",
        "repo",
        "./a:b",
        "../x",
        "/with space/é",
        "file:///srv/repo",
        "file:///a@b",
        "C/x",
        "/a::b",
        "./a::b",
        "a/b::c",
    ];
    for text in local {
        let path = text.strip_prefix("file://").unwrap_or(text);
        assert_eq!(RepositoryUrl::read(text), Ok(RepositoryUrl::Local(path.to_string())));
    }
    let remote = [
        "https://example.com/team/repo",
        "HTTPS://example.com/x.git",
        "https://example.com:8443/x",
        "https://user@example.com/x",
        "https://example.com/a@-b",
        "ssh://git@example.com:22/x",
        "Ssh://host/~user/x",
        "git@example.com:team/repo.git",
        "host:path",
        "host:/abs",
        "ssh://[2001:db8::1]/x",
        "ssh://git@[2001:db8::1]:22/x",
        "https://[::1]:8443/x",
        "https://user:word@[fe80::1]/a::b",
        "https://user:password@example.com/x",
        "git@host:a::b",
    ];
    for text in remote {
        assert_eq!(RepositoryUrl::read(text), Ok(RepositoryUrl::Remote(text.to_string())));
    }
}

#[test]
fn repositories_that_are_refused() {
    let refused = [
        "-x",
        "--upload-pack=x",
        "http://example.com/x",
        "git://example.com/x",
        "ftp://example.com/x",
        "ext::sh -c x",
        "ext::https://example.com/x",
        "fd::17",
        "::x",
        "x+y-z.1::rest/of it",
        "HOST::1",
        "git@[::1]:x",
        "[::1]:x",
        "ssh://git:password@host/x",
        "SSH://git:@host/x",
        "ssh://:password@[::1]:22/x",
        "git@host::x",
        "https://",
        "https:///x",
        "https://@/x",
        "https://-host/x",
        "ssh://-oProxyCommand=x/x",
        "ssh://-oProxyCommand=x@host/x",
        "ssh://user@-oProxyCommand=x/x",
        "ssh://-oProxyCommand=x/a@host",
        ":path",
        "-h:path",
        "user@-oProxyCommand=x:path",
        "@:path",
        "file://host/x",
        "file://x",
        "/a\nb",
        "https://host/\u{1b}[31m",
        "a\0b",
    ];
    for text in refused {
        let error = RepositoryUrl::read(text).expect_err(text).to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

/// Protects a password in any URL from being shown or kept, also where the URL is of no use.
#[test]
fn passwords_are_taken_out_of_urls_and_shown_by_no_refusal() {
    for (url, bare) in [
        ("ssh://git:hunter22@host/x", "ssh://git:@host/x"),
        ("SSH://git:hunter22@[::1]:22/x", "SSH://git:@[::1]:22/x"),
        ("ssh://:hunter22@host", "ssh://:@host"),
        ("git+ssh://git:hun@ter22@host/x", "git+ssh://git:@host/x"),
        ("ftp://git:hunter22@host/x", "ftp://git:@host/x"),
        ("http://git:hunter22@host/x", "http://host/x"),
    ] {
        let (split, credentials) = policy::split_credentials(url).expect(url);
        assert_eq!(split, bare);
        assert!(url.contains(&format!("{credentials}@")), "{credentials}");
        assert_eq!(policy::split_credentials(bare), None, "once is enough");
        for url in [url, bare] {
            let why = RepositoryUrl::read(url).expect_err(url).to_string();
            assert!(why.contains(bare) && !why.contains("ter22"), "{why}");
            assert_eq!(why.contains("ssh takes none"), url.to_lowercase().starts_with("ssh:"), "{why}");
        }
    }
    for url in
        ["ssh://git@host/x", "ssh://git@[::1]:22/x", "git@host:x", "/a://b:c@d", "file:///a:b@c", "ssh://host:22/x"]
    {
        assert_eq!(policy::split_credentials(url), None, "{url}");
    }
}

#[test]
fn revisions_that_are_read_and_refused() {
    for text in
        ["main", "feature/x", "v1.2.3", "HEAD", "é/日本", "a@b", "0123456789abcdef0123456789abcdef01234567", "x-"]
    {
        assert_eq!(policy::revision(text).as_deref(), Ok(text));
    }
    let refused = [
        "", "-x", "--all", "/a", "a/", ".a", "a/.b", "a.", "a..b", "a//b", "@", "main@{1}", "main~1", "main^", "a:b",
        "a b", "a?", "a*", "a[b", "a\\b", "x.lock", "x.lock/y", "a\tb", "a\nb", "a\u{7f}b",
    ];
    for text in refused {
        let error = policy::revision(text).expect_err(text).to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn branches_bear_the_name_and_the_id() {
    let long = "long ".repeat(100);
    for (name, slug) in [
        ("Add a retry to the uploader", "add-a-retry-to-the-uploader"),
        ("  --fix: the  THING!! ", "fix-the-thing"),
        ("Über-Straße 7", "ber-stra-e-7"),
        ("日本語", "task"),
        ("", "task"),
        ("--", "task"),
        ("../../etc/passwd", "etc-passwd"),
        ("a.lock", "a-lock"),
        ("x\u{1b}[31m\n", "x-31m"),
        (&long, "long-long-long-long-long-long-long-long"),
    ] {
        let branch = BranchName::of(name, id());
        assert_eq!(branch.as_str(), format!("makima/{slug}-{ID}"), "{name:?}");
        assert_eq!(policy::revision(branch.as_str()).as_deref(), Ok(branch.as_str()));
        assert_eq!(BranchName::task_of(branch.as_str()), Some(id()));
    }
}

#[test]
fn branches_of_others_bear_no_task() {
    let simple = ID.replace('-', "");
    for branch in [
        "",
        "main",
        "makima/",
        "makima/x",
        ID,
        &format!("other/x-{ID}"),
        &format!("makima/x-{ID}0"),
        &format!("makima/x-{simple}"),
        &format!("makima/日{}", &ID[1..]),
        "makima/日本語日本語日本語日本語",
    ] {
        assert_eq!(BranchName::task_of(branch), None, "{branch}");
    }
}

#[test]
fn tasks_have_a_name_whatever_was_given() {
    for (given, plan, name) in [
        ("Fix it", "plan", "Fix it"),
        ("  two\n lines\t", "plan", "two lines"),
        ("\u{1b}[31mred", "plan", "[31mred"),
        ("", "Add a retry to the uploader and then test it well", "Add a retry to the uploader and then"),
        ("", "#!/bin/sh\nset -e\nmake", "set -e make"),
        (" \n", "", "task"),
        ("", "#!/bin/sh", "task"),
        ("", "\0\u{7}", "task"),
    ] {
        assert_eq!(policy::task_name(given, plan), name);
    }
    let long = policy::task_name(&"日".repeat(500), "");
    assert_eq!((long.chars().count(), long.ends_with('…')), (limits::NAME, true));
    let word = policy::task_name("", &"x".repeat(500));
    assert_eq!(word.chars().count(), limits::SUBJECT);
}

/// Protects logs from first lines that run on, and the name of the branch from being lost by that.
#[test]
fn a_merge_says_what_it_merges_in_a_short_first_line() {
    assert_eq!(policy::merge_message("a", None), "Merge branch 'a'");
    assert_eq!(policy::merge_message("a\nb", Some("main")), "Merge branch 'a b' into main");
    let name = format!("makima/{}-{ID}", "x".repeat(40));
    let message = policy::merge_message(&name, Some("main"));
    let (subject, rest) = message.split_once("\n\n").expect("a body");
    assert_eq!((subject.chars().count(), subject.ends_with('…')), (limits::SUBJECT, true));
    assert_eq!(rest, format!("Merge branch '{name}' into main"));
}

#[test]
fn commits_say_whose_work_it_is_in_a_short_first_line() {
    let text = CommitText::of("Fix\nit", id(), None);
    assert_eq!(text.message(None), format!("Fix it\n\nMakima-Task: {ID}\n"));
    assert_eq!(text.message(Some("merge left")), format!("Fix it (merge left)\n\nMakima-Task: {ID}\n"));
    let text = CommitText::of(&"name ".repeat(50), id(), Some(TaskId(Uuid::from_u128(1))));
    let message = text.message(Some("an unfinished merge was committed as it is"));
    let subject = message.lines().next().expect("a subject");
    assert_eq!(subject.chars().count(), limits::SUBJECT, "{subject}");
    assert!(message.ends_with(&format!("\nMakima-Task: {ID}\nMakima-Parent: 00000000-0000-0000-0000-000000000001\n")));
}

#[test]
fn texts_are_cut_between_characters() {
    for (text, max, short) in [
        ("日本語", 3, "日本語"),
        ("日本語", 2, "日…"),
        ("a b c", 3, "a…"),
        ("a\n\nb", 3, "a b"),
        (" a ", 1, "a"),
        ("ab", 1, "…"),
        ("", 1, ""),
    ] {
        assert_eq!(policy::shorten(text, max), short);
    }
    for (text, max, short) in
        [("a\nb", 3, "a\nb"), ("日本語", 2, "日本…"), ("a\nb", 2, "a\n…"), ("", 0, ""), ("🦀", 0, "…")]
    {
        assert_eq!(policy::cut(text, max), short);
    }
}

#[test]
fn only_listed_variables_reach_an_agent() {
    for name in ["PATH", "HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "https_proxy", "NO_PROXY"] {
        assert!(policy::passes(name), "{name}");
    }
    for name in [
        "",
        "path",
        "LD_PRELOAD",
        "MAKIMA_API_KEY",
        "BASH_ENV",
        "ENV",
        "GIT_DIR",
        "TMPDIR",
        "XLC_ALL",
        "AWS_SECRET_KEY",
    ] {
        assert!(!policy::passes(name), "{name}");
    }
}

#[test]
fn names_of_variables_tell_secrets() {
    for name in ["KEY", "api_key", "GITHUB_TOKEN", "Client_Secret", "DB_PASSWORD", "MONKEY"] {
        assert!(policy::is_secret(name), "{name}");
    }
    for name in ["", "KEYBOARD", "TOKENS", "PASSWORD_FILE", "PATH"] {
        assert!(!policy::is_secret(name), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_branch_is_one_that_git_takes_and_gives_its_task_back(name in any::<String>(), id: u128) {
        let id = TaskId(Uuid::from_u128(id));
        let branch = BranchName::of(&name, id);
        prop_assert!(policy::revision(branch.as_str()).is_ok(), "{branch}");
        prop_assert!(branch.as_str().is_ascii() && branch.as_str().len() <= "makima/".len() + limits::SLUG + 37);
        prop_assert_eq!(BranchName::task_of(branch.as_str()), Some(id));
    }

    #[test]
    fn names_and_subjects_are_one_short_line(given in ".{0,100}", plan in any::<String>(), note in ".{0,100}") {
        let name = policy::task_name(&given, &plan);
        prop_assert!(!name.is_empty() && name.chars().count() <= limits::NAME);
        prop_assert!(!name.contains(char::is_control));
        let message = CommitText::of(&name, id(), None).message(Some(&note));
        let (subject, rest) = message.split_once('\n').expect("a subject");
        prop_assert!(subject.chars().count() <= limits::SUBJECT, "{subject}");
        prop_assert_eq!(rest, format!("\nMakima-Task: {ID}\n"));
    }

    #[test]
    fn shortening_keeps_to_its_bound(text in any::<String>(), max in 1_usize..40) {
        let short = policy::shorten(&text, max);
        prop_assert!(short.chars().count() <= max);
        prop_assert_eq!(policy::shorten(&short, max), short.clone());
        let cut = policy::cut(&text, max);
        prop_assert!(cut == text || cut.chars().count() == max + 1 && cut.ends_with('…'));
    }

    #[test]
    fn no_name_makes_a_rule_panic(text in any::<String>()) {
        if let Ok(url) = RepositoryUrl::read(&text) {
            prop_assert!(!url.as_str().starts_with('-') && !url.as_str().contains(char::is_control));
        }
        let _ = (policy::revision(&text), BranchName::task_of(&text), policy::passes(&text), policy::is_secret(&text));
    }
}
