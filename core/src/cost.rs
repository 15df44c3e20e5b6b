//! What a task's agent has cost. It stands at the end of the step that tells of a turn: the wire has no field for it, so it is
//! told in a fixed form, which servers of ours read back.

use alloc::format;
use alloc::string::String;

use crate::agent::TURN;
use crate::agent::claude::dollars;

/// What stands before the sum, and behind it.
const BEFORE: &str = "; $";
const BEHIND: &str = " so far)";

/// The end of such a step, of which the bracket was opened before; in millionths of a dollar.
#[must_use]
pub fn told(millionths: u64) -> String {
    format!("; {} so far)", dollars(millionths))
}

/// What a step says that its task's agent has cost by then, in millionths of a dollar, rounded up to a hundred of them; none
/// where it is about something else.
#[must_use]
pub fn cost_so_far(step: &str) -> Option<u64> {
    let (_, sum) = step.strip_prefix(TURN)?.strip_suffix(BEHIND)?.rsplit_once(BEFORE)?;
    let (whole, part) = sum.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() != 4 {
        return None;
    }
    let (whole, part) = (whole.parse::<u64>().ok()?, part.parse::<u64>().ok()?);
    whole.checked_mul(1_000_000)?.checked_add(part.checked_mul(100)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects whoever bounds what a whole tree of tasks costs: what the daemon tells is what a server reads.
    #[test]
    fn what_is_told_is_read() {
        for cost in [0, 1_600, 999_900, 1_000_000, 12_345_678_900] {
            let step = format!("turn over (3 tokens read, 4 written{}", told(cost));
            assert_eq!(cost_so_far(&step), Some(cost), "{step}");
        }
        assert_eq!(
            cost_so_far(&format!("turn failed: no; $9.0000 (0 tokens read, 0 written{}", told(1_501))),
            Some(1_600)
        );
    }

    /// Protects a tree's sum from words of agents and from steps that only look like it.
    #[test]
    fn what_tells_of_no_cost_is_not_read() {
        for other in [
            "turn over (3 tokens read, 4 written)",
            "agent: turn over (3 tokens read, 4 written; $0.2500 so far)",
            "turn over (3 tokens read, 4 written; $0.25 so far)",
            "turn over (3 tokens read, 4 written; $-1.2500 so far)",
            "turn over (3 tokens read, 4 written; $.2500 so far)",
            "turn over (3 tokens read, 4 written; $+1.2500 so far)",
            "turn over (3 tokens read, 4 written; $99999999999999999999.0000 so far)",
            "turn over (3 tokens read, 4 written; $18446744073709.9999 so far)",
            "turn over (3 tokens read, 4 written; $0.2500 so far",
            "",
        ] {
            assert_eq!(cost_so_far(other), None, "{other}");
        }
    }
}
