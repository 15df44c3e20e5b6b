//! Makes a failing run short, so that a person can read it.

use crate::swarm::Run;

/// The shortest run found that fails in the same way: its last failure, and how it fails.
///
/// Takes acts out in halves, quarters and so on, as long as that makes it shorter.
#[must_use]
pub fn shrink(run: &Run) -> (Run, String) {
    let mut best = run.clone();
    let mut failure = run.try_run().err().unwrap_or_default();
    loop {
        let before = best.acts.len();
        let mut size = before.div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.acts.len() {
                let mut shorter = best.clone();
                shorter.acts.drain(at..(at + size).min(best.acts.len()));
                match shorter.try_run() {
                    Err(why) if alike(&why, &failure) => {
                        failure = why;
                        best = shorter;
                    }
                    _ => at += size,
                }
            }
            if size == 1 {
                break;
            }
            size /= 2;
        }
        if best.acts.len() == before {
            return (best, failure);
        }
    }
}

/// The same check failed, whatever task or number it was about.
fn alike(one: &str, other: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let plain = |word: &&str| word.chars().all(char::is_alphabetic);
        text.split_whitespace().filter(plain).take(6).map(ToString::to_string).collect()
    };
    words(one) == words(other)
}
