//! What lies in `fuzz/corpus`, and changes of it, without a fuzzer and on any compiler.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use makima_core::rng::Rng;
use rustix::time::{ClockId, clock_gettime};

use super::{TARGETS, run};

/// Rounds for each target, if `MAKIMA_FUZZ_ROUNDS` does not say otherwise: a second or two.
const ROUNDS: u64 = 300;

/// The longest that is made of the corpus.
const LONGEST: usize = 16 << 10;

/// The largest file of a corpus: a whole journal.
const LARGE: usize = 12 << 10;

/// The longest that a MiB may take, in milliseconds of this thread's own time: a second, and more where nothing is
/// optimised. Targets read it several times.
const LONG: i64 = if cfg!(debug_assertions) { 5_000 } else { 1_000 };

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("fuzz")
}

/// The files of a target, by their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path();
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut files: Vec<_> =
        entries.map(path).map(|path| (name(&path), std::fs::read(&path).expect("a file"))).collect();
    files.sort();
    files
}

/// Says what it was if it goes wrong.
struct Told<'a>(&'a str, &'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {} bytes: b\"{}\"", self.0, self.1.len(), self.1.escape_ascii());
        }
    }
}

fn told(target: &str, what: &str, data: &[u8]) {
    let _told = Told(what, data);
    run(target, data);
}

fn replay(target: &str) {
    for (name, data) in corpus(target) {
        told(target, &format!("fuzz/corpus/{target}/{name}"), &data);
    }
}

fn mutate(target: &str) {
    let rounds = std::env::var("MAKIMA_FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let corpus: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, data)| data).collect();
    for round in 0..rounds {
        let data = changed(&corpus, &mut Rng::new(round));
        told(target, &format!("round {round} of {target}"), &data);
    }
}

/// A file of the corpus, changed in a few places.
fn changed(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut data = corpus[below(rng, corpus.len())].clone();
    for _ in 0..=rng.up_to(4) {
        let at = below(rng, data.len() + 1);
        let end = data.len().min(at + below(rng, 32));
        match rng.up_to(7) {
            0 if at < data.len() => data[at] ^= 1 << rng.up_to(7),
            1 => data.insert(at, SPECIAL[below(rng, SPECIAL.len())]),
            2 => drop(data.drain(at..end)),
            3 => data.truncate(at),
            4 => {
                let other = &corpus[below(rng, corpus.len())];
                let from = below(rng, other.len() + 1);
                data.splice(at..end, other[from..].iter().copied());
            }
            5 => {
                let piece = data[at..end].repeat(1 + below(rng, 8));
                data.splice(at..at, piece);
            }
            6 => {
                data.splice(at..end, NUMBERS[below(rng, NUMBERS.len())].bytes());
            }
            _ if at < data.len() => data[at] = rng.up_to(255) as u8,
            _ => data.push(rng.up_to(255) as u8),
        }
    }
    data.truncate(LONGEST);
    data
}

fn below(rng: &mut Rng, count: usize) -> usize {
    rng.up_to(count as u64 - 1) as usize
}

const SPECIAL: &[u8] = b"\0\n\r\t \"'\\/:,.[]{}()<>=#%&*-+_|~^@$;0129aAzZ\x7f\x80\xc2\xe2\xf0\xff";

const NUMBERS: &[&str] =
    &["0", "-1", "255", "65536", "4294967295", "18446744073709551615", "18446744073709551616", "1e999", "\u{1}\0\0\0"];

/// What a reader could take far too long for, or lose its stack in.
fn heavy(target: &str) {
    let repeated = REPEATED.iter().map(|byte| (Vec::new(), vec![*byte]));
    let nested = NESTED.iter().filter(|(of, ..)| of.split(' ').any(|of| of == target));
    let nested = nested.map(|(_, before, piece)| (before.as_bytes().to_vec(), piece.as_bytes().to_vec()));
    for (before, piece) in repeated.chain(nested) {
        let data = [before.as_slice(), &piece.repeat((1 << 20) / piece.len())].concat();
        let begun = spent();
        run(target, &data);
        let took = spent() - begun;
        let (before, piece) = (before.escape_ascii(), piece.escape_ascii());
        assert!(took <= LONG, "{target}: 1 MiB of b\"{piece}\" behind b\"{before}\" took {took} ms");
    }
}

/// Milliseconds that this thread has run: other tests run beside it.
fn spent() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

/// Of these each is repeated alone.
const REPEATED: &[u8] = b"\0\n \"[{a\xff";

/// For which targets, what stands once, and what is repeated behind it.
const NESTED: &[(&str, &str, &str)] = &[
    ("wire frames forge journal supervise", "", "{\"a\":"),
    ("wire forge records", "", "[{"),
    ("policy", "https://", "a@"),
    ("policy", "", "a/"),
    ("policy", "", "../"),
    ("config tasks", "", "a."),
    ("config tasks", "", "a=1\n"),
    ("config", "", "\r"),
    ("tasks", "", "[[task]]\n"),
    ("config tasks", "x = ", "["),
    ("config tasks", "x = ", "{a="),
    ("config", "x = ", "{a.a="),
    ("config tasks", "[", "a."),
    ("config", "x.", "a."),
    ("config", "setup = [", "\"a\","),
    ("claude", "", "{\"a\":"),
    ("claude", "{\"type\":\"result\",\"result\":\"", "x"),
    ("claude", "", "{}\n"),
    ("acp said", "", "{\"a\":"),
    ("acp said", "", "{}\n"),
    ("said", "makima-answer ", "{"),
    ("said", "needs a person: ", "question "),
    ("events", "", "data: x\n\n"),
    ("events", "", "\n\n"),
    ("events", "", "data: x\n"),
    ("journal supervise records refs git", "", "a\n"),
    ("git records", "", "\0\n"),
    ("git processes refs", "", "0 "),
    ("log", "", "\0\0\0\0\0\u{1}\0\0\0x"),
    ("log", "", "\0\0\0\0\0\u{1}\0\0\0x\u{1}\0\0\0\0\u{1}\0\0\0y"),
    ("refs git", "", "1111111111111111111111111111111111111111 refs/heads/a\n"),
    ("refs", "", "../x\n"),
    (
        "git",
        "",
        ":100644 100644 1111111111111111111111111111111111111111 2222222222222222222222222222222222222222 M\0a\0",
    ),
    ("wire", "{\"type\":\"spawnTask\",\"taskId\":", "["),
    ("wire", "{\"type\":\"spawnTask\",\"copyFiles\":[", "\"a\","),
    ("frames", "{\"body\":", "["),
    ("frames", "{\"hello\":{\"epoch\":1,\"tasks\":[", "{\"task\":\"00000000-0000-0000-0000-000000000000\",\"off\":1},"),
    ("records", "{\"version\":1,\"x\":", "["),
    ("records", "{\"version\":1,\"ranges\":[", "{\"start\":1,\"end\":1},"),
    ("requests", "POST /api/v1/tasks\n", "["),
    ("requests", "POST /api/v1/tasks\n{\"plan\":\"", "x"),
    ("requests", "POST /api/v1/tasks\n{\"plan\":\"\",\"after\":[", "\"00000000-0000-4000-8000-000000000001\","),
    ("requests", "POST /api/v1/mesh/daemons/connect/push\n{\"session\":\"\",\"frames\":[", "{},"),
    ("requests", "GET /api/v1/tasks?", "a=b&"),
    ("long_poll", "00{\"commands\":[", "{},"),
    ("long_poll", "00{\"commands\":", "["),
    ("forge", "0", "https://a "),
    ("processes", "42 (x) S", " 1"),
    ("processes", "42 ", ")"),
];

macro_rules! targets {
    ($($(#[$condition:meta])* $name:ident,)*) => {
        $($(#[$condition])* mod $name {
            /// Protects what was found once from coming again, and each kind of input that is kept for this reader.
            #[test]
            fn is_replayed() {
                super::replay(stringify!($name));
            }

            /// Protects this reader from changes of what it is used to.
            #[test]
            fn is_changed() {
                super::mutate(stringify!($name));
            }

            /// Protects whoever waits for this reader, and its stack.
            #[test]
            fn is_much() {
                super::heavy(stringify!($name));
            }
        })*

        const TESTED: &[&str] = &[$($(#[$condition])* stringify!($name)),*];
    };
}

targets! {
    wire,
    frames,
    policy,
    forge,
    long_poll,
    events,
    claude,
    acp,
    said,
    config,
    #[cfg(feature = "server")]
    tasks,
    #[cfg(feature = "server")]
    requests,
    journal,
    log,
    records,
    refs,
    git,
    processes,
    supervise,
}

/// Protects targets from being forgotten: each has tests, a corpus of small files and a program, and nothing else has.
#[test]
fn none_is_forgotten() {
    let targets: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(targets, TESTED.iter().copied().collect());
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("its manifest");
    let named = |line: &str| line.strip_prefix("name = \"")?.strip_suffix('"').map(str::to_owned);
    // The world's is in makima-tests.
    let ours = |name: &String| name != "makima-fuzz" && name != "world";
    let programs: BTreeSet<String> = manifest.lines().filter_map(named).filter(ours).collect();
    let entries = std::fs::read_dir(fuzz().join("corpus")).expect("the corpora");
    let folders = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let folders: BTreeSet<String> = folders.filter(ours).collect();
    let targets: BTreeSet<String> = targets.into_iter().map(str::to_owned).collect();
    assert_eq!((&programs, &folders), (&targets, &targets));
    for target in &targets {
        let program = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).expect("a program");
        assert!(program.contains(&format!("run(\"{target}\", data)")), "{program}");
        let files = corpus(target);
        assert!(files.len() >= 10, "{target}: {} files", files.len());
        let large: Vec<&String> = files.iter().filter(|(_, data)| data.len() > LARGE).map(|(name, _)| name).collect();
        assert!(large.is_empty(), "{target}: {large:?} are larger than what is kept");
    }
}
