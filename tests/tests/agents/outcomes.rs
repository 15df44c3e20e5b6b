//! A plan, what the agent makes of it, and what the task comes to.

use makima_tests::api::{Script, Turn};

use crate::claudes::with_each;
use crate::scene::{May, Scene, shows, write};

/// Protects the main job: a plan reaches the agent once, what it writes becomes a branch, and its own last word decides.
#[test]
fn a_plan_becomes_a_branch() {
    with_each(|claude| {
        let script = Script::new()
            .turn(write(Turn::text("I write it."), "made", "by it\n"))
            .turn(Turn::text("It is written."))
            .fallback(Turn::text("Nobody asked."));
        let scene = Scene::new(claude, May::Edit, script);
        let plan = "Make it, \"please\":\n- äöü, $HOME, `date`\n- {\"json\": [1]}\\n";
        let before = scene.repo.state();
        let done = scene.done(plan).code(0);
        assert_eq!(scene.asked().len(), 2, "{:#?}", scene.short());
        scene.said_once(&[plan]);
        assert_eq!(scene.asked()[1].tool_results().len(), 1);
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "by it");
        assert_eq!(scene.repo.state(), before, "the user's own files");
        let out = done.out();
        let shown: Vec<&str> = out.lines().collect();
        assert!(
            matches!(shown[..], ["I write it.", tool, "  + by it", "It is written.", sum]
                if tool.starts_with("● Write ") && sum.starts_with("— $")),
            "{out}"
        );
        drop(done.noted(&["1 file, +1 -0", "] done\n"]));
    });
}

/// Protects a conversation from plans and messages that begin like a command to the program: they are for the model.
#[test]
fn a_plan_that_begins_with_a_slash_is_no_command_to_the_program() {
    with_each(|claude| {
        let script = Script::new().turn(write(Turn::default(), "made", "x\n")).turn(Turn::text("It is clear."));
        let scene = Scene::new(claude, May::Edit, script);
        let done = scene.done("/clear").code(0);
        let said = scene.asked()[1].user_texts();
        assert_eq!(said.iter().map(|text| text.trim()).collect::<Vec<_>>(), ["/clear"]);
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "x");
        shows(&done, &["It is clear."]);
    });
}
