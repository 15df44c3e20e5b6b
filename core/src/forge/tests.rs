//! Which calls are made, and what their answers mean.

use super::*;
use alloc::vec;

fn project(url: &str) -> Project {
    Project::read(url).expect("a project")
}

#[test]
fn a_remote_names_a_repository_of_a_forge() {
    for url in [
        "https://github.com/o/r",
        "https://github.com/o/r.git",
        "https://GitHub.com/o/r/",
        "ssh://git@github.com/o/r.git",
        "ssh://git@github.com:2222/o/r.git",
        "git@github.com:o/r.git",
        "github.com:/o/r.git",
    ] {
        let Project { origin, host, path } = project(url);
        assert_eq!(
            (origin.as_str(), host.as_str(), path.as_str()),
            ("https://github.com", "github.com", "o/r"),
            "{url}"
        );
    }
    assert_eq!(project("https://git.example.org:8443/a/b/c.git").origin, "https://git.example.org:8443");
    assert_eq!(project("http://127.0.0.1:80/o/r").origin, "http://127.0.0.1:80");
    for url in [
        "http://example.org/o/r",
        "http://localhost.evil.org/o/r",
        "https://example.org",
        "https://example.org/r",
        "https://example.org/../r",
        "https://example.org/o/r%2f..",
        "https:///o/r",
        "https://-x/o/r",
        "https://exa mple.org/o/r",
        "/a/b",
        "./a:b/c",
        "file:///a/b",
    ] {
        assert_eq!(Project::read(url), None, "{url}");
    }
}

#[test]
fn a_forge_is_known_by_what_the_user_says_and_by_its_name() {
    let forges = Forges {
        named: vec![("code.example.org".to_string(), Kind::GitLab)],
        github: Some("ghe.example.org".to_string()),
        gitlab: Some("https://lab.example.org/".to_string()),
    };
    for (host, kind) in [
        ("github.com", Some(Kind::GitHub)),
        ("gitlab.com", Some(Kind::GitLab)),
        ("gitlab.gnome.org", Some(Kind::GitLab)),
        ("Code.example.org", Some(Kind::GitLab)),
        ("ghe.example.org", Some(Kind::GitHub)),
        ("lab.example.org", Some(Kind::GitLab)),
        ("example.org", None),
    ] {
        assert_eq!(forges.kind(host), kind, "{host}");
    }
}

/// Protects the user's tokens from a server that names a host of its own.
#[test]
fn a_token_is_shown_to_whom_it_was_made_for() {
    let none = Forges::default();
    assert_eq!(none.variables(Kind::GitHub, "github.com"), ["GH_TOKEN", "GITHUB_TOKEN"]);
    assert_eq!(none.variables(Kind::GitLab, "gitlab.com"), ["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"]);
    for (kind, host) in [
        (Kind::GitHub, "github.evil.org"),
        (Kind::GitHub, "gitlab.com"),
        (Kind::GitLab, "gitlab.evil.org"),
        (Kind::GitLab, "github.com"),
        (Kind::GitLab, "gitlab.com:8443"),
    ] {
        assert!(none.variables(kind, host).is_empty(), "{host}");
    }
    let own = Forges { gitlab: Some("lab.example.org".to_string()), ..Forges::default() };
    assert!(!own.variables(Kind::GitLab, "lab.example.org").is_empty());
    assert!(own.variables(Kind::GitLab, "gitlab.com").is_empty(), "the token is the other one's");
    let named = Forges { named: vec![("ghe.example.org".to_string(), Kind::GitHub)], ..Forges::default() };
    assert_eq!(named.variables(Kind::GitHub, "ghe.example.org"), ["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"]);
    assert!(named.variables(Kind::GitLab, "ghe.example.org").is_empty());
}

fn wanted() -> Wanted {
    let text = |text: &str| text.to_string();
    Wanted { branch: text("makima/x-1"), base: text("main"), title: text("Do \"it\""), body: text("b") }
}

const FOUND: &str = r#"[{"head":{"ref":"other"},"html_url":"https://h/0"},
    {"head":{"ref":"makima/x-1"},"html_url":"https://h/1","source_branch":"makima/x-1","web_url":"https://h/2"}]"#;

#[test]
fn one_that_is_open_is_found_and_not_doubled() {
    let (mut opening, call) = Opening::begin(Kind::GitHub, project("https://github.com/o/r"), wanted());
    let url = "https://api.github.com/repos/o/r/pulls?state=open&head=o%3Amakima%2Fx-1";
    assert_eq!((call.method, call.url.as_str(), call.body), (Method::Get, url, None));
    let open = |url: &str, found| Next::Open { url: url.to_string(), found };
    assert_eq!(opening.answered(200, None, FOUND), open("https://h/1", true));
    let (mut opening, call) = Opening::begin(Kind::GitLab, project("git@gitlab.com:a/b/c.git"), wanted());
    let url = "https://gitlab.com/api/v4/projects/a%2Fb%2Fc/merge_requests?state=opened&source_branch=makima%2Fx-1";
    assert_eq!(call.url, url);
    assert_eq!(opening.answered(200, None, FOUND), open("https://h/2", true));
}

/// Walks to the call that makes one.
fn making(kind: Kind) -> (Opening, Call) {
    let (mut opening, _) = Opening::begin(kind, project("https://forge.example.org/o/r"), wanted());
    let next = opening.answered(200, None, "[]");
    let Next::Call(call) = next else { panic!("{next:?}") };
    (opening, call)
}

#[test]
fn one_is_made_where_there_is_none() {
    let (mut opening, call) = making(Kind::GitHub);
    assert_eq!((call.method, call.url.as_str()), (Method::Post, "https://forge.example.org/api/v3/repos/o/r/pulls"));
    let body = r#"{"base":"main","body":"b","head":"makima/x-1","title":"Do \"it\""}"#;
    assert_eq!(call.body.as_deref(), Some(body));
    let made = Next::Open { url: "https://h/3".to_string(), found: false };
    assert_eq!(opening.answered(201, None, r#"{"html_url":"https://h/3"}"#), made);
    let (mut opening, call) = making(Kind::GitLab);
    assert_eq!(call.url, "https://forge.example.org/api/v4/projects/o%2Fr/merge_requests");
    let again = opening.answered(409, None, r#"{"message":["Another open merge request already exists: !3"]}"#);
    assert!(matches!(again, Next::Call(Call { method: Method::Get, .. })), "{again:?}");
    assert!(matches!(opening.answered(200, None, "[]"), Next::Refused(_)), "it does not go in circles");
}

#[test]
fn trouble_of_the_forges_is_borne_a_few_times() {
    let (mut opening, make) = making(Kind::GitHub);
    assert_eq!(opening.answered(500, None, ""), Next::Later(1, make.clone()));
    assert_eq!(opening.failed("connection reset"), Next::Later(2, make.clone()));
    assert_eq!(opening.answered(429, Some(7), ""), Next::Later(7, make));
    assert_eq!(opening.answered(502, None, "<html>"), Next::Refused("forge.example.org answered 502".to_string()));
    let (mut opening, make) = making(Kind::GitHub);
    assert_eq!(opening.answered(403, Some(2), ""), Next::Later(2, make));
    let (mut opening, _) = making(Kind::GitHub);
    assert!(matches!(opening.answered(429, Some(3600), ""), Next::Refused(_)), "it has no hour");
}

#[test]
fn what_a_forge_refuses_is_said_in_its_words() {
    let refused = |status, body: &str| {
        let next = making(Kind::GitHub).0.answered(status, None, body);
        let Next::Refused(why) = next else { panic!("{next:?}") };
        why
    };
    let why = refused(401, r#"{"message":"Bad credentials"}"#);
    assert_eq!(why, "forge.example.org answered 401: Bad credentials; the token is not accepted");
    let why = refused(422, r#"{"message":"Validation Failed","errors":[{"message":"No commits between main and x"}]}"#);
    assert_eq!(why, "forge.example.org answered 422: Validation Failed; No commits between main and x");
    assert!(refused(403, "<html>a proxy's</html>").ends_with("403; the token may not do that"));
    assert!(refused(301, "").contains("has moved"));
    for body in ["", "<html>", "{}", "[]", "null", r#"{"html_url":7}"#, r#"{"html_url":"javascript:alert(1)"}"#] {
        let next = making(Kind::GitHub).0.answered(201, None, body);
        assert_eq!(
            next,
            Next::Refused("forge.example.org gave an answer that is not understood".to_string()),
            "{body}"
        );
    }
    let (mut opening, _) = Opening::begin(Kind::GitHub, project("https://forge.example.org/o/r"), wanted());
    assert!(matches!(opening.answered(200, None, "<html>"), Next::Refused(_)));
}

#[test]
fn programs_of_forges_are_told_everything_behind_equals_signs() {
    let wanted = Wanted { title: "--web".to_string(), ..wanted() };
    for (kind, url) in [(Kind::GitHub, "https://github.com/o/r"), (Kind::GitLab, "https://gitlab.com/o/r")] {
        let words = Tool(kind).make(&project(url), &wanted);
        assert!(words.contains(&"--title=--web".to_string()) && !words.contains(&"--web".to_string()), "{words:?}");
    }
    assert_eq!(Tool(Kind::GitHub).found(r#"[{"url":"https://h/1"}]"#).as_deref(), Some("https://h/1"));
    assert_eq!(Tool(Kind::GitHub).found("[]"), None);
    let said = "Creating pull request\n\nhttps://h/1\n";
    assert_eq!(Tool(Kind::GitHub).made(said).as_deref(), Some("https://h/1"));
    assert_eq!(Tool(Kind::GitLab).made("!1 title (x)\n https://h/2 \n done").as_deref(), Some("https://h/2"));
}

#[test]
fn the_page_to_open_names_both_branches() {
    let github = project("https://github.com/o/r");
    let page = github.page(Some(Kind::GitHub), "makima/a b", Some("main"));
    assert_eq!(page, "https://github.com/o/r/compare/main...makima/a%20b?expand=1");
    let page = project("https://gitlab.com/o/r").page(Some(Kind::GitLab), "x", None);
    assert_eq!(page, "https://gitlab.com/o/r/-/merge_requests/new?merge_request%5Bsource_branch%5D=x");
    assert_eq!(github.page(None, "x", None), "https://github.com/o/r");
}
