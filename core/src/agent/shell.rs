//! The shell agent: the plan is a script. User messages are lines on its standard input, its exit code decides.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Result, how_it_ended};
use crate::effect::Arg;
use crate::input::ExitStatus;

pub(super) fn argv() -> Vec<Arg> {
    Vec::from([Arg::Text("sh".to_string()), Arg::PlanFile])
}

/// One line: a script reads messages with `read`. Newlines inside become spaces, else one message would be two.
pub(super) fn message(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }).collect();
    line.push('\n');
    line
}

pub(super) fn result(status: ExitStatus) -> Result {
    if status == ExitStatus::Code(0) {
        return Result::Success;
    }
    Result::Failure(how_it_ended("the script", status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_stays_one_message() {
        assert_eq!(message("stop\r\nand say why"), "stop  and say why\n");
    }

    #[test]
    fn only_exit_code_zero_is_success() {
        assert_eq!(result(ExitStatus::Code(0)), Result::Success);
        let bad =
            [ExitStatus::Code(1), ExitStatus::Code(-1), ExitStatus::Signal(9), ExitStatus::Unknown, ExitStatus::Lost];
        for status in bad {
            assert!(matches!(result(status), Result::Failure(_)), "{status:?}");
        }
    }
}
