//! The picture in the README: what a person sees at a terminal while Claude Code works, taken of the real thing. `MAKIMA_WRITE=1`
//! draws it anew; else it is seen to that it is what is seen still.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use makima_tests::api::{Script, Turn};
use serde_json::json;
use vt100::{Color, Screen};

use crate::claudes::with_the_newest;
use crate::scene::{May, PATIENCE, Scene, bash};
use crate::support::until;

/// A column and a row, in pixels.
const CELL: (usize, usize) = (8, 18);

/// The colours of a terminal, and of the paper.
const PAPER: &str = "#1d1f21";
const INK: &str = "#c5c8c6";
const DIM: &str = "#81878b";
const COLOURS: [&str; 8] = ["#1d1f21", "#cc6666", "#b5bd68", "#f0c674", "#81a2be", "#b294bb", "#8abeb7", "#c5c8c6"];

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/picture.svg")
}

#[test]
fn the_picture_in_the_readme_is_what_is_seen() {
    with_the_newest(|claude| {
        let scene = Scene::new(claude, May::Ask, Script::new());
        let old = "fn area(r: f64) -> f64 {\n    3.14 * r * r\n}\n";
        fs::write(scene.repo.path().join("lib.rs"), old).expect("a file");
        scene.repo.git(["add", "lib.rs"]);
        scene.repo.git(["commit", "-qm", "Circles"]);
        scene.api.push(Turn::text("I read it first.").tool("Read", json!({ "file_path": "{cwd}/lib.rs" })));
        let (was, is) = ("    3.14 * r * r", "    std::f64::consts::PI * r * r");
        let edit = json!({ "file_path": "{cwd}/lib.rs", "old_string": was, "new_string": is });
        scene.api.push(Turn::text("The constant is rough; the library has it.").tool("Edit", edit));
        scene.api.push(bash(Turn::text("Does it compile?"), "touch target.log"));
        scene.api.push(Turn::text("The area uses the library's constant now."));
        let mut run = scene.run("Make the area of circles exact").on_a_terminal();
        for question in ["question 1: Edit", "question 2: Bash"] {
            // Who types before he is asked types into the line that shows how long it takes.
            let asks = |screen: &str| screen.split(question).nth(1).is_some_and(|behind| behind.contains("answer: "));
            until(question, PATIENCE, || asks(&run.screen()).then_some(()));
            run.types("y\n");
        }
        until("its end", PATIENCE, || run.screen().contains("git merge").then_some(()));
        let screen = run.screen.lock().expect("no panic").screen().clone();
        let (code, text) = run.end();
        assert_eq!(code, Some(0), "{text}");
        let branch = scene.repo.branch();
        let id = branch.get(branch.len() - 36..).expect("a task's id");
        let base = scene.repo.git(["rev-parse", "main"]);
        let names = [
            (scene.repo.path().display().to_string(), "~/src/circles".to_owned()),
            (id.to_owned(), "019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11".to_owned()),
            (base.trim().get(..10).expect("a commit").to_owned(), "1f0c3a7b1e".to_owned()),
        ];
        let picture = drawn(&screen, &names);
        if std::env::var_os("MAKIMA_WRITE").is_some() {
            fs::write(file(), picture).expect("the picture");
            return;
        }
        let known = fs::read_to_string(file()).expect("the picture");
        // What the agent writes and what is told of it come by two ways: either may be first.
        assert!(
            lines_of(&known) == lines_of(&picture),
            "the picture is another by now: MAKIMA_WRITE=1 draws it anew\n{picture}\n{:#?}",
            scene.short()
        );
    });
}

/// The lines of a picture, wherever they stand.
fn lines_of(picture: &str) -> Vec<&str> {
    let mut lines: Vec<&str> =
        picture.lines().filter_map(|line| line.split_once("preserve\">")).map(|it| it.1).collect();
    lines.sort_unstable();
    lines
}

/// The screen as a picture, with these names in place of those.
fn drawn(screen: &Screen, names: &[(String, String)]) -> String {
    let rows: Vec<Vec<(String, String)>> = (0..screen.size().0).map(|row| pieces(screen, row, names)).collect();
    let last = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
    let of_row = |row: &[(String, String)]| row.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
    let columns = rows.iter().map(|row| of_row(row)).max().unwrap_or(0);
    let (width, height) = ((columns + 4) * CELL.0, (last + 2) * CELL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    for (nth, row) in rows.iter().take(last).enumerate().filter(|(_, row)| !row.is_empty()) {
        let (x, y) = (2 * CELL.0, (nth + 2) * CELL.1 - 5);
        let parts = row.iter().fold(String::new(), |mut parts, (style, text)| {
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = write!(parts, "<tspan{style}>{text}</tspan>");
            parts
        });
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" xml:space=\"preserve\">{parts}</text>");
    }
    svg + "</svg>\n"
}

/// A row, by what looks the same.
fn pieces(screen: &Screen, row: u16, names: &[(String, String)]) -> Vec<(String, String)> {
    let mut pieces: Vec<(String, String)> = Vec::new();
    for column in 0..screen.size().1 {
        let Some(cell) = screen.cell(row, column) else { continue };
        let ink = match cell.fgcolor() {
            Color::Idx(colour) => COLOURS[usize::from(colour % 8)],
            _ if cell.dim() => DIM,
            Color::Default | Color::Rgb(..) => INK,
        };
        let weight = if cell.bold() { " font-weight=\"bold\"" } else { "" };
        let style = format!(" fill=\"{ink}\"{weight}");
        let text = if cell.has_contents() { cell.contents() } else { " " };
        match pieces.last_mut().filter(|(known, _)| *known == style) {
            Some((_, piece)) => piece.push_str(text),
            None => pieces.push((style, text.to_owned())),
        }
    }
    while let Some((_, text)) = pieces.last_mut() {
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            break;
        }
        pieces.pop();
    }
    for (_, text) in &mut pieces {
        for (this, that) in names {
            *text = text.replace(this.as_str(), that);
        }
        *text = without_the_time(text);
    }
    pieces
}

/// How long it took is another time each time.
fn without_the_time(text: &str) -> String {
    match (text.find('['), text.find("s]")) {
        (Some(begin), Some(end)) if begin < end && text[begin + 1..end].trim().parse::<f64>().is_ok() => {
            format!("{}[  42.0{}", &text[..begin], &text[end..])
        }
        _ => text.to_owned(),
    }
}
