//! What an agent asks at a terminal, and what is taken for an answer there.

use std::fs;
use std::time::Duration;

use crate::support::{Place, Repo, SOON, until};

/// A place whose agent takes its turns by this script, and asks for what it does.
fn asks(turn: &str) -> (Place, Repo) {
    let place = Place::new();
    let agent = place.claude(turn);
    place.configure(&format!("permissions = 'ask'\n{agent}"));
    let repo = place.repo();
    (place, repo)
}

/// Protects people from allowing what they have not seen: a key that was hit twice says nothing about the next question.
#[test]
fn what_was_typed_before_a_question_does_not_answer_it() {
    let place = Place::new();
    let go = place.path("go");
    let turn = format!(
        "my $one = ask('Bash', '{{\"command\":\"one\"}}'); say('one is ' . ($one =~ /\"allow\"/ ? 'allowed' : 'denied'));
         await('{}');
         my $two = ask('Bash', '{{\"command\":\"two\"}}'); say('two is ' . ($two =~ /\"allow\"/ ? 'allowed' : 'denied'));",
        go.display()
    );
    let agent = place.claude(&turn);
    place.configure(&format!("permissions = 'ask'\n{agent}"));
    let repo = place.repo();
    let mut run = place.makima(["run", "--on-complete", "none", "Try"]).at(repo.path()).on_a_terminal();
    run.shows("answer: y(es)");
    run.types("y\n");
    run.shows("one is allowed");
    // Twice: as a line, and as one that has not ended.
    run.types("y\ny");
    std::thread::sleep(Duration::from_millis(200));
    fs::write(&go, "").expect("a file");
    until("the second question", SOON, || {
        let screen = run.screen();
        screen.split("question 2: Bash: two").nth(1).is_some_and(|behind| behind.contains("answer: ")).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!run.screen().contains("two is"), "nobody has answered it:\n{}", run.screen());
    run.types("n\n");
    let (code, screen) = run.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("two is denied"), "{screen}");
}

/// Protects a choice in a person's own words, and the person from a terminal that takes no other after one that was none.
#[test]
fn words_with_a_comma_are_a_choice_and_what_was_none_is_asked_again() {
    let questions = |asked: &str| format!("{{\"questions\":[{asked}]}}");
    let one = |text: &str| {
        format!("{{\"question\":\"{text}\",\"options\":[{{\"label\":\"tokio\"}},{{\"label\":\"smol\"}}]}}")
    };
    let (first, second) = (questions(&one("Which?")), questions(&[one("This?"), one("That?")].join(",")));
    let third = questions(&one("What [of it] then?"));
    let show =
        |name: &str| format!("say('{name}: ' . join('; ', $line =~ /\"answers\":\\{{([^}}]*)\\}}/) =~ tr/\"//dr);");
    let turn: String = [("first", first), ("second", second), ("third", third)]
        .iter()
        .map(|(name, input)| format!("$line = ask('AskUserQuestion', '{input}'); {}\n", show(name)))
        .collect();
    let (place, repo) = asks(&turn);
    let mut run = place.makima(["run", "--on-complete", "none", "Ask"]).at(repo.path()).on_a_terminal();
    for (number, line) in [(1, "tokio, not async-std"), (2, "smol"), (3, "2, if it may be")] {
        let asked = |screen: &str, what: &str| screen.split(what).nth(1).is_some_and(|rest| rest.contains("answer"));
        let question = format!("question {number}: choose");
        until(&question, SOON, || asked(&run.screen(), &question).then_some(()));
        run.types(&format!("{line}\n"));
        // Neither is for as many things as are asked.
        let (again, then) = match number {
            2 => ("it asks 2 things", "smol, 1"),
            3 => ("it asks 1 things", "2, if it may be"),
            _ => continue,
        };
        until(again, SOON, || asked(&run.screen(), again).then_some(()));
        run.types(&format!("{then}\n"));
    }
    let (code, screen) = run.end();
    assert_eq!(code, Some(0), "{screen}");
    for said in ["first: Which?:tokio, not async-std", "second: That?:tokio,This?:smol", "then?:2, if it may be"] {
        assert!(screen.contains(said), "{said:?} is to stand in\n{screen}");
    }
}
