//! The daemon's journal as people use it: checked, shown, exported, taken again.

use std::fs;

use crate::support::{Place, until};

/// A run with output on both streams, an unfinished line, a secret, and a change.
fn worked(place: &Place) {
    let repo = place.repo();
    place.configure("[agent]\nname = \"shell\"\nenv = { SOME_TOKEN = \"a-secret-of-some-length\" }\n");
    let plan =
        "echo one; echo two >&2; for n in $(seq 3000); do echo line $n; done; echo $SOME_TOKEN; echo x > x; printf end";
    place.run(&repo, &[plan]).done().code(0);
    place.run(&repo, &["exit 3"]).done().code(1);
}

#[test]
fn a_recording_of_a_session_goes_the_same_way_again() {
    let place = Place::new();
    worked(&place);
    let verify = place.makima(["journal", "verify"]).done().code(0).out();
    assert!(verify.lines().count() >= 2 && verify.lines().all(|line| line.ends_with(", whole")), "{verify}");

    let replay = place.makima(["replay", "--json"]).done().code(0).json();
    assert!(replay["steps"].as_u64() > Some(20) && replay["effects"].as_u64() > Some(20), "{replay}");

    let out = place.path("recording");
    let name = out.to_str().expect("a plain path");
    place.makima(["journal", "export", "--out", name]).done().code(0);
    let recording = fs::read_to_string(&out).expect("a recording");
    assert!(recording.contains("line 3000\\n") && recording.contains("***"), "the masked output is in it");
    assert!(!recording.contains("a-secret-of-some-length"));
    // Where no log is, the recording is enough.
    let elsewhere = Place::new();
    let again = elsewhere.makima(["replay", "--json", name]).done().code(0).json();
    assert_eq!(again, replay);
    let people = elsewhere.makima(["replay", name]).done().code(0).out();
    assert!(people.contains("compared: the same; digest "), "{people}");
}

/// Protects the walk behind each test from finding nothing to walk through.
#[test]
fn what_daemons_were_given_the_world_could_have_given() {
    let place = Place::new();
    worked(&place);
    let walked = place.walked();
    assert_eq!(walked.lives, 2);
    assert!(walked.steps > 40, "{} steps", walked.steps);
}

#[test]
fn a_recording_that_was_changed_is_told_by_its_first_difference() {
    let place = Place::new();
    worked(&place);
    let out = place.path("recording");
    let name = out.to_str().expect("a plain path");
    place.makima(["journal", "export", "--out", name]).done().code(0);
    let text = fs::read_to_string(&out).expect("a recording");
    // Somebody who can write checksums has put another agent's end into it.
    let line = text.lines().find(|line| line.contains("\"exited\":{")).expect("an agent's end");
    let lie = line.replace("{\"Code\":0}", "{\"Code\":9}");
    assert_ne!(line, lie, "{line}");
    let lie = format!("{:08x} {}", crc32(&lie.as_bytes()[9..]), &lie[9..]);
    fs::write(&out, text.replace(line, &lie)).expect("a recording");
    let done = place.makima(["replay", name]).done().code(1);
    let said = done.err();
    assert!(said.contains("record ") && said.contains(": recorded ") && said.contains(", and now "), "{said}");
    // Without the checksum it is damaged, with the place.
    fs::write(&out, text.replace(line, &line.replace("{\"Code\":0}", "{\"Code\":9}"))).expect("a recording");
    let said = place.makima(["journal", "verify", name]).done().code(1).out();
    assert!(said.contains("damaged at line ") && said.contains("its checksum does not match"), "{said}");
    drop(place.makima(["replay", name]).done().code(1).noted(&["its checksum does not match", "could not be taken"]));
    // One that was cut off in its last line is whole up to there.
    fs::write(&out, &text[..text.len() - 3]).expect("a recording");
    drop(place.makima(["replay", name]).done().code(0).noted(&["taken again up to there"]));
}

#[test]
fn a_recording_that_breaks_something_is_made_short() {
    let place = Place::new();
    worked(&place);
    let (long, short) = (place.path("long"), place.path("short"));
    let (long_name, short_name) = (long.to_str().expect("a plain path"), short.to_str().expect("a plain path"));
    place.makima(["journal", "export", "--out", long_name]).done().code(0);
    let well = place.makima(["replay", long_name, "--reduce", "--out", short_name]).done().code(0).out();
    assert!(well.contains("nothing to reduce") && !short.exists(), "{well}");

    // While the agent works, a clock says what none says: that it is the end of time.
    let text = fs::read_to_string(&long).expect("a recording");
    let whole: Vec<&str> = text.lines().take_while(|line| !line.contains("\"exited\":{")).collect();
    let last: serde_json::Value = serde_json::from_str(&whole[whole.len() - 1][9..]).expect("a record");
    let n = last["n"].as_u64().expect("its number") + 1;
    let tick = format!("{{\"n\":{n},\"now\":{{\"mono\":{},\"asleep\":0,\"unix\":0}},\"input\":\"tick\"}}", u64::MAX);
    let tick = format!("{:08x} {tick}", crc32(tick.as_bytes()));
    fs::write(&long, format!("{}\n{tick}\n", whole.join("\n"))).expect("a recording");
    let broken = |name: &str| {
        let said = place.makima(["replay", name]).done().code(1).err();
        said.split_once(": what must always hold does not: ").map(|(_, why)| why.to_owned()).expect(&said)
    };
    let why = broken(long_name);
    let elsewhere = Place::new();
    let done = elsewhere.makima(["replay", long_name, "--reduce", "--out", short_name]).done().code(1);
    let said = done.err();
    assert!(said.contains(&format!("of {n} left")) && !said.contains("time was over"), "{said}");
    let left = fs::read_to_string(&short).expect("a recording").lines().count();
    assert!(left <= 8 && left < whole.len(), "{left} lines of {}", whole.len());
    assert_eq!(broken(short_name), why);
    let json = elsewhere.makima(["replay", long_name, "--reduce", "--json"]).done().code(1).json();
    assert_eq!((json["steps"].as_u64(), json["left"].as_u64()), (Some(n), Some(left as u64 - 1)), "{json}");
    // Without it there is nothing to write, and no time to take.
    drop(place.makima(["replay", long_name, "--out", short_name]).done().code(2));
}

/// The CRC-32 of the world's file formats.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn steps_are_shown_for_people_and_for_programs() {
    let place = Place::new();
    worked(&place);
    let all = place.makima(["journal", "show"]).done().code(0).out();
    assert!(all.contains("spawnTask") && all.contains("\n    start 1."), "{all}");
    let last = place.makima(["journal", "show", "--last", "3", "--json"]).done().code(0).out();
    assert_eq!(last.lines().count(), 3);
    for line in last.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(record["n"].is_u64() && !record["input"].is_null(), "{line}");
    }
    let none = place.makima(["journal", "show", "--task", "01900000-0000-7000-8000-000000000000"]).done().code(0);
    assert_eq!(none.out(), "");
    let empty = Place::new();
    fs::create_dir_all(empty.home().join("journal")).expect("a folder");
    for command in [&["journal", "verify"][..], &["journal", "show"], &["replay"]] {
        let said = empty.makima(command).done().code(2).err();
        assert!(said.contains("there is no journal"), "{said}");
    }
}

/// Protects a session from a disk that takes no journal: agents go on, it is said, and told when it is well again.
#[test]
fn a_journal_that_cannot_be_written_stops_nobody() {
    let place = Place::new();
    let repo = place.repo();
    let plan = format!("echo up; until test -e {}; do sleep 0.02; done; echo x > x", place.path("go").display());
    let run = place.run(&repo, &["-v", &plan]).start();
    run.says("up\n");
    // Root may write to any folder: so it is none any more.
    let journal = place.home().join("journal");
    let aside = place.home().join("aside");
    fs::rename(&journal, &aside).expect("it is moved");
    fs::write(&journal, "").expect("a file");
    // Files that are open stay so: what it cannot do is begin another segment, as when it is full or the daemon ends.
    fs::write(place.path("go"), "").expect("a file");
    run.wait(crate::support::SOON).code(0);
    until("the work is there", crate::support::SOON, || {
        repo.branches().iter().any(|branch| branch.starts_with("makima/")).then_some(())
    });
}
