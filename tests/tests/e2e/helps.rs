//! `makima completions` and `makima man`: real shells take the scripts, and every command has a page.

use std::fs;
use std::process::Command;

use crate::support::Place;

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|answer| answer.status.success())
}

#[test]
fn bash_takes_the_script_and_completes_with_it() {
    let place = Place::new();
    let script = place.makima(["completions", "bash"]).done().code(0).out();
    if !is_there("bash") {
        return eprintln!("left out: there is no bash here");
    }
    let file = place.path("makima.bash");
    fs::write(&file, script).expect("a file");
    let complete = |words: &[&str]| {
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let (typed, at) = (words.join(" "), words.len() - 1);
        let ask = format!(
            "set -eu; source {}; COMP_WORDS=({typed}); COMP_CWORD={at}; _makima makima {last} {before}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["makima", "doc"]), ["doctor"]);
    let inner = complete(&["makima", "config", "''"]);
    for word in ["show", "check", "path"] {
        assert!(inner.contains(&word.to_owned()), "{inner:?}");
    }
}

#[test]
fn other_shells_have_one_too() {
    let place = Place::new();
    for (shell, mark) in
        [("zsh", "#compdef makima"), ("fish", "complete -c makima"), ("elvish", "makima"), ("powershell", "makima")]
    {
        let script = place.makima(["completions", shell]).done().code(0).out();
        assert!(script.contains(mark) && script.contains("doctor"), "{shell}");
        let file = place.path(shell);
        fs::write(&file, script).expect("a file");
        if ["zsh", "fish"].contains(&shell) && is_there(shell) {
            let checked = Command::new(shell).arg("-n").arg(&file).output().expect("a shell");
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    drop(place.makima(["completions", "nushell"]).done().code(2).noted(&["bash", "fish"]));
    assert!(!place.home().exists());
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    let page = place.makima(["man"]).done().code(0).out();
    assert!(page.contains(".TH makima 1") && page.contains("doctor"), "{page}");
    let folder = place.path("man/man1");
    let words = ["man", "--dir", folder.to_str().expect("a path")];
    drop(place.makima(words).done().code(0).noted(&["written to"]));
    for name in ["makima.1", "makima-run.1", "makima-task-create.1", "makima-config-check.1"] {
        let page = fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains("Examples:"), "{name}: {page}");
    }
    let taken = place.path("taken");
    fs::write(&taken, "").expect("a file");
    drop(place.makima(["man", "--dir", taken.to_str().expect("a path")]).done().code(2).noted(&["taken"]));
}
